"""One port for every version of HTTP: listens, tells them apart, and stops without breaking what is under way."""

from __future__ import annotations

import asyncio
import ssl as ssl_module
import time
from collections.abc import Callable
from typing import cast

from mailward import log
from mailward.rpc.http import BodyLimit, Converse, Handler
from mailward.rpc.http1 import Http1Connection
from mailward.rpc.http2 import Http2Connection
from mailward.rpc.http2_frames import PREFACE
from mailward.rpc.limits import Limits
from mailward.rpc.serving import NEVER, Finish, Serving

#: For `SSLContext.set_alpn_protocols`.
ALPN = ("h2", "http/1.1")

_FULL = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_BACKLOG = 4096
_CUT_OFF_S = 1.0  #: what is cut off may take this long to notice


class HttpPort:
    """Listens on one or several addresses and gives every request to one handler."""

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
        """`max_body(method, path)`: bytes; 4 MiB for all by default. `finish`, `converse`: see serving and http."""
        self._serving = Serving(
            handler, max_body=max_body, finish=finish, converse=converse, limits=limits, clock=clock
        )
        self._servers: list[asyncio.AbstractServer] = []
        deadlines = self._serving.limits
        self._tick_s = min(
            1.0, 0.25 * min(deadlines.head_s, deadlines.body_idle_s, deadlines.idle_s, deadlines.write_stall_s)
        )
        self._timer: asyncio.TimerHandle | None = None

    async def start(self, host: str, port: int, ssl: ssl_module.SSLContext | None = None) -> int:
        """Listen on `host` (name or address) and `port` (0 = any free one); return the port.

        May be called again for further addresses. With `ssl` the port speaks TLS only; the context is told our ALPN
        protocols. Raises OSError when the address cannot be had.
        """
        serving = self._serving
        if ssl is not None:
            ssl.set_alpn_protocols(ALPN)
        server = await serving.loop.create_server(
            lambda: _Newcomer(serving),
            host,
            port,
            ssl=ssl,
            backlog=_BACKLOG,
            ssl_handshake_timeout=serving.limits.head_s if ssl is not None else None,
            ssl_shutdown_timeout=serving.limits.linger_s if ssl is not None else None,
        )
        self._servers.append(server)
        if self._timer is None:
            self._tick()
        bound: int = server.sockets[0].getsockname()[1]
        return bound

    def _tick(self) -> None:
        serving = self._serving
        serving.tick()
        now = serving.now
        for connection in [one for one in serving.connections if one.deadline <= now]:
            connection.expire(now)
        self._timer = serving.loop.call_later(self._tick_s, self._tick)

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._serving.connections)

    async def stop(self, deadline_s: float) -> bool:
        """Refuse new connections, close idle ones, let calls under way finish; return when all is quiet.

        After `deadline_s` what is left is cut off; then False is returned.
        """
        serving = self._serving
        serving.draining = True
        for server in self._servers:
            server.close()
        for connection in list(serving.connections):
            connection.drain()
        finished = await self._emptied(deadline_s)
        if not finished:
            for connection in list(serving.connections):
                connection.abort()
            for task in list(serving.tasks):
                task.cancel()
            await self._emptied(_CUT_OFF_S)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._servers.clear()
        return finished

    async def _emptied(self, within_s: float) -> bool:
        try:
            async with asyncio.timeout(within_s):
                await self._serving.empty.wait()
        except TimeoutError:
            return False
        return True


class _Newcomer(asyncio.Protocol):
    """A connection until it is known what it speaks: ALPN says so, or its first bytes do."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self._transport: asyncio.Transport = None  # type: ignore[assignment]
        self._first = b""
        self.deadline = NEVER

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # uvloop's is none by class.
        self._transport = transport
        serving = self._serving
        serving.opened(self)
        self.deadline = serving.loop.time() + serving.limits.head_s
        if len(serving.connections) > serving.limits.connections or serving.draining:
            log.connection_refused(door="http")
            transport.write(_FULL)
            transport.close()
            return
        tls = transport.get_extra_info("ssl_object")
        agreed = tls.selected_alpn_protocol() if tls is not None else None
        if agreed is not None:
            self._become(agreed == "h2")

    def data_received(self, data: bytes) -> None:
        self._first += data
        if len(self._first) < len(PREFACE) and PREFACE.startswith(self._first):
            return
        if not self._transport.is_closing():
            self._become(self._first.startswith(PREFACE))

    def _become(self, is_http2: bool) -> None:
        protocol = Http2Connection(self._serving) if is_http2 else Http1Connection(self._serving)
        protocol.connection_made(self._transport)
        self._serving.closed(self)
        self._transport.set_protocol(protocol)
        if self._first:
            protocol.data_received(self._first)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._serving.closed(self)

    def expire(self, now: float) -> None:
        self.abort()

    def drain(self) -> None:
        self._transport.close()

    def abort(self) -> None:
        self.deadline = NEVER
        self._transport.abort()
