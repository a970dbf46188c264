"""Bodies of requests over HTTP/2, kept as they come; a large one waits for room."""

from __future__ import annotations

from collections.abc import Callable

from mailward.rpc.http2_stream import Stream
from mailward.rpc.large import LARGE_BYTES, LargeBody
from mailward.rpc.serving import Serving


class Intake:
    """Keeps what comes of the bodies of one connection's streams."""

    def __init__(self, serving: Serving, go_on: Callable[[Stream], None]) -> None:
        """`go_on`: more of this stream's body may come, after it was full."""
        self._serving = serving
        self._go_on = go_on

    def keep(self, stream: Stream, octets: bytes) -> bool:
        """Keep what came of the body; False: all connections of the port hold too much."""
        if stream.large is not None:
            stream.large.add(octets)
            return True
        stream.chunks.append(octets)
        if stream.size > LARGE_BYTES:
            chunks = stream.chunks
            self.forget(stream)
            stream.large = LargeBody(self._serving.room, stream.limit, lambda: self._admitted(stream))
            for chunk in chunks:
                stream.large.add(chunk)
            return True
        self._serving.buffered += stream.size - stream.held
        stream.held = stream.size
        return self._serving.buffered <= self._serving.limits.buffered_bytes

    def finish(self, stream: Stream) -> None:
        """All of the body has come: it is the request's."""
        stream.request.large, stream.large = stream.large, None
        stream.request.body = b"".join(stream.chunks)
        self.forget(stream)

    def forget(self, stream: Stream) -> None:
        """Keep nothing of the body."""
        stream.chunks = []
        self._serving.buffered -= stream.held
        stream.held = 0
        if stream.large is not None:
            stream.large.leave()
            stream.large = None

    def _admitted(self, stream: Stream) -> None:
        stream.started = stream.last = self._serving.loop.time()
        if not stream.gone and not stream.complete:
            self._go_on(stream)
