"""Stored content: what delivery's batch inserted, read back (SQL)."""

from mailward.db.database import Transaction
from mailward.ids import MessageId

_READ = "SELECT body FROM contents WHERE id = :id"


def read(tx: Transaction, id: MessageId) -> bytes | None:
    """Return the content of message `id`, RFC 5322 with CRLF line ends; None once it has expired."""
    row = tx.fetch_one(_READ, id=id)
    return None if row is None else bytes(row[0])
