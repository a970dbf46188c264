"""Who changed what, when, and from where: the event log with the names of its editors."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mailward.access import queries
from mailward.access.events import HIDDEN
from mailward.db.database import Database, Transaction
from mailward.eventstore.event import RecordedEvent
from mailward.eventstore.search import Search, search
from mailward.ids import UserId


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


def _search(tx: Transaction, wanted: Search) -> list[Entry]:
    found = search(tx, wanted)
    names = {editor: _name(tx, editor) for editor in {event.editor for event in found}}
    return [Entry(event, names[event.editor], _shown(event)) for event in found]


def _shown(event: RecordedEvent) -> dict[str, Any]:
    return {key: value for key, value in event.payload.items() if key not in HIDDEN}


def _name(tx: Transaction, editor: str) -> str:
    return queries.display_name(tx, UserId(editor)) or editor
