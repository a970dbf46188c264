"""Who changed what, when, and from where: the event log with the names of its editors."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mailward.access import queries
from mailward.access.events import HIDDEN
from mailward.db.database import Database, Transaction
from mailward.eventstore import chain
from mailward.eventstore.event import RecordedEvent
from mailward.eventstore.search import Search, search
from mailward.ids import UserId

_VERIFIED_AT_ONCE = 10_000


@dataclass(frozen=True, slots=True)
class Entry:
    """An event and who made it."""

    event: RecordedEvent
    editor_name: str  #: of the user; the editor's id when there is no such user, e.g. "SYSTEM"
    payload: Mapping[str, Any]  #: of the event, without what nobody may see; secrets of providers are sealed


class Audit:
    """Questions about the log, for all doors."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def search(self, wanted: Search) -> list[Entry]:
        """Return up to `limit` events that match, by position."""
        return await self._database.read(_search, wanted)

    async def verify(self, wanted: bytes, progress: Callable[[int], None]) -> chain.Checked:
        """Check that no event was changed or removed. `wanted`: a head to look out for; `progress`: gets the count."""
        checked, more = chain.Checked(0, 0, chain.START), True
        while more and checked.broken is None:
            before = checked.count
            checked = await self._database.read(chain.check, checked, _VERIFIED_AT_ONCE, wanted)
            more = checked.count > before
            progress(checked.count)
        return checked


def _search(tx: Transaction, wanted: Search) -> list[Entry]:
    found = search(tx, wanted)
    names = {editor: _name(tx, editor) for editor in {event.editor for event in found}}
    return [Entry(event, names[event.editor], _shown(event)) for event in found]


def _shown(event: RecordedEvent) -> dict[str, Any]:
    return {key: value for key, value in event.payload.items() if key not in HIDDEN}


def _name(tx: Transaction, editor: str) -> str:
    return queries.display_name(tx, UserId(editor)) or editor
