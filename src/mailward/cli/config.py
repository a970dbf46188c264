"""`mailward config`: check and show the settings."""

import click

from mailward import config
from mailward.cli import common


@click.group()
def command() -> None:
    """Check and show the settings."""


@command.command()
@common.settings_options(config.names())
def check(settings: config.Loaded) -> None:
    """Exit 0 when the settings can be used, else say what is wrong and exit 2."""
    changed = sum(origin != "default" for origin in settings.origins.values())
    click.echo(f"settings are fine ({changed} of {len(settings.origins)} set)", err=True)


@command.command()
@click.option("--origin", is_flag=True, help="Say where each value comes from.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@common.settings_options(config.names())
def show(settings: config.Loaded, origin: bool, as_json: bool) -> None:
    """Print the settings in effect; secrets as ***."""
    values = config.shown(settings.settings)
    if as_json:
        common.print_json({n: {"value": v, "origin": settings.origins[n]} if origin else v for n, v in values.items()})
        return
    for name, value in values.items():
        place = f"  # {settings.origins[name]}" if origin else ""
        click.echo(f"{name} = {_toml(value)}{place}")


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return str(value)
