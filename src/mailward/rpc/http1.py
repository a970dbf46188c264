"""HTTP/1.1 and 1.0 on one connection: requests to the handler in order, answers back in the same order."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import cast

from mailward.rpc.http import Request, Response
from mailward.rpc.http1_head import bare_answer, response_head
from mailward.rpc.http1_reader import Reading, RequestReader
from mailward.rpc.large import LargeBody
from mailward.rpc.serving import NEVER, Serving, body_deadline, failure, peer_name

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_BURST = 64 * 1024  #: bytes of answers written before the transport is asked how it copes


class Http1Connection(asyncio.Protocol):
    """One connection. Requests that arrive together (pipelining) are handled one after the other."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self._limits = serving.limits
        self._transport: asyncio.Transport = None  # type: ignore[assignment]
        self._reader: RequestReader = None  # type: ignore[assignment]
        self._is_tls = False
        self.deadline = NEVER
        self._phase = (0, Reading.NOTHING)  #: which request was being read when we last looked, and what of it
        self._phase_at = 0.0  #: loop time when we first saw it so
        self._held = 0  #: what we have added to Serving.buffered

        # What waits for an answer.
        self._queue: deque[tuple[Request, bool]] = deque()  #: read but not begun, with keep-alive
        self._current: tuple[Request, bool] | None = None
        self._future: asyncio.Future[Response] | None = None
        self._owes_continue = False
        self._fault = 0  #: status with which to end the connection once everything before it is answered

        # The way out.
        self._ended = False  #: the peer has sent its last byte
        self._closing = False  #: the last answer is written, or the connection lost
        self._paused = False  #: the peer does not take what we write
        self._burst = 0  #: bytes of answers written since the loop last came round
        self._crowded = False  #: they are many: uvloop pauses us only when it comes round
        self._unsent = 0  #: bytes waiting when we last looked
        self._stopped_reading = False
        self._waits_for_room = False  #: for a large body, and reads nothing meanwhile

    # -- the transport ---------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        serving = self._serving
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by class.
        self._is_tls = transport.get_extra_info("ssl_object") is not None
        scheme = "https" if self._is_tls else "http"
        self._reader = RequestReader(self, self._limits, serving.max_body, peer_name(transport), scheme)
        self.deadline = serving.loop.time() + self._limits.head_s
        serving.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._closing = True
        self._reader.stop()
        self._hold(0)
        self._forget_queue()
        if self._future is not None:
            self._serving.give_up(self._future)
        self._serving.closed(self)

    def eof_received(self) -> bool:
        """The peer sends no more; it may still read. Returns whether to keep our half open (TLS cannot)."""
        self._ended = True
        self._reader.stop()
        if self._current is None and not self._queue:
            return False
        # The answer to the last request that came is the last one.
        if self._queue:
            self._queue[-1] = (self._queue[-1][0], False)
        elif self._current is not None:
            self._current = (self._current[0], False)
        return not self._is_tls

    def data_received(self, data: bytes) -> None:
        reader = self._reader
        if reader.deaf:
            return
        self._burst = 0
        reader.feed(data)
        if reader.reading is not Reading.NOTHING or self._held:
            self._note_progress()
        if reader.fault:
            self._end_with(reader.fault)
        self._set_deadline()

    def _note_progress(self) -> None:
        """The bytes at hand end within a request: note since when, and whether it can be kept."""
        reader = self._reader
        phase = (reader.begun, reader.reading)
        if phase != self._phase:
            self._phase = phase
            self._phase_at = self._serving.loop.time()
        if not self._hold(reader.held):
            self._end_with(503)
        if reader.large is not None and not reader.large.is_admitted and not self._waits_for_room:
            self._waits_for_room = True
            self._transport.pause_reading()

    def _hold(self, size: int) -> bool:
        """Account for `size` bytes of an unfinished body; False when all connections together hold too much."""
        self._serving.buffered += size - self._held
        self._held = size
        return self._serving.buffered <= self._limits.buffered_bytes

    def pause_writing(self) -> None:
        self._paused = True
        self._unsent = self._transport.get_write_buffer_size()
        self._set_deadline()

    def resume_writing(self) -> None:
        self._paused = False
        self._next()
        self._set_deadline()

    # -- the port --------------------------------------------------------------------------------------------------

    def expire(self, now: float) -> None:
        if self._paused or self._closing:
            unsent = self._transport.get_write_buffer_size()
            if unsent < self._unsent:  # Slow, but it moves.
                self._unsent = unsent
                self.deadline = now + self._limits.write_stall_s
            else:
                self.abort()
        elif self._reader.reading is not Reading.NOTHING:
            self._end_with(408)
        else:
            self._close(now)

    def drain(self) -> None:
        idle = self._current is None and not self._queue and self._reader.reading is Reading.NOTHING
        if idle and not self._closing:
            self._close(self._serving.loop.time())

    def abort(self) -> None:
        self._closing = True
        self.deadline = NEVER
        self._transport.abort()

    def _close(self, now: float) -> None:
        self._closing = True
        self._reader.stop()
        self._note_unsent(now)
        self._transport.close()

    def _note_unsent(self, now: float) -> None:
        self._unsent = self._transport.get_write_buffer_size()
        self.deadline = now + (self._limits.write_stall_s if self._unsent else self._limits.linger_s)

    def _set_deadline(self) -> None:
        if self._closing:
            return
        limits = self._limits
        reading = self._reader.reading
        if self._waits_for_room:
            self.deadline = NEVER
        elif self._paused:
            self.deadline = self._serving.loop.time() + limits.write_stall_s
        elif reading is Reading.NOTHING or self._stopped_reading:
            if self._current is not None or self._queue:
                self.deadline = NEVER
            else:
                self.deadline = self._serving.now + limits.idle_s
        elif reading is Reading.HEAD:
            self.deadline = self._phase_at + limits.head_s
        else:
            now = self._serving.loop.time()
            reader = self._reader
            self.deadline = body_deadline(limits, self._phase_at, now, reader.size, is_large=reader.large is not None)

    # -- handling --------------------------------------------------------------------------------------------------

    def wants_continue(self) -> None:
        if self._current is None and not self._queue:
            self._transport.write(_CONTINUE)
        else:
            self._owes_continue = True

    def large_body(self, size: int) -> LargeBody:
        return LargeBody(self._serving.room, size, self._admitted)

    def _admitted(self) -> None:
        if self._waits_for_room:
            self._waits_for_room = False
            self._phase_at = self._serving.loop.time()
            if not self._stopped_reading:
                self._transport.resume_reading()
            self._set_deadline()

    def arrived(self, request: Request, keep_alive: bool) -> None:
        self._owes_continue = False
        if self._current is None and not self._queue and not self._paused and not self._crowded:
            self._begin(request, keep_alive)
            return
        self._queue.append((request, keep_alive))
        if not self._stopped_reading:  # Whoever pipelines waits; what is read already is bounded by one read.
            self._stopped_reading = True
            self._transport.pause_reading()

    def _begin(self, request: Request, keep_alive: bool) -> None:
        answer = self._serving.call(request)
        if isinstance(answer, Response):
            self._write(request, answer, keep_alive)
            return
        self._current = (request, keep_alive)
        self._future = answer
        answer.add_done_callback(self._done)

    def _done(self, future: asyncio.Future[Response]) -> None:
        current = self._current
        assert current is not None
        self._current = self._future = None
        request, keep_alive = current
        if self._closing:
            if not future.cancelled():
                future.exception()  # Seen; nobody is left to be told.
            return
        self._burst = 0
        self._write(request, self._serving.outcome(request, future), keep_alive)
        self._next()
        self._set_deadline()

    def _next(self) -> None:
        """Go on with what waits for the answer just written."""
        while not self._held_up and self._queue:
            self._begin(*self._queue.popleft())
        if self._held_up:
            return
        if self._fault:
            self._end_with(self._fault)
            return
        if self._owes_continue:
            self._owes_continue = False
            self._transport.write(_CONTINUE)
        if self._stopped_reading:
            self._stopped_reading = False
            self._phase_at = self._serving.loop.time()
            if not self._waits_for_room:
                self._transport.resume_reading()

    def _forget_queue(self) -> None:
        for request, _ in self._queue:
            if request.large is not None:
                request.large.leave()
        self._queue.clear()

    @property
    def _held_up(self) -> bool:
        return self._current is not None or self._paused or self._crowded or self._closing

    # -- writing ---------------------------------------------------------------------------------------------------

    def _write(self, request: Request, response: Response, keep_alive: bool) -> None:
        serving = self._serving
        if serving.finish is not None:
            serving.finish(request, response)
        if serving.draining and not self._queue:
            keep_alive = False
        try:
            head = response_head(response, request.http_version, keep_alive, serving.date_line)
        except ValueError as error:
            response = failure(request, error)
            head = response_head(response, request.http_version, keep_alive, serving.date_line)
        if response.body and request.method != "HEAD" and response.status != 204 and response.status != 304:
            self._transport.write(head + response.body)
            self._burst += len(response.body)
            if self._burst > _BURST and not self._crowded:
                self._crowded = True
                serving.loop.call_soon(self._uncrowd)
        else:
            self._transport.write(head)
        if not keep_alive:
            self._finish()

    def _uncrowd(self) -> None:
        self._crowded = False
        self._burst = 0
        self._next()
        self._set_deadline()

    def _end_with(self, status: int) -> None:
        """Answer `status` after everything that came before, and close."""
        self._reader.stop()
        self._hold(0)
        self._fault = status
        if self._current is None and not self._queue and not self._paused and not self._closing:
            self._transport.write(bare_answer(status, self._serving.date_line))
            self._finish()

    def _finish(self) -> None:
        """Close after the last answer, but read on for a moment, or the peer may see a reset before the answer."""
        self._closing = True
        self._reader.stop()
        self._forget_queue()
        self._note_unsent(self._serving.loop.time())
        if self._ended or self._is_tls or not self._transport.can_write_eof():
            self._transport.close()
            return
        if self._stopped_reading or self._waits_for_room:
            self._stopped_reading = self._waits_for_room = False
            self._transport.resume_reading()
        self._transport.write_eof()
