"""What the connections of a port share: the handler and how it is called, the limits, and who is connected."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from email.utils import formatdate
from functools import partial
from typing import Any, Protocol

from mailward import metrics
from mailward.rpc.http import BodyLimit, Converse, Handler, Request, Response
from mailward.rpc.large import LargeBody, Room
from mailward.rpc.limits import MIB, Limits

log = logging.getLogger("mailward.rpc")

#: Called with every answer just before it is written; may change it. Must be quick and must not raise.
Finish = Callable[[Request, Response], None]

NEVER = float("inf")


class Connection(Protocol):
    """What a port knows about a connection."""

    #: Loop time at which `expire` is to be called; NEVER when nothing is waited for.
    deadline: float

    def expire(self, now: float) -> None:
        """The deadline passed at loop time `now`: act, and set the next one."""

    def drain(self) -> None:
        """Take no new request; answer what came; close as soon as all is answered."""

    def abort(self) -> None:
        """Close at once; what runs for this connection is cancelled."""


class Serving:
    """Shared by all connections of one port; belongs to one event loop."""

    def __init__(
        self,
        handler: Handler,
        *,
        max_body: BodyLimit | None = None,
        finish: Finish | None = None,
        converse: Converse | None = None,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`max_body`: default 4 MiB for everything. `clock`: seconds since the epoch, for the Date field."""
        self.handler = handler
        self.max_body: BodyLimit = max_body or (lambda method, path: 4 * MIB)
        self.finish = finish
        self.converse: Converse = converse or (lambda request: None)
        self.limits = limits or Limits()
        self.loop = asyncio.get_running_loop()
        self.clock = clock
        self.connections: set[Connection] = set()
        self.tasks: set[asyncio.Task[Any]] = set()
        self.draining = False
        self.buffered = 0  #: bytes of unfinished bodies, see Limits.buffered_bytes
        self.room = Room(self.limits.large_bytes)
        self._large_turn = asyncio.Lock()
        self.empty: asyncio.Event = asyncio.Event()  #: no connection and no task
        self.empty.set()
        self.tick()

    def tick(self) -> None:
        """Read the clocks. Called once a second or more often, so that a request need not."""
        self.now = self.loop.time()  #: loop time at the last tick
        self.date = formatdate(self.clock(), usegmt=True)  #: value of the Date field
        self.date_line = f"date: {self.date}\r\n"

    def opened(self, connection: Connection) -> None:
        self.connections.add(connection)
        metrics.http_connections.set(len(self.connections))
        self.empty.clear()

    def closed(self, connection: Connection) -> None:
        self.connections.discard(connection)
        metrics.http_connections.set(len(self.connections))
        self._note_empty()

    def _note_empty(self) -> None:
        if not self.connections and not self.tasks:
            self.empty.set()

    def call(self, request: Request) -> Response | asyncio.Future[Response]:
        """Call the handler. Never raises: what it raises becomes the answer (see `outcome` for a future's).

        A coroutine runs in a task, which the connection cancels when its client goes away; a future that the handler
        returned is somebody else's work (a write under way) and is never cancelled.
        """
        try:
            result = self.handler(request) if request.large is None else self._in_turn(request, request.large)
        except Exception as error:
            return failure(request, error)
        if isinstance(result, Response):
            return result
        if asyncio.isfuture(result):
            return result
        task = self.loop.create_task(result if isinstance(result, Coroutine) else _result(result))
        self.tasks.add(task)
        self.empty.clear()
        task.add_done_callback(self._task_done)
        if request.large is not None:
            task.add_done_callback(partial(_leave, request.large))
        return task

    async def _in_turn(self, request: Request, body: LargeBody) -> Response:
        """Work on one large body at a time: what is made of it is as large again."""
        async with self._large_turn:
            body.leave()
            result = self.handler(request)
            return result if isinstance(result, Response) else await result

    def _task_done(self, task: asyncio.Task[Any]) -> None:
        self.tasks.discard(task)
        if not self.tasks:
            self._note_empty()

    def outcome(self, request: Request, future: asyncio.Future[Response]) -> Response:
        """Return the answer that the finished `future` stands for. Never raises."""
        if future.cancelled():
            return unavailable()
        error = future.exception()
        return future.result() if error is None else failure(request, error)

    def give_up(self, future: asyncio.Future[Response]) -> None:
        """Nobody waits for `future` any more: cancel a task of ours, leave anybody else's future alone."""
        if future in self.tasks:
            future.cancel()


def _leave(body: LargeBody, task: asyncio.Task[Any]) -> None:
    body.leave()


async def _result(awaitable: Awaitable[Response]) -> Response:
    return await awaitable


def failure(request: Request, error: BaseException) -> Response:
    """Log an exception that nobody foresaw and return the answer to it. Neither shows the request's body or fields."""
    log.error(
        "unhandled %s in %s %s",
        type(error).__name__,
        request.method,
        request.path,
        exc_info=(type(error), error, error.__traceback__),
    )
    return _json(500, b'{"code":13,"message":"An internal error occurred"}')


def unavailable() -> Response:
    """Return the answer when the server cannot go on with a request it has begun."""
    return _json(503, b'{"code":14,"message":"The server is stopping"}')


def _json(status: int, body: bytes) -> Response:
    return Response(status, [("content-type", "application/json")], body)


def peer_name(transport: asyncio.BaseTransport) -> str:
    """Return "address:port" of the other side, "[address]:port" for IPv6, "" when there is none."""
    name = transport.get_extra_info("peername")
    if not name or isinstance(name, str | bytes):
        return ""
    return f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"


def half_close(transport: asyncio.Transport, scheme: str) -> None:
    """Say that nothing more will come, and read on where that is possible, so that the peer gets what was sent."""
    if scheme == "http" and transport.can_write_eof() and not transport.is_closing():
        transport.write_eof()
    else:
        transport.close()


def body_deadline(limits: Limits, started: float, last: float, size: int, *, is_large: bool) -> float:
    """Return the time by which more of a body must have come, `size` bytes of which came from `started` to `last`."""
    bytes_per_s = limits.large_bytes_per_s if is_large else limits.body_bytes_per_s
    return min(last + limits.body_idle_s, started + limits.body_idle_s + size / bytes_per_s)
