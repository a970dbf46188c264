"""The queue: submit, claim, open and close attempts, recover. Its rows change state; attempts are only added (SQL).

`submit`, `open_attempts` and `close_attempts` are for Database.batch: one call for everything in a commit. The others
are for Database.write.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import orjson

from mailward.db.database import Row, Transaction
from mailward.delivery import operators, queue_postgres, queue_sqlite
from mailward.delivery.attempt import encode, result
from mailward.delivery.idempotency import Earlier, claim_keys
from mailward.delivery.lease import CloseAttempt, Due, GivenBack, Lane, Lease, NewMessage, OpenAttempt, Owner, Phase
from mailward.delivery.retry import RetryPolicy, Verdict, after_doubt, overdue
from mailward.delivery.status import Status
from mailward.ids import AttemptId, MessageId
from mailward.message import content
from mailward.message.envelope import Envelope
from mailward.smtp.reply import Reply
from mailward.transport.outcome import Stage

_ENGINES: dict[str, Any] = {"sqlite": queue_sqlite, "postgresql": queue_postgres}


def _engine(tx: Transaction) -> Any:
    module: ModuleType = _ENGINES[tx.dialect]
    return module


def submit(tx: Transaction, items: list[NewMessage]) -> list[bool | Earlier]:
    """Store messages; True for each that is leased to its owner.

    One whose owner's life is over is stored like one without an owner: queued and due at once. One whose idempotency
    key was taken before is not stored.
    """
    fresh = items = [NewMessage._make(item) for item in items]  # On the way it was a plain tuple, like those below.
    earlier: dict[MessageId, Earlier] = {}
    if keyed := [item for item in items if item.key]:
        earlier = claim_keys(tx, keyed)
        fresh = [item for item in items if item.id not in earlier]
    for item in fresh:
        if item.stored_bytes and content.stored_bytes(tx, item.id) != item.stored_bytes:
            raise LookupError(f"message {item.id}: pieces of its content are missing")
        if item.replay is not None:
            operators.record_replay(tx, item, item.replay)
    leased: list[bool] = _engine(tx).submit(tx, fresh) if fresh else []
    if not earlier:
        return list(leased)
    answers = iter(leased)
    return [earlier[item.id] if item.id in earlier else next(answers) for item in items]


def open_attempts(tx: Transaction, items: list[OpenAttempt]) -> list[bool | None]:
    """Record attempts as open; what is not recorded must not go on.

    False: the owner's life is over. None: a recipient of it is not leased to the owner any more, because an operator
    canceled it; the others are to be given back. Repeating it changes nothing, so it may be tried again when nobody
    knows whether the commit was stored.
    """
    opened: list[bool | None] = _engine(tx).open_attempts(tx, items)
    return opened


def close_attempts(tx: Transaction, items: list[CloseAttempt]) -> list[bool]:
    """Record how attempts ended and free their recipients; False for each that is no longer open and the owner's.

    Then nothing of that item is written.
    """
    closed: list[bool] = _engine(tx).close_attempts(tx, items)
    return closed


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimRequest:
    """How much a node can take."""

    owner: Owner
    now_us: int
    messages: int  #: at least 1
    content_bytes: int  #: a first message larger than this is taken all the same
    #: how much of that each lane may take, the most urgent first; a lane that is absent gets nothing; None: everything
    rooms: Mapping[Lane, tuple[int, int]] | None = None


@dataclass(frozen=True, slots=True)
class Expiry:
    """A waiting recipient whose lifetime passed; `status` is EXPIRED, or UNCERTAIN when it is held in doubt."""

    message_id: MessageId
    address: str
    lane: int
    status: Status


_LARGE_BYTES = 65_536  # on the way from the writer contents are copied often


@dataclass(frozen=True, slots=True)
class Claim:
    """What a claim got: lane by lane, of what has been due longest, in the order of submission."""

    owner: Owner
    messages: list[list[Row]]  #: what `due` found of each; leases are made of it where they are wanted, see `leases`
    contents: dict[int, bytes | None]  #: by message id; of large ones perhaps None: they are read later
    expired: list[Expiry]
    more: frozenset[Lane]  #: in which more may be due now
    next_due_at_us: dict[Lane, int]  #: when something that waits in the others becomes due; absent: nothing waits

    def leases(self) -> Iterator[tuple[Lease, int]]:
        """Yield each lease, and the size of its content where that is still to be read, else 0."""
        for rows in self.messages:
            id, reverse_path, smtputf8, size_bytes, created_at_us, expires_at_us, uncertain_retries, lane = rows[0][:8]
            is_large = size_bytes > _LARGE_BYTES
            yield (
                Lease(
                    id,
                    self.owner,
                    Lane(lane),
                    Envelope(reverse_path, tuple([row[9] for row in rows]), bool(smtputf8)),
                    b"" if is_large else self.contents[id] or b"",
                    tuple([Due(row[8], row[10], row[11]) for row in rows]),
                    created_at_us,
                    expires_at_us,
                    uncertain_retries,
                    Phase.READY,
                ),
                size_bytes if is_large else 0,
            )


_LIFE = {
    "sqlite": "SELECT 1 FROM nodes WHERE id = :node AND epoch = :epoch",
    "postgresql": "SELECT 1 FROM nodes WHERE id = :node AND epoch = :epoch FOR SHARE",
}

_NEXT_DUE = """
    SELECT next_attempt_at_us FROM recipients WHERE lane = :lane AND next_attempt_at_us IS NOT NULL
     ORDER BY next_attempt_at_us LIMIT 1
"""


class LeaseLost(Exception):
    """The node's life is over: another one recovered what it held."""


def claim(tx: Transaction, request: ClaimRequest) -> Claim:
    """Lease due recipients, message by message. Raises LeaseLost when the owner's life is over.

    All that is due of a message comes in one lease, so that its content travels once. Those whose lifetime has passed
    are expired on the way.
    """
    owner = request.owner
    if tx.fetch_one(_LIFE[tx.dialect], node=owner.node, epoch=owner.epoch) is None:
        raise LeaseLost(f"node {owner.node} is no longer in epoch {owner.epoch}")
    messages: list[list[Row]] = []
    contents: dict[int, bytes | None] = {}
    expired: list[Expiry] = []
    left, left_bytes, more = request.messages, request.content_bytes, set[Lane]()
    for lane in Lane:
        most, most_bytes = (left, left_bytes) if request.rooms is None else request.rooms.get(lane, (0, 0))
        room, room_bytes = min(left, most), min(left_bytes, most_bytes)
        if room <= 0 or room_bytes <= 0:
            more.add(lane)
            continue
        rows = _engine(tx).due(tx, lane, request.now_us, room)
        living, dead = _split_overdue(rows, request.now_us)
        taken, size_bytes = _fitting(living, room, room_bytes, first=not messages)
        # Content that has gone by age cannot be sent any more, whatever its message's lifetime says.
        contents |= _engine(tx).contents(tx, [rows[0][0] for rows in taken], _LARGE_BYTES) if taken else {}
        dead += [row for rows in taken if rows[0][0] not in contents for row in rows]
        expired += _expire(tx, dead, request.now_us)
        leased = [rows for rows in taken if rows[0][0] in contents]
        if leased:
            _engine(tx).lease(tx, owner, [(row[0], row[8]) for rows in leased for row in rows], request.now_us)
        messages += leased
        if len(rows) >= room or len(taken) < len(living):
            more.add(lane)
        left, left_bytes = left - len(taken), left_bytes - size_bytes
    due = next_due(tx)
    next_due_at_us = {lane: due[lane] for lane in due if lane not in more}
    return Claim(owner, messages, contents, expired, frozenset(more), next_due_at_us)


def next_due(tx: Transaction) -> dict[Lane, int]:
    """Return when the next waiting recipient of each lane becomes due, perhaps in the past; absent: none waits."""
    rows = {lane: tx.fetch_one(_NEXT_DUE, lane=lane.value) for lane in Lane}
    return {lane: row[0] for lane, row in rows.items() if row is not None}


def _split_overdue(rows: list[Row], now_us: int) -> tuple[list[list[Row]], list[Row]]:
    """Return the rows that may be tried, grouped by message, and those whose lifetime has passed."""
    living: dict[int, list[Row]] = {}
    dead: list[Row] = []
    for row in rows:
        if row[5] <= now_us:
            dead.append(row)
        else:
            living.setdefault(row[0], []).append(row)
    return list(living.values()), dead


def _fitting(messages: list[list[Row]], room: int, room_bytes: int, *, first: bool) -> tuple[list[list[Row]], int]:
    """Return the leading messages that fit, and the memory for them. `first`: one is taken, whatever its size."""
    size_bytes = 0
    taken: list[list[Row]] = []
    for rows in messages[:room]:
        if size_bytes + content.held_bytes(rows[0][3]) > room_bytes and (taken or not first):
            break
        size_bytes += content.held_bytes(rows[0][3])
        taken.append(rows)
    return taken, size_bytes


_END_WAIT = """
    UPDATE recipients SET state = :state, state_at_us = :now_us, next_attempt_at_us = NULL
     WHERE message_id = :message_id AND n = :n
"""


def _expire(tx: Transaction, rows: list[Row], now_us: int) -> list[Expiry]:
    expired = [Expiry(row[0], row[9], row[7], overdue(Status(row[12])).status) for row in rows]
    if rows:
        tx.executemany(
            _END_WAIT,
            [
                {"state": expiry.status.value, "now_us": now_us, "message_id": row[0], "n": row[8]}
                for row, expiry in zip(rows, expired, strict=True)
            ],
        )
    return expired


def expire(tx: Transaction, now_us: int, limit: int) -> list[Expiry]:
    """Expire those whose lifetime has passed among the `limit` recipients of each lane that have waited longest.

    For times in which nothing claims, because there is no provider.
    """
    expired = []
    for lane in Lane:
        _, dead = _split_overdue(_engine(tx).due(tx, lane, now_us, limit), now_us)
        expired += _expire(tx, dead, now_us)
    return expired


# A doubt about an earlier attempt stays one.
_FREE = """
    UPDATE recipients SET state = CASE WHEN doubts > 0 THEN 'uncertain' ELSE 'queued' END, state_at_us = :at_us,
                          next_attempt_at_us = :at_us, node = NULL, epoch = NULL
"""

_GIVE_BACK = f"{_FREE} WHERE message_id = :message_id AND n = :n AND node = :node AND epoch = :epoch"

_FORGET = """
    DELETE FROM attempts
     WHERE message_id = :message_id AND id = :id AND node = :node AND epoch = :epoch AND closed_at_us IS NULL
"""


def give_back(tx: Transaction, items: list[GivenBack]) -> None:
    """Return leases untried: due at once, for whoever comes first. An open attempt of theirs never was one."""
    tx.executemany(
        _GIVE_BACK,
        [
            {"message_id": item.message_id, "n": n, "at_us": item.at_us, **item.owner._asdict()}
            for item in items
            for n in item.ns
        ],
    )
    marked = [
        {"message_id": item.message_id, "id": item.mark.attempt_id, **item.owner._asdict()}
        for item in items
        if item.mark is not None
    ]
    if marked:
        tx.executemany(_FORGET, marked)


_HELD = "SELECT message_id, n FROM recipients WHERE node = :node AND epoch = :epoch"

_FORGET_ALL = """
    DELETE FROM attempts
     WHERE message_id = :message_id AND node = :node AND epoch = :epoch AND closed_at_us IS NULL AND recipients = :ns
"""


def reconcile(tx: Transaction, owner: Owner, known: frozenset[tuple[int, int]], now_us: int) -> int:
    """Give back what `owner` holds in the store but not in memory; return how many recipients.

    Such leases are left when a commit failed and yet was stored. `known`: (message id, n) of all that it holds in
    memory; nothing may be leased to it from the moment that was made. What was never in memory was never on the wire.
    """
    lost = [key for key in tx.fetch(_HELD, node=owner.node, epoch=owner.epoch) if key not in known]
    by_message: dict[int, list[int]] = {}
    for message_id, n in lost:
        by_message.setdefault(message_id, []).append(n)
    give_back(tx, [GivenBack(MessageId(id), owner, tuple(ns), None, now_us) for id, ns in by_message.items()])
    tx.executemany(
        _FORGET_ALL,
        [
            {"message_id": id, "ns": orjson.dumps(sorted(ns)).decode(), **owner._asdict()}
            for id, ns in by_message.items()
        ],
    )
    return len(lost)


@dataclass(frozen=True, slots=True)
class Recovered:
    """What an earlier life of a node left behind."""

    queued: int  #: recipients that had not been handed over
    uncertain: int  #: recipients that may have been


_LEFT_IN_SQLITE = """
    SELECT r.message_id, r.n, r.attempts, r.doubts, m.expires_at_us, m.uncertain_retries
      FROM recipients AS r JOIN messages AS m ON m.id = r.message_id
     WHERE r.node = :node AND r.epoch < :epoch
"""

# The node may live all the same and be about to record how an attempt ended: the first to lock a recipient decides.
_LEFT = {"sqlite": _LEFT_IN_SQLITE, "postgresql": f"{_LEFT_IN_SQLITE} FOR UPDATE OF r"}

_LEFT_OPEN = """
    SELECT DISTINCT a.message_id, a.id, a.recipients
      FROM recipients AS r JOIN attempts AS a ON a.message_id = r.message_id
     WHERE r.node = :node AND r.epoch < :epoch AND a.node = :node AND a.epoch < :epoch AND a.closed_at_us IS NULL
"""

_DOUBT = """
    UPDATE recipients SET state = 'uncertain', state_at_us = :now_us, next_attempt_at_us = :next_at_us,
                          attempts = attempts + 1, doubts = doubts + 1, node = NULL, epoch = NULL
     WHERE message_id = :message_id AND n = :n
"""

_CLOSE_LEFT = """
    UPDATE attempts SET closed_at_us = :now_us, results = :results WHERE message_id = :message_id AND id = :id
"""

_REQUEUE = f"{_FREE} WHERE node = :node AND epoch < :epoch"

_SILENCE = Reply(451, "4.4.2", "the gateway stopped before the answer was recorded")


def recover(tx: Transaction, owner: Owner, policy: RetryPolicy, now_us: int) -> Recovered:
    """Free what earlier lives of `owner.node` held. Call it in the transaction that began the new life, or that ended
    the last one (nodes.bury), or after it.

    Leased without an open attempt: nothing was handed over, so it is queued again. With one: uncertain, and the policy
    says what follows.
    """
    rows = tx.fetch(_LEFT[tx.dialect], node=owner.node, epoch=owner.epoch)
    left = {(message_id, n): rest for message_id, n, *rest in rows}
    doubts: list[dict[str, Any]] = []
    closed: list[dict[str, Any]] = []
    for message_id, id, recipients in tx.fetch(_LEFT_OPEN, node=owner.node, epoch=owner.epoch):
        ns = [n for n in orjson.loads(recipients) if (message_id, n) in left]
        for n in ns:
            verdict = _verdict_of_silence(policy, now_us, *left.pop((message_id, n)))
            doubts.append(
                {"message_id": message_id, "n": n, "now_us": now_us, "next_at_us": verdict.next_attempt_at_us}
            )
        results = [result(n, Status.UNCERTAIN, Stage.FINAL, "", _SILENCE) for n in ns]
        closed.append({"message_id": message_id, "id": AttemptId(id), "now_us": now_us, "results": encode(results)})
    if closed:
        tx.executemany(_DOUBT, doubts)
        tx.executemany(_CLOSE_LEFT, closed)
    tx.execute(_REQUEUE, node=owner.node, epoch=owner.epoch, at_us=now_us)
    return Recovered(queued=len(left), uncertain=len(doubts))


def _verdict_of_silence(
    policy: RetryPolicy, now_us: int, attempts: int, doubts: int, expires_at_us: int, uncertain_retries: int | None
) -> Verdict:
    return after_doubt(
        policy,
        attempt=attempts + 1,
        doubts=doubts + 1,
        uncertain_retries=uncertain_retries,
        now_us=now_us,
        expires_at_us=expires_at_us,
        jitter=0.0,
    )
