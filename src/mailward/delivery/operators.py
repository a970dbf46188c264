"""The operator's hand in the queue: cancel, try now, resolve doubts; one message or many, each on record (SQL).

A leased recipient can be canceled until its attempt is open, whichever node holds it: what opens an attempt
(queue.open_attempts) looks whether the lease still holds. Nothing else here touches one. The functions are for
Database.write; `step` is for Database.read too when it is only to count.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import orjson

from mailward.db.database import Row, Transaction
from mailward.delivery.lease import Lane, NewMessage, Replay
from mailward.delivery.status import Status
from mailward.errors import Conflict, NotFound
from mailward.eventstore import store
from mailward.eventstore.event import NewEvent
from mailward.ids import InstanceId, MessageId, UserId

AGGREGATE_TYPE = "queue"  #: its id is the instance's
SCANNED = 1_000  #: recipients looked at in one step: what the writer does in some 10 ms


class Treatment(StrEnum):
    """What is done to recipients."""

    CANCEL = "cancel"  #: those that wait, or are leased without an open attempt: no attempt will follow
    RETRY = "retry"  #: those that wait: the next attempt is due now
    RESOLVE_ACCEPTED = "accepted"  #: those in doubt: the provider took it
    RESOLVE_RETRY = "resolve-retry"  #: those in doubt: it did not, or a copy too many does not matter
    RESOLVE_CANCEL = "resolve-cancel"  #: those in doubt: leave it at that


_EVENTS = {
    Treatment.CANCEL: "queue.recipients.canceled",
    Treatment.RETRY: "queue.recipients.retried",
    Treatment.RESOLVE_ACCEPTED: "queue.doubts.accepted",
    Treatment.RESOLVE_RETRY: "queue.doubts.retried",
    Treatment.RESOLVE_CANCEL: "queue.doubts.canceled",
}
_REPLAYED = "queue.messages.replayed"
#: All that is recorded of the operators' hand.
EVENT_TYPES = (*_EVENTS.values(), _REPLAYED)

# A doubt is nothing that can be canceled: it may have been handed over. Leased rows must be locked before.
_CANCEL = """
    UPDATE recipients SET state = 'canceled', state_at_us = :now_us, next_attempt_at_us = NULL,
                          node = NULL, epoch = NULL
     WHERE message_id = :message_id AND n = :n AND state <> 'uncertain'
       AND (next_attempt_at_us IS NOT NULL
            OR node IS NOT NULL AND doubts = 0
               AND NOT EXISTS (SELECT 1 FROM attempts AS a
                                WHERE a.message_id = recipients.message_id AND a.closed_at_us IS NULL))
"""

_RETRY = """
    UPDATE recipients SET next_attempt_at_us = :now_us
     WHERE message_id = :message_id AND n = :n AND next_attempt_at_us > :now_us
"""

_ACCEPT = """
    UPDATE recipients SET state = 'accepted', state_at_us = :now_us, next_attempt_at_us = NULL
     WHERE message_id = :message_id AND n = :n AND state = 'uncertain'
"""

# Beyond its lifetime it would be held again at once.
_RETRY_DOUBT = """
    UPDATE recipients SET next_attempt_at_us = :now_us
     WHERE message_id = :message_id AND n = :n AND state = 'uncertain'
       AND EXISTS (SELECT 1 FROM messages AS m WHERE m.id = recipients.message_id AND m.expires_at_us > :now_us)
"""

_DROP_DOUBT = """
    UPDATE recipients SET state = 'canceled', state_at_us = :now_us, next_attempt_at_us = NULL
     WHERE message_id = :message_id AND n = :n AND state = 'uncertain'
"""

_UPDATES = {
    Treatment.CANCEL: _CANCEL,
    Treatment.RETRY: _RETRY,
    Treatment.RESOLVE_ACCEPTED: _ACCEPT,
    Treatment.RESOLVE_RETRY: _RETRY_DOUBT,
    Treatment.RESOLVE_CANCEL: _DROP_DOUBT,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """Who does it, and when."""

    instance: InstanceId
    editor: UserId
    at_us: int


_OF_MESSAGE_IN_SQLITE = """
    SELECT r.n, r.address, r.state, r.next_attempt_at_us, r.node, m.expires_at_us
      FROM messages AS m JOIN recipients AS r ON r.message_id = m.id
     WHERE m.id = :id ORDER BY r.n
"""

_OF_MESSAGE = {"sqlite": _OF_MESSAGE_IN_SQLITE, "postgresql": f"{_OF_MESSAGE_IN_SQLITE} FOR UPDATE OF r"}


def treat_message(tx: Transaction, act: Act, treatment: Treatment, id: MessageId, address: str = "") -> int:
    """Do `treatment` to message `id`, or to its recipient `address` alone; return to how many recipients.

    Raises NotFound; Conflict when there is none to whom it could be done, with the reason.
    """
    rows = tx.fetch(_OF_MESSAGE[tx.dialect], id=id)
    if not rows:
        raise NotFound("QUEUE-absent", "no such message")
    meant = [row for row in rows if not address or row[1].lower() == address.lower()]
    if not meant:
        raise NotFound("QUEUE-recipient", "the message has no such recipient")
    count = treat(tx, treatment, [(id, row[0]) for row in meant], act.at_us)
    if not count:
        raise Conflict("QUEUE-state", _why_not(treatment, meant, act.at_us))
    _record(tx, act, _EVENTS[treatment], {"message": str(id), "recipient": address}, count)
    return count


def treat(tx: Transaction, treatment: Treatment, keys: Sequence[tuple[int, int]], now_us: int) -> int:
    """Do `treatment` to the recipients `keys` (message id, n) that are still as it needs them; return to how many."""
    if not keys:
        return 0
    rows = [{"message_id": id, "n": n, "now_us": now_us} for id, n in keys]
    return tx.executemany(_UPDATES[treatment], rows)


def _why_not(treatment: Treatment, rows: Sequence[Row], now_us: int) -> str:
    states = sorted({row[2] for row in rows})
    if any(row[4] is not None for row in rows):
        return "it is being handed over at this moment: look again when the attempt has ended"
    if treatment in (Treatment.CANCEL, Treatment.RETRY):
        if Status.UNCERTAIN.value in states:
            return "nobody knows whether the provider took it: resolve the doubt instead"
        if treatment is Treatment.RETRY and Status.QUEUED.value in states:
            return "its next attempt is due already"
        return f"nothing of it waits any more: {', '.join(states)}"
    if Status.UNCERTAIN.value in states and rows[0][5] <= now_us:
        return "its lifetime has passed: replay it instead"
    return f"there is no doubt about it: {', '.join(states)}"


_REPLAY = "INSERT INTO replays (message_id, replay_of) VALUES (:id, :replay_of)"


def record_replay(tx: Transaction, message: NewMessage, replay: Replay) -> None:
    """Link `message` to the one that it sends again, and put it on record. For the transaction that stores it."""
    tx.execute(_REPLAY, id=message.id, replay_of=replay.of)
    act = Act(instance=replay.instance, editor=replay.editor, at_us=message.created_at_us)
    what = {"operation": replay.operation, "message": str(replay.of)}
    _record(tx, act, _REPLAYED, what, len(message.addresses))


def _record(tx: Transaction, act: Act, type: str, what: Mapping[str, Any], count: int) -> None:
    """Append to the event log who did what to how many; empty fields are left out."""
    payload = {name: value for name, value in what.items() if value not in ("", None)} | {"count": count}
    version = store.version(tx, AGGREGATE_TYPE, act.instance, lock=True)
    event = NewEvent(type, payload)
    store.append(tx, AGGREGATE_TYPE, act.instance, version, [event], editor=act.editor, at_us=act.at_us, projections=())


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueFilter:
    """Which recipients are meant; all that is set must match."""

    status: Status | None = None
    tag: str = ""
    domain: str = ""  #: of the address, as it is stored: lower case, A-labels
    provider_id: str = ""  #: through which an attempt was made
    lane: Lane | None = None
    since_us: int | None = None  #: submitted at or after
    until_us: int | None = None  #: submitted before

    @property
    def is_empty(self) -> bool:
        return self == QueueFilter()

    def described(self) -> dict[str, Any]:
        """Return what is set, for the record."""
        named = {
            "state": self.status and self.status.value,
            "tag": self.tag,
            "domain": self.domain,
            "provider": self.provider_id,
            "lane": None if self.lane is None else self.lane.name.lower(),
            "since_us": self.since_us,
            "until_us": self.until_us,
        }
        return {name: value for name, value in named.items() if value not in ("", None)}

    def matches(self, address: str, status: str, tags: str, created_at_us: int) -> bool:
        """Tell whether a recipient matches, but for its lane and provider. `tags`: JSON."""
        if self.status is not None and status != self.status.value:
            return False
        if self.domain and address.rpartition("@")[2].lower() != self.domain:
            return False
        if self.tag and self.tag not in orjson.loads(tags):
            return False
        if self.since_us is not None and created_at_us < self.since_us:
            return False
        return self.until_us is None or created_at_us < self.until_us


#: Where a walk through the queue has come to: lane, next attempt, message, n.
Cursor = tuple[int, int, int, int]
START: Cursor = (0, -1, 0, 0)
_LEASED_LANE = len(Lane)  # stands in a cursor for what nodes hold, whose lane it is not sorted by


@dataclass(frozen=True, slots=True)
class Step:
    """What one step did."""

    count: int  #: recipients that matched and were treated (or would be)
    cursor: Cursor | None  #: where to go on; None: it was the last


# Whether an attempt was made through the provider that is asked for, if any is.
_THROUGH = """CASE WHEN :provider = '' OR EXISTS (
                SELECT 1 FROM attempts AS a WHERE a.message_id = r.message_id AND a.provider_id = :provider)
                THEN 1 ELSE 0 END"""

_WAITING = f"""
    SELECT r.lane, r.next_attempt_at_us, r.message_id, r.n, r.address, r.state, m.tags, m.created_at_us,
           m.expires_at_us,
           {_THROUGH}
      FROM (SELECT lane, next_attempt_at_us, message_id, n, address, state FROM recipients
             WHERE lane = :lane AND next_attempt_at_us IS NOT NULL AND next_attempt_at_us >= :at_us
               AND (next_attempt_at_us > :at_us OR message_id > :id OR (message_id = :id AND n > :n))
             ORDER BY next_attempt_at_us, message_id, n LIMIT :scanned) AS r
      JOIN messages AS m ON m.id = r.message_id
     ORDER BY r.next_attempt_at_us, r.message_id, r.n
"""  # noqa: S608 a constant

# "+ 0" hides the order from the primary key: it would lead through everything that was ever sent.
_LEASED = f"""
    SELECT r.lane, 0, r.message_id, r.n, r.address, r.state, m.tags, m.created_at_us, m.expires_at_us,
           {_THROUGH}
      FROM (SELECT lane, message_id, n, address, state FROM recipients
             WHERE node IS NOT NULL AND doubts = 0
               AND message_id + 0 >= :id AND (message_id + 0 > :id OR n > :n)
               AND NOT EXISTS (SELECT 1 FROM attempts AS a
                                WHERE a.message_id = recipients.message_id AND a.closed_at_us IS NULL)
             ORDER BY message_id + 0, n LIMIT :scanned {{lock}}) AS r
      JOIN messages AS m ON m.id = r.message_id
     ORDER BY r.message_id, r.n
"""  # noqa: S608 a constant

_DOUBTS = f"""
    SELECT r.lane, 0, r.message_id, r.n, r.address, r.state, m.tags, m.created_at_us, m.expires_at_us,
           {_THROUGH}
      FROM (SELECT lane, message_id, n, address, state FROM recipients
             WHERE state = 'uncertain' AND message_id >= :id AND (message_id > :id OR n > :n)
             ORDER BY message_id, n LIMIT :scanned) AS r
      JOIN messages AS m ON m.id = r.message_id
     ORDER BY r.message_id, r.n
"""  # noqa: S608 a constant


def step(
    tx: Transaction,
    act: Act,
    treatment: Treatment,
    filter: QueueFilter,
    cursor: Cursor,
    *,
    operation: str,
    dry_run: bool,
) -> Step:
    """Look at the next recipients from `cursor` and do `treatment` to those that match; `dry_run`: only count them.

    `operation`: what the records of all steps have in common.
    """
    doubts = treatment not in (Treatment.CANCEL, Treatment.RETRY)
    lane, at_us, id, n = cursor
    if treatment is Treatment.RETRY:
        at_us = max(at_us, act.at_us)  # What is due already needs no help, and what this walk moves comes to lie there.
        id, n = (id, n) if at_us > act.at_us else (1 << 62, 0)
    bounds = {"id": id, "n": n, "provider": filter.provider_id, "scanned": SCANNED}
    if doubts:
        rows = tx.fetch(_DOUBTS, **bounds)
    elif lane == _LEASED_LANE:
        # What is locked is being opened or closed at this moment: too late.
        lock = "" if dry_run or tx.dialect == "sqlite" else "FOR UPDATE SKIP LOCKED"
        rows = tx.fetch(_LEASED.format(lock=lock), **bounds)
    elif filter.lane is not None and lane != filter.lane:
        rows = []
    else:
        rows = tx.fetch(_WAITING, lane=lane, at_us=at_us, **bounds)
    found = [
        (row[2], row[3])
        for row in rows
        if row[9] and filter.matches(*row[4:8]) and _may(treatment, filter, row, act.at_us)
    ]
    count = len(found) if dry_run else treat(tx, treatment, found, act.at_us)
    if count and not dry_run:
        what = {"operation": operation, "filter": filter.described()}
        _record(tx, act, _EVENTS[treatment], what, count)
    return Step(count, _next_cursor(cursor, rows, treatment))


def _may(treatment: Treatment, filter: QueueFilter, row: Row, now_us: int) -> bool:
    if filter.lane is not None and row[0] != filter.lane:
        return False
    if treatment is Treatment.CANCEL:
        return bool(row[5] != Status.UNCERTAIN.value)
    return treatment is not Treatment.RESOLVE_RETRY or bool(row[8] > now_us)


def _next_cursor(cursor: Cursor, rows: Sequence[Row], treatment: Treatment) -> Cursor | None:
    lane = cursor[0]
    if len(rows) == SCANNED:
        return (lane, *rows[-1][1:4])
    last = {Treatment.CANCEL: _LEASED_LANE, Treatment.RETRY: max(Lane)}.get(treatment, lane)
    return None if lane == last else (lane + 1, -1, 0, 0)
