"""`mailward event`: who changed what, when, and from which address, beside a running server too."""

import sys
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import click
import orjson

from mailward import config
from mailward.access.audit import Audit, Entry
from mailward.cli import common
from mailward.eventstore.chain import Checked
from mailward.eventstore.search import MAX_LIMIT, Search
from mailward.store import open_store

_COLUMNS = ("at", "editor", "peer", "aggregate", "sequence", "type", "payload")


@click.group()
def command() -> None:
    """Read the log of changes: who changed what, when, and from which address."""


@command.command(name="list")
@click.option("--limit", type=click.IntRange(1, MAX_LIMIT), default=50, show_default=True, help="How many events.")
@click.option("--type", "types", multiple=True, metavar="TYPE", help="Only of this type; may be repeated.")
@click.option("--editor", default="", metavar="USER_ID", help="Only what this user did.")
@click.option("--oldest-first", is_flag=True, help="From the beginning, instead of the newest first.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@common.settings_options(common.STORE)
def list_(
    settings: config.Loaded, limit: int, types: tuple[str, ...], editor: str, oldest_first: bool, as_json: bool
) -> None:
    """List changes, the newest first. PEER is the client's address; "-" for what was done at the command line."""
    wanted = Search(types=frozenset(types), editor=editor, newest_first=not oldest_first, limit=limit)

    async def work() -> list[Entry]:
        async with open_store(settings.settings) as store:
            return await Audit(store.database).search(wanted)

    rows = [_plain(entry) for entry in common.run(work())]
    if as_json:
        common.print_json(rows)
    else:
        common.print_table([row | {"payload": orjson.dumps(row["payload"]).decode()} for row in rows], _COLUMNS)


@command.command()
@click.option("--head", default="", metavar="HEX", help="A head that an earlier check printed: it must still be there.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@common.settings_options(common.STORE)
def verify(settings: config.Loaded, head: str, as_json: bool) -> None:
    """Check that no event was changed or removed since it was recorded; exit 1 and name the first one if any was.

    Note the head that it prints where nobody who may write to the database can: with --head, a later check also finds
    an end that was cut off, and a log that was made anew.
    """
    try:
        wanted = bytes.fromhex(head)
    except ValueError:
        raise click.BadParameter("it consists of hexadecimal digits", param_hint="--head") from None

    async def work() -> Checked:
        async with open_store(settings.settings) as store:
            return await Audit(store.database).verify(wanted, _show_progress)

    checked = common.run(work())
    lost = bool(wanted) and not checked.met
    if as_json:
        broken = checked.broken and asdict(checked.broken)
        common.print_json({"events": checked.count, "head": checked.head.hex(), "broken": broken, "head_lost": lost})
    if checked.broken is not None:
        one = checked.broken
        at = datetime.fromtimestamp(one.at_us / 1_000_000, UTC).isoformat(timespec="seconds")
        named = f"event {one.position} ({one.type}, number {one.version} of {one.aggregate}, {at})"
        common.fail(f"{named} was changed, or one before it was removed; the {checked.count} before that hold")
    if lost:
        common.fail("the head you gave is not in the log: its end was cut off, or it was made anew")
    if not as_json:
        click.echo(f"{checked.count} events, none changed or removed\nhead {checked.head.hex()}")


def _show_progress(count: int) -> None:
    if sys.stderr.isatty():
        click.echo(f"\r{count} events", nl=False, err=True)


def _plain(entry: Entry) -> dict[str, Any]:
    event = entry.event
    return {
        "at": datetime.fromtimestamp(event.at_us / 1_000_000, UTC).isoformat(timespec="microseconds"),
        "editor": entry.editor_name,
        "editor_id": event.editor,
        "peer": event.peer or None,
        "aggregate": f"{event.aggregate_type} {event.aggregate_id}",
        "sequence": event.version,
        "type": event.type,
        "payload": dict(entry.payload),
    }
