"""The events of one aggregate, for tests of what a command has recorded."""

from mailward.db.database import Transaction
from mailward.eventstore import store
from mailward.eventstore.event import RecordedEvent

_STREAM = f"""
    SELECT {store.COLUMNS} FROM events WHERE aggregate_type = :type AND aggregate_id = :id AND version > :after
     ORDER BY version
"""


def stream(tx: Transaction, aggregate_type: str, aggregate_id: str, after_version: int = 0) -> list[RecordedEvent]:
    """Return the aggregate's events after `after_version`, oldest first."""
    rows = tx.fetch(_STREAM, type=aggregate_type, id=aggregate_id, after=after_version)
    return [store.recorded(row) for row in rows]
