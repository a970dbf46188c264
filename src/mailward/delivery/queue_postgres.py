"""The queue's hot statements in PostgreSQL: one statement per operation, rows passed as arrays (SQL)."""

from collections.abc import Sequence
from typing import Any

from mailward.db.database import Row, Transaction
from mailward.delivery.lease import CloseAttempt, NewMessage, OpenAttempt, Owner, numbers
from mailward.delivery.status import Status

# FOR SHARE: a node's life cannot end (nodes.register) between this look and the commit, so recovery sees all of it or
# nothing.
_SUBMIT = """
    WITH living AS (SELECT id, epoch FROM nodes WHERE id = ANY (%s::bigint[]) FOR SHARE),
    new_contents AS (
        INSERT INTO contents (id, body) SELECT * FROM unnest(%s::bigint[], %s::bytea[])
    ),
    new_messages AS (
        INSERT INTO messages (id, sender, reverse_path, subject, size_bytes, smtputf8, ingress, tags, metadata,
                              created_at_us, expires_at_us, uncertain_retries)
        SELECT * FROM unnest(%s::bigint[], %s::text[], %s::text[], %s::text[], %s::bigint[], %s::bigint[], %s::text[],
                             %s::text[], %s::text[], %s::bigint[], %s::bigint[], %s::bigint[])
    ),
    new_recipients AS (
        INSERT INTO recipients (message_id, n, address, lane, state, state_at_us, next_attempt_at_us, node, epoch,
                                attempts, doubts)
        SELECT v.message_id, v.n, v.address, v.lane, CASE WHEN l.id IS NULL THEN 'queued' ELSE 'sending' END, v.at_us,
               CASE WHEN l.id IS NULL THEN v.at_us END, l.id, l.epoch, 0, 0
          FROM unnest(%s::bigint[], %s::bigint[], %s::text[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[])
                 AS v (message_id, n, address, lane, at_us, node, epoch)
          LEFT JOIN living AS l ON l.id = v.node AND l.epoch = v.epoch
    ),
    new_attempts AS (
        INSERT INTO attempts (message_id, id, provider_id, node, epoch, recipients, opened_at_us)
        SELECT v.message_id, v.id, v.provider_id, l.id, l.epoch, v.recipients, v.at_us
          FROM unnest(%s::bigint[], %s::bigint[], %s::text[], %s::bigint[], %s::bigint[], %s::text[], %s::bigint[])
                 AS v (message_id, id, provider_id, node, epoch, recipients, at_us)
          JOIN living AS l ON l.id = v.node AND l.epoch = v.epoch
    )
    SELECT id, epoch FROM living
"""


# Generic plans are made once, perhaps on empty tables, where a look at everything is cheapest: with 300,000 recipients
# a close then took 300 ms until the next ANALYZE. Every statement here finds its rows by an index, in its order.
_PLAN_BY_INDEX = """
    SELECT set_config('enable_seqscan', 'off', :local = 1), set_config('enable_hashjoin', 'off', :local = 1),
           set_config('enable_mergejoin', 'off', :local = 1), set_config('enable_bitmapscan', 'off', :local = 1),
           set_config('enable_sort', 'off', :local = 1)
"""


def plan_by_index(tx: Transaction, *, local: bool = False) -> None:
    """Have the connection's statements planned that way; `local`: those of this transaction.

    A rollback undoes the setting, and empties the memo.
    """
    if local:
        tx.fetch(_PLAN_BY_INDEX, local=True)
    elif _PLAN_BY_INDEX not in tx.memo:
        tx.fetch(_PLAN_BY_INDEX, local=False)
        tx.memo[_PLAN_BY_INDEX] = True


def _columns(rows: Sequence[tuple[Any, ...]], width: int) -> list[list[Any]]:
    """Turn rows into columns; `width` empty ones when there are no rows."""
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in range(width)]


def submit(tx: Transaction, items: list[NewMessage]) -> list[bool]:
    """See queue.submit."""
    messages = [
        (
            item.id,
            item.sender,
            item.reverse_path,
            item.subject,
            item.size_bytes,
            int(item.smtputf8),
            item.ingress,
            item.tags,
            item.metadata,
            item.created_at_us,
            item.expires_at_us,
            item.uncertain_retries,
        )
        for item in items
    ]
    recipients = [
        (item.id, n, address, item.lane, item.created_at_us, item.node, item.epoch)
        for item in items
        for n, address in enumerate(item.addresses)
    ]
    marks = [
        (
            item.id,
            item.attempt_id,
            item.provider_id,
            item.node,
            item.epoch,
            numbers(range(len(item.addresses))),
            item.created_at_us,
        )
        for item in items
        if item.attempt_id is not None
    ]
    values = [
        list({item.node for item in items if item.node is not None}),
        [item.id for item in items],
        [item.content for item in items],
        *_columns(messages, 12),
        *_columns(recipients, 7),
        *_columns(marks, 7),
    ]
    plan_by_index(tx)
    living = set(tx.run(_SUBMIT, values))
    return [(item.node, item.epoch) in living for item in items]


# FOR SHARE OF r: whoever cancels a recipient (operators.py) either sees the open attempt, or is seen here.
_OPEN = """
    WITH living AS (SELECT id, epoch FROM nodes WHERE id = ANY (%s::bigint[]) FOR SHARE),
    leased AS (
        SELECT v.id
          FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[])
                 AS v (id, message_id, n, node, epoch)
          JOIN recipients AS r ON r.message_id = v.message_id AND r.n = v.n AND r.node = v.node AND r.epoch = v.epoch
           FOR SHARE OF r
    ),
    whole AS (SELECT id, count(*) AS recipients FROM leased GROUP BY id),
    new_attempts AS (
        INSERT INTO attempts (message_id, id, provider_id, node, epoch, recipients, opened_at_us)
        SELECT v.message_id, v.id, v.provider_id, l.id, l.epoch, v.recipients, v.at_us
          FROM unnest(%s::bigint[], %s::bigint[], %s::text[], %s::bigint[], %s::bigint[], %s::text[], %s::bigint[],
                      %s::bigint[]) AS v (message_id, id, provider_id, node, epoch, recipients, at_us, number)
          JOIN living AS l ON l.id = v.node AND l.epoch = v.epoch
          JOIN whole AS w ON w.id = v.id AND w.recipients = v.number
        ON CONFLICT DO NOTHING
    )
    SELECT 0, id, epoch FROM living UNION ALL SELECT id, recipients, 0 FROM whole
"""


def open_attempts(tx: Transaction, items: list[OpenAttempt]) -> list[bool | None]:
    """See queue.open_attempts."""
    rows: list[tuple[Any, ...]] = []
    recipients: list[tuple[Any, ...]] = []
    for message_id, attempt_id, provider_id, node, epoch, ns, at_us in items:
        rows.append((message_id, attempt_id, provider_id, node, epoch, numbers(ns), at_us, len(ns)))
        recipients += [(attempt_id, message_id, n, node, epoch) for n in ns]
    plan_by_index(tx)
    nodes = list({item[3] for item in items})
    found = set(tx.run(_OPEN, [nodes, *_columns(recipients, 5), *_columns(rows, 8)]))
    return [(0, *row[3:5]) in found and ((row[1], row[7], 0) in found or None) for row in rows]


_CLOSE = """
    WITH closed AS (
        UPDATE attempts AS a SET provider_id = v.provider_id, closed_at_us = v.at_us, results = v.results
          FROM unnest(%s::bigint[], %s::bigint[], %s::text[], %s::bigint[], %s::bigint[], %s::bigint[], %s::text[])
                 AS v (message_id, id, provider_id, node, epoch, at_us, results)
         WHERE a.message_id = v.message_id AND a.id = v.id AND a.node = v.node AND a.epoch = v.epoch
           AND a.closed_at_us IS NULL
        RETURNING a.id
    ),
    ended AS (
        UPDATE recipients AS r SET state = v.state, state_at_us = v.at_us, next_attempt_at_us = v.next_at_us,
                                   attempts = attempts + 1, doubts = doubts + v.doubt, node = NULL, epoch = NULL
          FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::text[], %s::bigint[], %s::bigint[],
                      %s::bigint[]) AS v (message_id, n, node, epoch, state, at_us, next_at_us, doubt)
         WHERE r.message_id = v.message_id AND r.n = v.n AND r.node = v.node AND r.epoch = v.epoch
    )
    SELECT id FROM closed
"""


def close_attempts(tx: Transaction, items: list[CloseAttempt]) -> list[bool]:
    """See queue.close_attempts."""
    attempts = [item[:7] for item in items]
    recipients = [
        (message_id, n, node, epoch, state, at_us, next_at_us, doubt)
        for message_id, _, _, node, epoch, at_us, _, ended in items
        for n, state, next_at_us, doubt in ended
    ]
    plan_by_index(tx)
    closed = {id for (id,) in tx.run(_CLOSE, [*_columns(attempts, 7), *_columns(recipients, 8)])}
    return [item[1] in closed for item in items]


# What another node is claiming at this moment is skipped, among the first and among their messages' other recipients.
_DUE = """
    SELECT message_id FROM recipients WHERE lane = %s AND next_attempt_at_us <= %s
     ORDER BY next_attempt_at_us LIMIT %s FOR UPDATE SKIP LOCKED
"""

# "+ 0" hides the condition from the index on it: it would be searched for all that is due, once a message.
_DUE_RECIPIENTS = """
    SELECT m.id, m.reverse_path, m.smtputf8, m.size_bytes, m.created_at_us, m.expires_at_us, m.uncertain_retries,
           r.lane, r.n, r.address, r.attempts, r.doubts, r.state
      FROM unnest(%s::bigint[]) AS v (id)
      JOIN messages AS m ON m.id = v.id
      JOIN recipients AS r ON r.message_id = v.id AND r.next_attempt_at_us + 0 <= %s
     ORDER BY m.id, r.n
       FOR UPDATE OF r SKIP LOCKED
"""


def due(tx: Transaction, lane: int, now_us: int, limit: int) -> list[Row]:
    """See queue.claim: the due recipients of the messages that have one among the first `limit` of `lane`."""
    plan_by_index(tx)
    ids = list({id for (id,) in tx.run(_DUE, (lane, now_us, limit))})
    return tx.run(_DUE_RECIPIENTS, (ids, now_us)) if ids else []


_LEASE = """
    UPDATE recipients AS r SET state = %s, state_at_us = %s, next_attempt_at_us = NULL, node = %s, epoch = %s
      FROM unnest(%s::bigint[], %s::bigint[]) AS v (message_id, n)
     WHERE r.message_id = v.message_id AND r.n = v.n
"""


def lease(tx: Transaction, owner: Owner, keys: list[tuple[int, int]], now_us: int) -> None:
    """Lease the recipients `keys` (message id, n), which `due` has locked, to `owner`."""
    tx.run(_LEASE, (Status.SENDING.value, now_us, owner.node, owner.epoch, *_columns(list(keys), 2)))


_BODIES = """
    SELECT id, CASE WHEN octet_length(body) <= %s THEN body END FROM contents WHERE id = ANY (%s::bigint[])
"""


def contents(tx: Transaction, ids: list[int], up_to_bytes: int) -> dict[int, bytes | None]:
    """Return the stored contents by message id; None in place of a larger one."""
    return dict(tx.run(_BODIES, (up_to_bytes, ids)))
