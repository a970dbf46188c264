"""`mailward token`: make, list and revoke access tokens, beside a running server too."""

import re
import sys
from datetime import UTC, datetime
from typing import Any

import click

from mailward import config
from mailward.access.queries import TokenRow
from mailward.access.roles import TokenRole
from mailward.cli import common
from mailward.store import open_store

_DURATION = re.compile(r"([1-9]\d*)([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_COLUMNS = ("id", "name", "role", "created_at", "expires_at")


@click.group()
def command() -> None:
    """Make, list and revoke access tokens."""


def duration(_ctx: click.Context, _param: click.Parameter, text: str | None) -> int | None:
    """Return the microseconds that `text` means, e.g. "90d"."""
    if text is None:
        return None
    parts = _DURATION.fullmatch(text)
    if parts is None:
        raise click.BadParameter("a number and one of s, m, h, d, w, e.g. 90d")
    return int(parts[1]) * _SECONDS[parts[2]] * 1_000_000


@command.command()
@click.option("--role", type=click.Choice([role.value for role in TokenRole]), required=True, help="What it may do.")
@click.option("--name", required=True, help="Whom it is for; shown in lists and as editor of changes.")
@click.option("--expires-in", "expires_in_us", callback=duration, metavar="90d", help="Lifetime. [default: no end]")
@click.option(
    "--stdin", "from_stdin", is_flag=True, help="Take the token from stdin, where secrets are made elsewhere."
)
@common.settings_options(common.STORE)
def create(settings: config.Loaded, role: str, name: str, expires_in_us: int | None, from_stdin: bool) -> None:
    """Make a token and print it, alone, on stdout. It is shown this once.

    owner: everything. viewer: reads everything. sender: submits mail and reads its own messages.
    """
    given = sys.stdin.read().strip() if from_stdin else None
    if given == "":
        common.fail("--stdin: there was no token on stdin", code=2)

    async def work() -> str:
        async with open_store(settings.settings) as store:
            made = await store.access.create_token(TokenRole(role), name, text=given, expires_in_us=expires_in_us)
            return made.text

    click.echo(common.run(work()))


@command.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@common.settings_options(common.STORE)
def list_(settings: config.Loaded, as_json: bool) -> None:
    """List the tokens that were not revoked, oldest first."""

    async def work() -> list[TokenRow]:
        async with open_store(settings.settings) as store:
            return await store.access.list_tokens()

    rows = [_plain(row) for row in common.run(work())]
    if as_json:
        common.print_json(rows)
    else:
        common.print_table(rows, _COLUMNS)


@command.command()
@click.argument("token")
@common.settings_options(common.STORE)
def revoke(settings: config.Loaded, token: str) -> None:
    """Revoke the token with the id TOKEN, or all tokens of the user with the name TOKEN. Exits 3 when there is none.

    A running server sees it within a second.
    """

    async def work() -> list[TokenRow]:
        async with open_store(settings.settings) as store:
            return await store.access.revoke_token(token)

    for row in common.run(work()):
        click.echo(f"revoked {row.id} ({row.role} {row.name})", err=True)


def _plain(row: TokenRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "name": row.name,
        "role": row.role.value,
        "created_at": _time(row.created_at_us),
        "expires_at": _time(row.expires_at_us),
    }


def _time(at_us: int | None) -> str | None:
    return None if at_us is None else datetime.fromtimestamp(at_us // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
