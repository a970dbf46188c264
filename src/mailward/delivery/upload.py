"""A large content on its way into the store, piece by piece, before the message that it belongs to is submitted."""

import asyncio
import contextlib
from asyncio import Future
from collections.abc import Callable

from mailward.db.database import Database
from mailward.errors import MailwardError
from mailward.ids import MessageId
from mailward.message import content
from mailward.message.content import Piece, Uploaded

_WAITING = 2  # pieces whose commit is under way: one more could only wait in memory


class Upload:
    """`add` pieces, then `finish` and submit, or `discard`."""

    def __init__(self, database: Database, id: MessageId, on_room: Callable[[], None] = lambda: None) -> None:
        """`id`: of the message. `on_room`: called whenever a piece has been stored."""
        self._database = database
        self._id = id
        self._on_room = on_room
        self._stored_bytes = 0
        self._pieces = 0
        self._waiting: set[Future[None]] = set()
        self._error: BaseException | None = None
        self._is_void = False

    @property
    def is_full(self) -> bool:
        """Whether to wait for `on_room` before the next piece is added."""
        return len(self._waiting) >= _WAITING

    def add(self, body: bytes) -> None:
        """Begin to store the next piece, whole lines. A failure shows at the end."""
        try:
            stored = self._database.batch(content.add_pieces, Piece(self._id, self._pieces, body))
        except MailwardError as error:  # Too many wait, or it is closed.
            self._error = error
            return
        self._pieces += 1
        self._stored_bytes += len(body)
        self._waiting.add(stored)
        stored.add_done_callback(self._stored)

    async def put(self, body: bytes) -> None:
        """Add a piece, and return when there is room for the next one."""
        self.add(body)
        if self.is_full:
            await asyncio.wait(self._waiting, return_when=asyncio.FIRST_COMPLETED)

    async def finish(self, end: bytes) -> Uploaded:
        """Return the content, whose last lines are `end`, once all pieces are durable. Raises what storing raised."""
        if self._waiting:
            await asyncio.wait(self._waiting)
        if self._error is not None:
            raise self._error
        return Uploaded(end, self._stored_bytes)

    def discard(self) -> None:
        """Remove what was stored."""
        self._is_void = True
        if not self._waiting:
            self._remove()

    def _stored(self, stored: "Future[None]") -> None:
        self._waiting.discard(stored)
        if not stored.cancelled() and (error := stored.exception()) is not None:
            self._error = error
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
        database.batch(content.discard, id).add_done_callback(_look)


def _look(done: "Future[None]") -> None:
    """Take note of an exception that nobody awaits."""
    if not done.cancelled():
        done.exception()
