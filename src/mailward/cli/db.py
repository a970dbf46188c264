"""`mailward db`: migrate, inspect and rebuild the database."""

import click

from mailward import config, store
from mailward.cli import common


@click.group()
def command() -> None:
    """Migrate, inspect and rebuild the database."""


@command.command()
@common.settings_options(common.STORE)
def migrate(settings: config.Loaded) -> None:
    """Apply pending migrations; `mailward serve` does so too. Nothing happens when there are none."""
    done = common.run(store.migrate(settings.settings))
    for name in done:
        click.echo(f"applied {name}", err=True)
    click.echo(f"{len(done)} applied" if done else "up to date", err=True)


@command.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@common.settings_options(common.STORE)
def status(settings: config.Loaded, as_json: bool) -> None:
    """List the migrations, applied and pending. Exits 1 when any is pending."""
    rows = common.run(store.migration_status(settings.settings))
    if as_json:
        common.print_json(rows)
    else:
        common.print_table(rows, ("name", "state", "applied_at"))
    if any(row["state"] == "pending" for row in rows):
        raise SystemExit(1)


@command.command()
@common.settings_options(common.STORE)
def rebuild(settings: config.Loaded) -> None:
    """Empty the read tables of the control plane and fill them anew from the event log, in one transaction."""
    count = common.run(store.rebuild(settings.settings))
    click.echo(f"replayed {count} events", err=True)
