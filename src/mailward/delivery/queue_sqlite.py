"""The queue's hot statements in SQLite: multi-row VALUES in powers of two, so that each is prepared once (SQL)."""

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

import orjson

from mailward.db.database import Row, Transaction
from mailward.delivery.lease import CloseAttempt, NewMessage, OpenAttempt, Owner, numbers
from mailward.delivery.status import Status

_SIZES = (128, 64, 32, 16, 8, 4, 2, 1)


class _Rows:
    """A statement over many rows, in which `{rows}` stands for what `row` becomes once per row."""

    def __init__(self, sql: str, row: str) -> None:
        self._width = row.count("?")
        self._sqls = [(size, sql.format(rows=",".join([row] * size))) for size in _SIZES]

    def run(self, tx: Transaction, rows: Iterable[Sequence[Any]]) -> list[Row]:
        """Run it over `rows`, flat chunk by flat chunk; return what it returns."""
        values = list(chain.from_iterable(rows))
        answers: list[Row] = []
        start, end, width = 0, len(values), self._width
        for size, sql in self._sqls:
            step = size * width
            while end - start >= step:
                answers += tx.run(sql, values[start : start + step])
                start += step
        return answers


_EPOCH = "SELECT 1 FROM nodes WHERE id = ? AND epoch = ?"


def _living(tx: Transaction, lives: set[tuple[Any, ...]]) -> set[tuple[Any, ...]]:
    """Return those of `lives`, (node, epoch), that are not over."""
    return {life for life in lives if tx.run(_EPOCH, life)}


_CONTENTS = _Rows("INSERT INTO contents (id, body) VALUES {rows}", "(?, ?)")

_MESSAGES = _Rows(
    """INSERT INTO messages (id, sender, reverse_path, subject, size_bytes, smtputf8, ingress, tags, metadata,
                             created_at_us, expires_at_us, uncertain_retries) VALUES {rows}""",
    "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
)

_RECIPIENTS = _Rows(
    """INSERT INTO recipients (message_id, n, address, lane, state, state_at_us, next_attempt_at_us, node, epoch,
                               attempts, doubts) VALUES {rows}""",
    "(?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 0)",
)

_ATTEMPTS = _Rows(
    """INSERT INTO attempts (message_id, id, provider_id, node, epoch, recipients, opened_at_us) VALUES {rows}
       ON CONFLICT DO NOTHING""",
    "(?, ?, ?, ?, ?, ?, ?)",
)


def submit(tx: Transaction, items: list[NewMessage]) -> list[bool]:
    """See queue.submit."""
    living = _living(tx, {(item.node, item.epoch) for item in items if item.node is not None})
    leased = [(item.node, item.epoch) in living for item in items]
    _CONTENTS.run(tx, [(item.id, item.content) for item in items])
    _MESSAGES.run(
        tx,
        [
            (
                item.id,
                item.sender,
                item.reverse_path,
                item.subject,
                item.size_bytes,
                item.smtputf8,
                item.ingress,
                item.tags,
                item.metadata,
                item.created_at_us,
                item.expires_at_us,
                item.uncertain_retries,
            )
            for item in items
        ],
    )
    recipients: list[Sequence[Any]] = []
    marks: list[Sequence[Any]] = []
    for item, is_leased in zip(items, leased, strict=True):
        id, at_us, lane, node, epoch = item.id, item.created_at_us, item.lane, item.node, item.epoch
        if is_leased:
            for n, address in enumerate(item.addresses):
                recipients.append((id, n, address, lane, "sending", at_us, None, node, epoch))
            if item.attempt_id is not None:
                ns = numbers(range(len(item.addresses)))
                marks.append((id, item.attempt_id, item.provider_id, node, epoch, ns, at_us))
        else:
            for n, address in enumerate(item.addresses):
                recipients.append((id, n, address, lane, "queued", at_us, at_us, None, None))
    _RECIPIENTS.run(tx, recipients)
    if marks:
        _ATTEMPTS.run(tx, marks)
    return leased


# CROSS JOIN: the rows given come first, and each finds its recipient by the primary key.
_LEASED = _Rows(
    """SELECT r.message_id, r.n, r.node, r.epoch FROM (VALUES {rows}) AS v CROSS JOIN recipients AS r
        WHERE r.message_id = v.column1 AND r.n = v.column2""",
    "(?, ?)",
)


def open_attempts(tx: Transaction, items: list[OpenAttempt]) -> list[bool | None]:
    """See queue.open_attempts."""
    living = _living(tx, {item[3:5] for item in items})
    leased = set(_LEASED.run(tx, [(message_id, n) for message_id, _, _, _, _, ns, _ in items for n in ns]))
    opened: list[bool | None] = []
    attempts: list[Sequence[Any]] = []
    for message_id, attempt_id, provider_id, node, epoch, ns, at_us in items:
        if (node, epoch) not in living:
            opened.append(False)
        elif any((message_id, n, node, epoch) not in leased for n in ns):
            opened.append(None)
        else:
            opened.append(True)
            attempts.append((message_id, attempt_id, provider_id, node, epoch, numbers(ns), at_us))
    _ATTEMPTS.run(tx, attempts)
    return opened


# UPDATE ... FROM reads VALUES as column1, column2 ...
_CLOSE = _Rows(
    """UPDATE attempts SET provider_id = v.column3, closed_at_us = v.column6, results = v.column7
         FROM (VALUES {rows}) AS v
        WHERE attempts.message_id = v.column1 AND attempts.id = v.column2
          AND node = v.column4 AND epoch = v.column5 AND closed_at_us IS NULL
    RETURNING id""",
    "(?, ?, ?, ?, ?, ?, ?)",
)

_END = _Rows(
    """UPDATE recipients SET state = v.column5, state_at_us = v.column6, next_attempt_at_us = v.column7,
                             attempts = attempts + 1, doubts = doubts + v.column8, node = NULL, epoch = NULL
         FROM (VALUES {rows}) AS v
        WHERE recipients.message_id = v.column1 AND recipients.n = v.column2
          AND node = v.column3 AND epoch = v.column4""",
    "(?, ?, ?, ?, ?, ?, ?, ?)",
)


def close_attempts(tx: Transaction, items: list[CloseAttempt]) -> list[bool]:
    """See queue.close_attempts."""
    closed = {id for (id,) in _CLOSE.run(tx, [item[:7] for item in items])}
    _END.run(
        tx,
        [
            (message_id, n, node, epoch, state, at_us, next_at_us, doubt)
            for message_id, _, _, node, epoch, at_us, _, ended in items
            for n, state, next_at_us, doubt in ended
        ],
    )
    return [item[1] in closed for item in items]


_DUE = """
    SELECT DISTINCT message_id FROM (
        SELECT message_id FROM recipients WHERE lane = ? AND next_attempt_at_us <= ?
         ORDER BY next_attempt_at_us LIMIT ?)
"""

_DUE_RECIPIENTS = """
    SELECT m.id, m.reverse_path, m.smtputf8, m.size_bytes, m.created_at_us, m.expires_at_us, m.uncertain_retries,
           r.lane, r.n, r.address, r.attempts, r.doubts, r.state
      FROM messages AS m JOIN recipients AS r ON r.message_id = m.id
     WHERE m.id IN (SELECT value FROM json_each(?)) AND r.next_attempt_at_us <= ?
     ORDER BY m.id, r.n
"""


def due(tx: Transaction, lane: int, now_us: int, limit: int) -> list[Row]:
    """See queue.claim: the due recipients of the messages that have one among the first `limit` of `lane`."""
    ids = [id for (id,) in tx.run(_DUE, (lane, now_us, limit))]
    return tx.run(_DUE_RECIPIENTS, (orjson.dumps(ids).decode(), now_us)) if ids else []


_LEASE = """
    UPDATE recipients SET state = ?, state_at_us = ?, next_attempt_at_us = NULL, node = ?, epoch = ?
     WHERE message_id IN (SELECT value FROM json_each(?)) AND next_attempt_at_us <= ?
"""


def lease(tx: Transaction, owner: Owner, keys: list[tuple[int, int]], now_us: int) -> None:
    """Lease the recipients `keys` (message id, n) to `owner`. They are all that is due of their messages."""
    ids = orjson.dumps(list({id for id, _ in keys})).decode()
    tx.run(_LEASE, (Status.SENDING.value, now_us, owner.node, owner.epoch, ids, now_us))


_BODIES = """
    SELECT id, CASE WHEN length(body) <= ? THEN body END FROM contents
     WHERE id IN (SELECT value FROM json_each(?))
"""


def contents(tx: Transaction, ids: list[int], up_to_bytes: int) -> dict[int, bytes | None]:
    """Return the stored contents by message id; None in place of a larger one."""
    return dict(tx.run(_BODIES, (up_to_bytes, orjson.dumps(ids).decode())))
