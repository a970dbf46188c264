"""A large content on its way into the store, piece by piece, before the message that it belongs to is submitted."""

import asyncio
import contextlib
from collections.abc import Callable

from mailward.db.database import Database
from mailward.db.writer import Failed
from mailward.errors import MailwardError
from mailward.ids import MessageId
from mailward.message import content
from mailward.message.content import Piece, Uploaded

_WAITING = 4  # pieces whose commit is asked for: while half of them are written, the others come


class Upload:
    """`add` pieces, then `finish` and submit, or `discard`."""

    def __init__(self, database: Database, id: MessageId, on_room: Callable[[], None] = lambda: None) -> None:
        """`id`: of the message. `on_room`: called whenever a piece has been stored."""
        self._database = database
        self._id = id
        self._on_room = on_room
        self._stored_bytes = 0
        self._pieces = 0
        self._waiting = 0  # pieces whose commit is under way
        self._less: asyncio.Future[None] | None = None  # until one of them is stored
        self._error: Exception | None = None
        self._is_void = False

    @property
    def is_full(self) -> bool:
        """Whether to wait for `on_room` before the next piece is added."""
        return self._waiting >= _WAITING

    def add(self, body: bytes) -> None:
        """Begin to store the next piece, whole lines. A failure shows at the end."""
        try:
            stored = self._database.batch(content.add_pieces, Piece(self._id, self._pieces, body))
        except MailwardError as error:  # Too many wait, or it is closed.
            self._error = error
            return
        self._pieces += 1
        self._stored_bytes += len(body)
        self._waiting += 1
        stored.then(self._stored)

    async def put(self, body: bytes) -> None:
        """Add a piece, and return when there is room for the next one."""
        self.add(body)
        await self._wait_for(_WAITING - 1)

    async def finish(self, end: bytes) -> Uploaded:
        """Return the content, whose last lines are `end`, once all pieces are durable. Raises what storing raised."""
        await self._wait_for(0)
        if self._error is not None:
            raise self._error
        return Uploaded(end, self._stored_bytes)

    def discard(self) -> None:
        """Remove what was stored."""
        self._is_void = True
        if not self._waiting:
            self._remove()

    async def _wait_for(self, most: int) -> None:
        while self._waiting > most:
            self._less = asyncio.get_running_loop().create_future()
            await self._less

    def _stored(self, stored: Failed | None) -> None:
        self._waiting -= 1
        if stored is not None:
            self._error = stored.error
        if self._less is not None and not self._less.done():
            self._less.set_result(None)
        if not self._is_void:
            self._on_room()
        elif not self._waiting:
            self._remove()

    def _remove(self) -> None:
        if self._pieces:
            discard(self._database, self._id)


def discard(database: Database, id: MessageId) -> None:
    """Remove the pieces of message `id`, unless it was stored after all; nobody waits for it."""
    with contextlib.suppress(MailwardError):  # Too many wait, or it is closed: they are swept later.
        database.batch(content.discard, id)
