"""Mail that the trouble of a provider has deferred, when the providers were changed: it is due at once (SQL)."""

from mailward.db.database import Transaction
from mailward.delivery.attempt import deferred_by_provider
from mailward.delivery.lease import Lane
from mailward.delivery.operators import SCANNED, START, Cursor, Step, Treatment, treat

# What waits for a time to come, in the order of the index.
_WAITING = """
    SELECT lane, next_attempt_at_us, message_id, n, state_at_us FROM recipients
     WHERE lane = :lane AND next_attempt_at_us IS NOT NULL AND next_attempt_at_us >= :at_us
       AND (next_attempt_at_us > :at_us OR message_id > :id OR (message_id = :id AND n > :n))
     ORDER BY next_attempt_at_us, message_id, n LIMIT :scanned
"""

# A recipient enters its state at the moment at which the attempt was closed that brought it there. An attempt is read
# once, however many recipients it had.
_WHY = f"""
    SELECT a.message_id, a.closed_at_us, a.results
      FROM (SELECT DISTINCT message_id, state_at_us FROM ({_WAITING}) AS w) AS r
      JOIN attempts AS a ON a.message_id = r.message_id AND a.closed_at_us = r.state_at_us
"""  # noqa: S608 a constant


def hasten(tx: Transaction, cursor: Cursor, now_us: int) -> Step:
    """Look at the next recipients from `cursor`; those that a provider's trouble has deferred are due now."""
    lane, at_us, id, n = cursor
    if at_us <= now_us:  # What is due already needs no help, and what this walk moves comes to lie there.
        at_us, id, n = now_us, (1 << 63) - 1, 0
    bounds = {"lane": lane, "at_us": at_us, "id": id, "n": n, "scanned": SCANNED}
    waiting = tx.fetch(_WAITING, **bounds)
    held_up = {
        (message_id, closed_at_us, n)
        for message_id, closed_at_us, results in (tx.fetch(_WHY, **bounds) if waiting else ())
        for n in deferred_by_provider(results)
    }
    keys = [(message_id, n) for _, _, message_id, n, state_at_us in waiting if (message_id, state_at_us, n) in held_up]
    count = treat(tx, Treatment.RETRY, keys, now_us)
    if len(waiting) == SCANNED:
        return Step(count, (lane, *waiting[-1][1:4]))
    return Step(count, None if lane == max(Lane) else (lane + 1, *START[1:]))
