"""Retention: what is finished and old enough to go, and how it goes, a stretch of ids at a time (SQL).

Ids are time-ordered, so a walk by id is a walk by age that needs no index of its own, and what goes lies together. What
is finished stays finished, so to look (for Database.read) and to remove (for Database.write) are two transactions, and
the writer is kept no longer than the removal takes.
"""

from collections.abc import Sequence
from enum import StrEnum
from time import perf_counter
from typing import NamedTuple

from mailward.db.database import Row, Transaction
from mailward.delivery import queue_postgres
from mailward.ids import EPOCH_MS

_AT_ONCE_BYTES = 16 << 20  # content removed in one step: its pages are freed one by one


class Kind(StrEnum):
    """What is removed of a message by age."""

    MESSAGES = "messages"  #: everything but its key
    CONTENTS = "contents"  #: the content alone
    KEYS = "keys"  #: its idempotency key alone, whatever has become of it


class Stretch(NamedTuple):
    """The next messages of a walk."""

    ranges: list[tuple[int, int]]  #: of ids, first and last, in which everything is finished
    last: int  #: the id behind which the walk goes on
    more: bool  #: there may be something behind it


_NEXT = {
    Kind.MESSAGES: """
        SELECT id, size_bytes FROM messages WHERE id > :after AND id < :before ORDER BY id LIMIT :limit
    """,
    Kind.CONTENTS: """
        SELECT c.id, m.size_bytes
          FROM (SELECT id FROM contents WHERE id > :after AND id < :before ORDER BY id LIMIT :limit) AS c
          JOIN messages AS m ON m.id = c.id
         ORDER BY c.id
    """,
    Kind.KEYS: """
        SELECT message_id, 0 FROM idempotency_keys WHERE message_id > :after AND message_id < :before
         ORDER BY message_id LIMIT :limit
    """,
}

# coalesce hides the condition from the indexes of what waits and is leased: they would be walked as a whole.
_UNFINISHED = """
    SELECT DISTINCT message_id FROM recipients
     WHERE message_id BETWEEN :first AND :last
       AND (coalesce(next_attempt_at_us, node) IS NOT NULL OR state = 'uncertain')
     ORDER BY message_id
"""


def look(tx: Transaction, kind: Kind, before: int, after: int, limit: int) -> Stretch:
    """Return the next up to `limit` messages with ids above `after` and below `before`.

    A message with a recipient that waits, is leased or is in doubt is in no range, however old.
    """
    if tx.dialect == "postgresql":
        queue_postgres.plan_by_index(tx, local=True)
    rows = tx.fetch(_NEXT[kind], after=after, before=before, limit=limit)
    if not rows:
        return Stretch([], after, more=False)
    seen = _fitting(rows)
    first, last = seen[0][0], seen[-1][0]
    unfinished = [] if kind is Kind.KEYS else tx.fetch(_UNFINISHED, first=first, last=last)
    ranges = []
    for (id,) in unfinished:
        if first < id:
            ranges.append((first, id - 1))
        first = id + 1
    if first <= last:
        ranges.append((first, last))
    return Stretch(ranges, last, more=len(seen) < len(rows) or len(rows) == limit)


_REMOVE_CONTENTS = (
    "DELETE FROM content_pieces WHERE message_id BETWEEN :first AND :last",
    "DELETE FROM contents WHERE id BETWEEN :first AND :last",
)
_REMOVE = {
    Kind.KEYS: ("DELETE FROM idempotency_keys WHERE message_id BETWEEN :first AND :last",),
    Kind.CONTENTS: _REMOVE_CONTENTS,
    Kind.MESSAGES: (
        *_REMOVE_CONTENTS,
        "DELETE FROM attempts WHERE message_id BETWEEN :first AND :last",
        "DELETE FROM recipients WHERE message_id BETWEEN :first AND :last",
        "DELETE FROM replays WHERE message_id BETWEEN :first AND :last",
        "DELETE FROM messages WHERE id BETWEEN :first AND :last",
    ),
}


class Removed(NamedTuple):
    """What was removed."""

    messages: int
    took_s: float  #: of the writer's time, without the commit


def remove(tx: Transaction, kind: Kind, ranges: Sequence[tuple[int, int]]) -> Removed:
    """Remove what `kind` says of the messages in `ranges`."""
    began_s = perf_counter()
    if tx.dialect == "postgresql":
        queue_postgres.plan_by_index(tx)
    bounds = [{"first": first, "last": last} for first, last in ranges]
    messages = [tx.executemany(sql, bounds) for sql in _REMOVE[kind]][-1]
    return Removed(messages, perf_counter() - began_s)


def id_at(at_us: int) -> int:
    """Return the lowest id that may have been drawn at `at_us`."""
    return max(0, at_us // 1_000 - EPOCH_MS) << 20


def drawn_at_us(id: int) -> int:
    """Return when `id` was drawn, to the millisecond."""
    return ((id >> 20) + EPOCH_MS) * 1_000


def _fitting(rows: Sequence[Row]) -> Sequence[Row]:
    """Return the leading rows whose content fits into one step, at least one."""
    size_bytes = 0
    for index, row in enumerate(rows):
        size_bytes += row[1]
        if size_bytes > _AT_ONCE_BYTES and index:
            return rows[:index]
    return rows
