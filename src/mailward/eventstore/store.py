"""Append at an expected version, read all by position (SQL)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from mailward.db.database import Row, Transaction
from mailward.errors import FailedPrecondition, InvalidArgument
from mailward.eventstore import chain
from mailward.eventstore.event import Editor, NewEvent, RecordedEvent

if TYPE_CHECKING:
    from mailward.eventstore.projection import Projection


class VersionConflict(FailedPrecondition):
    """Somebody else appended to the aggregate meanwhile: load it again and decide anew."""


_CLOCK_US = 60_000_000  #: by how much the clocks of nodes may differ


# Without a lock a reader of PostgreSQL could pass a position whose transaction is still open and never see it. One lock
# for all appends, held until the commit, makes the order of positions the order of commits. It costs little, since a
# node appends from one writer in groups; and taken first, it rules out deadlocks between commands of several
# aggregates. SQLite's writer is alone anyway.
_LOCK = "mailward events"


@dataclass(slots=True)
class _End:
    """The end of the log. Nobody else moves it while we hold the lock, so a transaction reads it once."""

    position: int = 0  #: of the last event, as are the next two
    digest: bytes = chain.START
    at_us: int = 0
    versions: dict[tuple[str, str], int] = field(default_factory=dict)  #: of the aggregates that were looked at


def lock_appends(tx: Transaction) -> None:
    """Wait until no other transaction appends, and keep others waiting until this one ends."""
    _locked(tx)


def _locked(tx: Transaction) -> _End:
    """Hold the lock, and return what this transaction has seen of the end of the log so far."""
    end: _End | None = tx.held.get(_LOCK)
    if end is None:
        tx.lock(_LOCK)
        end = tx.held[_LOCK] = _End()
    return end


# One statement for all that an append needs to know: what a command on PostgreSQL waits for is mostly round trips.
_LOOK = """
    SELECT (SELECT version FROM aggregates WHERE type = :type AND id = :id), position, digest, at_us
      FROM (SELECT 1 AS one) AS always
      LEFT JOIN (SELECT position, digest, at_us FROM events ORDER BY position DESC LIMIT 1) AS last ON one = 1
"""


def _looked(tx: Transaction, aggregate_type: str, aggregate_id: str) -> _End:
    """Hold the lock, and return the end of the log with the version of this aggregate."""
    end = _locked(tx)
    if (aggregate_type, aggregate_id) not in end.versions:
        [(version, position, digest, at_us)] = tx.fetch(_LOOK, type=aggregate_type, id=aggregate_id)
        end.versions[aggregate_type, aggregate_id] = version or 0
        if position is not None:
            end.position, end.digest, end.at_us = position, digest, at_us
    return end


_MOVE = """
    INSERT INTO aggregates (type, id, version) VALUES (:aggregate_type, :aggregate_id, :version)
    ON CONFLICT (type, id) DO UPDATE SET version = excluded.version
"""
_INSERT = f"""
    INSERT INTO events (position, {chain.FIELDS}, digest)
    VALUES (:position, :aggregate_type, :aggregate_id, :version, :type, :payload, :editor, :peer, :at_us, :digest)
"""  # noqa: S608 a constant

# Which kinds of events there are, for searches; each connection remembers those that it has seen noted.
_NOTE_KIND = """
    INSERT INTO event_kinds (aggregate_type, type) VALUES (:aggregate_type, :type)
    ON CONFLICT (aggregate_type, type) DO NOTHING
"""


def append(
    tx: Transaction,
    aggregate_type: str,
    aggregate_id: str,
    expected_version: int,
    events: Sequence[NewEvent],
    *,
    editor: str,
    at_us: int,
    projections: Sequence[Projection],
) -> list[RecordedEvent]:
    """Store `events` as versions expected_version + 1, ..., apply `projections` to each, and return them as stored.

    `expected_version`: the version that was decided on, 0 when the aggregate has no events yet. `editor`: user id; an
    event.Editor says where its user called from. `at_us`: becomes the log's latest time if that is a little later.
    Raises VersionConflict when it has another version by now; InvalidArgument for a payload that is no JSON.
    """
    if not events:
        return []
    end = _looked(tx, aggregate_type, aggregate_id)
    if end.versions[aggregate_type, aggregate_id] != expected_version:
        words = f"{aggregate_type} {aggregate_id} is not at version {expected_version} any more"
        raise VersionConflict("EVENT-c4Hs", words)
    # The log's time does not go back when a clock does by less than a minute, or another node's is behind: so searches
    # may take an end of a time for an end of positions. A clock that was wrong by more does not bind those after it.
    if at_us < end.at_us < at_us + _CLOCK_US:
        at_us = end.at_us
    peer = editor.peer if isinstance(editor, Editor) else ""
    editor = str(editor)
    last = expected_version + len(events)
    tx.put(_MOVE, aggregate_type=aggregate_type, aggregate_id=aggregate_id, version=last)
    result = []
    for number, event in enumerate(events, expected_version + 1):
        payload = _dump(event)
        _note_kind(tx, aggregate_type, event.type)
        end.position += 1
        end.digest = chain.link(
            end.digest, (aggregate_type, aggregate_id, number, event.type, payload, editor, peer, at_us)
        )
        tx.put(
            _INSERT,
            position=end.position,
            aggregate_type=aggregate_type,
            aggregate_id=aggregate_id,
            version=number,
            type=event.type,
            payload=payload,
            editor=editor,
            peer=peer,
            at_us=at_us,
            digest=end.digest,
        )
        # The payload is read back from the text, so that a projection sees now what it will see in a rebuild.
        stored = (aggregate_type, aggregate_id, number, end.position, event.type, payload, editor, peer, at_us)
        result.append(recorded(stored))
    end.at_us, end.versions[aggregate_type, aggregate_id] = at_us, last
    for one in result:
        for projection in projections:
            projection.apply(tx, one)
    return result


def _note_kind(tx: Transaction, aggregate_type: str, type: str) -> None:
    noted: set[tuple[str, str]] = tx.memo.setdefault("event kinds", set())
    if (aggregate_type, type) not in noted:
        tx.put(_NOTE_KIND, aggregate_type=aggregate_type, type=type)
        noted.add((aggregate_type, type))


_VERSION = "SELECT version FROM aggregates WHERE type = :type AND id = :id"


def version(tx: Transaction, aggregate_type: str, aggregate_id: str, *, lock: bool) -> int:
    """Return the aggregate's version, 0 when it has no events.

    `lock`: first wait for other appends, so that what is read next stays true until this transaction ends. A command
    that loads, decides and appends needs it; without it, `append` may raise VersionConflict.
    """
    if lock:
        return _looked(tx, aggregate_type, aggregate_id).versions[aggregate_type, aggregate_id]
    row = tx.fetch_one(_VERSION, type=aggregate_type, id=aggregate_id)
    return row[0] if row else 0


#: What `recorded` makes an event of.
COLUMNS = "aggregate_type, aggregate_id, version, position, type, payload, editor, peer, at_us"

_READ_ALL = f"""
    SELECT {COLUMNS}
      FROM events
     WHERE position > :after
     ORDER BY position
     LIMIT :limit
"""  # noqa: S608 a constant


def read_all(tx: Transaction, after_position: int = 0, limit: int = 1_000) -> list[RecordedEvent]:
    """Return up to `limit` events of all aggregates after `after_position`, by position.

    Whoever goes on from the last position it got misses none: an event never appears at a position below one that could
    already be read.
    """
    return [recorded(row) for row in tx.fetch(_READ_ALL, after=after_position, limit=limit)]


def _dump(event: NewEvent) -> str:
    try:
        return orjson.dumps(dict(event.payload)).decode()
    except orjson.JSONEncodeError as error:  # E.g. a lone surrogate.
        raise InvalidArgument("EVENT-pX8w", f"the payload of {event.type} cannot be stored: {error}") from error


def recorded(row: Row) -> RecordedEvent:
    """Return the event in a row of COLUMNS."""
    aggregate_type, aggregate_id, number, position, type, payload, editor, peer, at_us = row
    content: dict[str, Any] = orjson.loads(payload)
    return RecordedEvent(aggregate_type, aggregate_id, number, position, type, content, editor, at_us, peer)
