"""Projections: read tables written in the append's transaction, and rebuilt from all events by command."""

from collections.abc import Sequence
from typing import Protocol

from mailward.db.database import Transaction
from mailward.eventstore import store
from mailward.eventstore.event import RecordedEvent

_PAGE = 1_000


class Projection(Protocol):
    """Keeps read tables of its own in step with the events. What it writes depends on nothing but the events."""

    @property
    def name(self) -> str: ...

    def apply(self, tx: Transaction, event: RecordedEvent) -> None:
        """Bring the read tables from before `event` to after it; ignore events of other kinds."""
        ...

    def reset(self, tx: Transaction) -> None:
        """Empty the read tables."""
        ...


def rebuild(tx: Transaction, projections: Sequence[Projection]) -> int:
    """Empty the read tables of `projections`, replay every event into them, and return how many events there were.

    Readers see the old tables until the transaction commits, and no event can be appended meanwhile.
    """
    store.lock_appends(tx)
    for projection in projections:
        projection.reset(tx)
    count = position = 0
    while events := store.read_all(tx, position, _PAGE):
        for event in events:
            for projection in projections:
                projection.apply(tx, event)
        count += len(events)
        position = events[-1].position
    return count
