"""What a claim brought, as leases that can be sent: their contents with them, or where to read those."""

from mailward.db.database import Database
from mailward.delivery.lease import Lease
from mailward.delivery.queue import Claim
from mailward.message.content import PIECE_BYTES, StoredContent


async def leases_of(claim: Claim, database: Database) -> list[Lease]:
    """Return the leases of `claim`. Raises LookupError for a content that has expired meanwhile."""
    leases = []
    for lease, unread_bytes in claim.leases():
        if unread_bytes:
            stored = StoredContent(database, lease.message_id, unread_bytes)
            lease.content = stored if unread_bytes > PIECE_BYTES else await stored.whole()
        leases.append(lease)
    return leases
