"""`mailward key`: key files with which service accounts sign in, as ZITADEL makes them."""

import json
from datetime import UTC, datetime
from pathlib import Path

import click

from mailward import config, store
from mailward.access.account_queries import KeyRow
from mailward.access.roles import TokenRole
from mailward.cli import common
from mailward.cli.token import duration

_COLUMNS = ("id", "name", "user_id", "created_at", "expires_at")


@click.group()
def command() -> None:
    """Make, list and revoke keys of service accounts."""


@command.command()
@click.option("--role", type=click.Choice([role.value for role in TokenRole]), required=True, help="What it may do.")
@click.option("--name", required=True, help="The service account; made if there is none of this name.")
@click.option("--expires-in", "expires_in_us", callback=duration, metavar="90d", help="Lifetime. [default: no end]")
@click.option("--out", metavar="FILE", help="Write it there (mode 0600) instead of stdout.")
@common.settings_options(common.STORE)
def create(settings: config.Loaded, role: str, name: str, expires_in_us: int | None, out: str | None) -> None:
    """Make a key and print its file: what SDKs and Terraform take as jwt_profile_file. It is shown this once."""

    async def work() -> dict[str, str]:
        async with store.open_accounts(settings.settings) as accounts:
            return await accounts.create_key(TokenRole(role), name, expires_in_us)

    text = json.dumps(common.run(work()))
    if out is None:
        click.echo(text)
        return
    try:
        store.write_private(Path(out), text)
    except OSError as error:
        common.fail(f"cannot write {out} (--out): {error.strerror}")


@command.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@common.settings_options(common.STORE)
def list_(settings: config.Loaded, as_json: bool) -> None:
    """List the keys that were not revoked, oldest first."""

    async def work() -> list[KeyRow]:
        async with store.open_accounts(settings.settings) as accounts:
            return await accounts.list_keys()

    rows = [
        {
            "id": row.id,
            "name": row.name,
            "user_id": row.user_id,
            "created_at": _time(row.created_at_us),
            "expires_at": _time(row.expires_at_us),
        }
        for row in common.run(work())
    ]
    if as_json:
        common.print_json(rows)
    else:
        common.print_table(rows, _COLUMNS)


@command.command()
@click.argument("key_id")
@common.settings_options(common.STORE)
def revoke(settings: config.Loaded, key_id: str) -> None:
    """Revoke the key KEY_ID and the access tokens that it brought. Exits 3 for none."""

    async def work() -> KeyRow:
        async with store.open_accounts(settings.settings) as accounts:
            return await accounts.revoke_key(key_id)

    row = common.run(work())
    click.echo(f"revoked {row.id} ({row.name})", err=True)


def _time(at_us: int | None) -> str | None:
    return None if at_us is None else datetime.fromtimestamp(at_us // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
