"""Stored content: whole, or in pieces when it is large; written as it comes and read back as it goes (SQL).

A content of more than PIECE_BYTES is never in memory as a whole on its way through: its pieces are committed while it
comes, and the row in `contents`, which the message's own commit writes, holds only its end. Pieces without that row are
orphans: they are discarded when the submission is refused, and swept when nobody was left to do it.
"""

from asyncio import Task, get_running_loop
from collections.abc import AsyncGenerator, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from mailward.db.database import Database, Transaction
from mailward.errors import InvalidArgument
from mailward.ids import MessageId

PIECE_BYTES = 1 << 19


class Piece(NamedTuple):
    """Whole lines of a large content."""

    message_id: MessageId
    n: int  #: from 0
    body: bytes


@dataclass(frozen=True, slots=True)
class Uploaded:
    """A large content all of which is in the store but its end."""

    end: bytes  #: at most a piece
    stored_bytes: int  #: of the pieces before it

    def __len__(self) -> int:
        return self.stored_bytes + len(self.end)


class StoredContent:
    """A large content in the store."""

    def __init__(self, database: Database, id: MessageId, size_bytes: int) -> None:
        self._database = database
        self._id = id
        self._size_bytes = size_bytes

    def __len__(self) -> int:
        return self._size_bytes

    def isascii(self) -> bool:
        """As bytes.isascii: nobody has looked, so it may have octets above 127."""
        return False

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """Yield it piece by piece, whole lines each. Raises LookupError before the last one unless all are there."""
        n, left, is_end = 0, self._size_bytes, False
        ahead = self._begin_to_read(n)
        try:
            while not is_end:
                body, is_end = await ahead
                n, left = n + 1, left - len(body)
                if is_end and left:
                    raise LookupError(f"the content of message {self._id} is not whole")
                if not is_end:
                    ahead = self._begin_to_read(n)  # While this one is sent.
                yield body
        finally:
            ahead.cancel()

    def _begin_to_read(self, n: int) -> Task[tuple[bytes, bool]]:
        return get_running_loop().create_task(self._database.read(read_piece, self._id, n))

    async def whole(self) -> bytes:
        """Return all of it at once. Raises LookupError when it has expired."""
        content = await self._database.read(read, self._id)
        if content is None:
            raise LookupError(f"the content of message {self._id} has gone")
        return content


Content = bytes | StoredContent


def held_bytes(size_bytes: int) -> int:
    """Return how much memory a content of `size_bytes` takes while it is on its way."""
    return min(size_bytes, PIECE_BYTES)


def cut(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the content that `parts` make in pieces of whole lines; the last one, which may be empty, is its end.

    Raises InvalidArgument for a line that is longer than a piece.
    """
    held = bytearray()
    for part in parts:
        for start in range(0, len(part), PIECE_BYTES):
            held += memoryview(part)[start : start + PIECE_BYTES]
            while len(held) > PIECE_BYTES:
                end = held.rfind(b"\n", 0, PIECE_BYTES) + 1
                if not end:
                    raise InvalidArgument("CONTENT-line", f"the message has a line of more than {PIECE_BYTES} octets")
                yield bytes(held[:end])
                del held[:end]
    yield bytes(held)


_ADD = "INSERT INTO content_pieces (message_id, n, body) VALUES (:message_id, :n, :body)"

_MAKE_ROOM = "PRAGMA shrink_memory"  # Pages of earlier pieces would fill the cache, and nobody reads them there.

_PIECE = "SELECT body FROM content_pieces WHERE message_id = :id AND n = :n"

_PIECES = "SELECT body FROM content_pieces WHERE message_id = :id ORDER BY n"

_END = "SELECT body FROM contents WHERE id = :id"

_STORED = "SELECT sum(length(body)) FROM content_pieces WHERE message_id = :id"

# Whoever was refused does not always know why: what a message was committed with stays.
_DISCARD = """
    DELETE FROM content_pieces
     WHERE message_id = :id AND NOT EXISTS (SELECT 1 FROM contents AS c WHERE c.id = :id)
"""

_ORPHANS = """
    SELECT message_id FROM content_pieces AS p
     WHERE n = 0 AND message_id >= :first AND message_id < :before
       AND NOT EXISTS (SELECT 1 FROM contents AS c WHERE c.id = p.message_id)
"""


def add_pieces(tx: Transaction, items: list[Piece]) -> list[None]:
    """Store pieces of contents whose message will be submitted after them. For Database.batch."""
    if tx.dialect == "sqlite":
        tx.run(_MAKE_ROOM, ())
    tx.executemany(_ADD, [{"message_id": id, "n": n, "body": body} for id, n, body in items])
    return [None] * len(items)


def stored_bytes(tx: Transaction, id: MessageId) -> int:
    """Return how much of the content of message `id` is stored in pieces."""
    row = tx.fetch_one(_STORED, id=id)
    return row[0] or 0 if row is not None else 0


def read_piece(tx: Transaction, id: MessageId, n: int) -> tuple[bytes, bool]:
    """Return piece `n` of message `id`, or behind the last one the content's end, and whether it is that.

    Raises LookupError once it has expired.
    """
    row = tx.fetch_one(_PIECE, id=id, n=n)
    if row is not None:
        return bytes(row[0]), False
    row = tx.fetch_one(_END, id=id)
    if row is None:
        raise LookupError(f"the content of message {id} has gone")
    return bytes(row[0]), True


def read(tx: Transaction, id: MessageId) -> bytes | None:
    """Return the content of message `id`, RFC 5322 with CRLF line ends; None once it has expired."""
    row = tx.fetch_one(_END, id=id)
    if row is None:
        return None
    return b"".join([*(body for (body,) in tx.fetch(_PIECES, id=id)), row[0]])


def discard(tx: Transaction, ids: list[MessageId]) -> list[None]:
    """Remove the pieces of messages that were not submitted after all. For Database.batch, behind `add_pieces`."""
    tx.executemany(_DISCARD, [{"id": id} for id in ids])
    return [None] * len(ids)


def orphans(tx: Transaction, first: int, before: int) -> list[MessageId]:
    """Return the ids from `first` and below `before` under which pieces are stored and no message."""
    return [id for (id,) in tx.fetch(_ORPHANS, first=first, before=before)]
