"""Stored content: what delivery's batch inserted, read and expired (SQL)."""

from mailward.db.database import Transaction
from mailward.ids import EPOCH_MS, MessageId

_READ = "SELECT body FROM contents WHERE id = :id"

_EXPIRE = """
    DELETE FROM contents
     WHERE id IN (SELECT id FROM contents WHERE id < :first_kept ORDER BY id LIMIT :limit)
"""


def read(tx: Transaction, id: MessageId) -> bytes | None:
    """Return the content of message `id`, RFC 5322 with CRLF line ends; None once it has expired."""
    row = tx.fetch_one(_READ, id=id)
    return None if row is None else bytes(row[0])


def expire(tx: Transaction, before_us: int, limit: int) -> int:
    """Delete up to `limit` of the oldest contents stored before `before_us` (µs since 1970); return how many.

    Ids are time-ordered, so their order is that of age. The caller picks a `before_us` beyond the lifetime of any
    message that may still be sent: this room does not know which those are. Call again while it returns `limit`.
    """
    first_kept = (before_us // 1000 - EPOCH_MS) << 20
    return tx.execute(_EXPIRE, first_kept=first_kept, limit=limit)
