"""`mailward event`: who changed what, when, and from which address, beside a running server too."""

from datetime import UTC, datetime
from typing import Any

import click
import orjson

from mailward import config
from mailward.access.audit import Audit, Entry
from mailward.cli import common
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
