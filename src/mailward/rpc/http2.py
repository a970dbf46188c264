"""HTTP/2 on one connection: requests to the handler, answers back, and how much a peer may cost."""

from __future__ import annotations

import asyncio
from typing import cast

from mailward.rpc import http2_frames as frames
from mailward.rpc.http import Request, Response
from mailward.rpc.http2_frames import ErrorCode, Fault
from mailward.rpc.http2_head import Head, status_block
from mailward.rpc.http2_intake import Intake
from mailward.rpc.http2_reader import FrameReader
from mailward.rpc.http2_stream import Sender, Stream
from mailward.rpc.http2_turns import Backlog
from mailward.rpc.limits import KIB, Budget
from mailward.rpc.serving import NEVER, Serving, body_deadline, half_close, peer_name

_GATHER = 128 * KIB  #: bytes of answers put together for one write
#: Asks for no more streams and breaks none that is on its way to us (RFC 9113 6.8).
_NO_MORE_STREAMS = frames.goaway(frames.LARGEST_ID, ErrorCode.NO_ERROR)


class Http2Connection(asyncio.Protocol):
    """One connection; it serves its streams at the same time."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        limits = self._limits = serving.limits
        self._transport: asyncio.Transport = None  # type: ignore[assignment]
        self._peer = ""
        self._scheme = "http"
        self.deadline = NEVER

        self._reader = FrameReader(self, limits)
        self._streams = self._reader.streams
        self._out: list[bytes] = [self._reader.greeting()]  #: frames to be written
        self.send = self._out.append
        self._intake = Intake(serving, self._go_on)
        self._sender = Sender(self.send, self._answered)
        self._running = 0
        self._resets = Budget(limits.resets, limits.resets_per_s)
        self._control = Budget(limits.control_frames, limits.control_frames_per_s)
        self._backlog: Backlog = None  # type: ignore[assignment]
        self._settled = False  #: the peer's SETTINGS have come
        self._idle_since = 0.0
        self._draining = self._closing = self._receiving = False
        self._flush_due = self._pump_due = self._paused = False
        self._unsent = 0
        self._unsent_at = 0.0

    # -- the transport ---------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # uvloop's is none by class.
        self._transport = transport
        self._backlog = Backlog(self._serving.loop, transport, self._receive)
        self._peer = peer_name(transport)
        self._scheme = "https" if transport.get_extra_info("ssl_object") is not None else "http"
        self._idle_since = self._serving.loop.time()
        self.deadline = self._idle_since + self._limits.head_s
        self._serving.opened(self)
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self._closing = True
        for stream in list(self._streams.values()):
            self._forget(stream)
        self._serving.closed(self)

    def eof_received(self) -> bool:
        return False

    def data_received(self, data: bytes) -> None:
        self._backlog.add(data)

    def pause_writing(self) -> None:
        self._paused = True
        self._unsent = self._transport.get_write_buffer_size()
        self._unsent_at = self._serving.loop.time()
        self.deadline = min(self.deadline, self._unsent_at + self._limits.write_stall_s)

    def resume_writing(self) -> None:
        self._paused = False
        self._pump()
        self._flush()

    # -- the port --------------------------------------------------------------------------------------------------

    def expire(self, now: float) -> None:
        limits = self._limits
        if self._closing or (not self._settled and now >= self._idle_since + limits.head_s):
            self.abort()
            return
        if self._paused:
            unsent = self._transport.get_write_buffer_size()
            if unsent < self._unsent:
                self._unsent, self._unsent_at = unsent, now
            elif now >= self._unsent_at + limits.write_stall_s:
                self.abort()
                return
        for stream in list(self._streams.values()):
            if not stream.complete:
                is_large = stream.large is not None
                due = body_deadline(limits, stream.started, stream.last, stream.size, is_large=is_large)
                if due <= now and not stream.waits_for_room:
                    self._reset(stream, ErrorCode.CANCEL)
            elif stream.id in self._sender.waiting and not self._paused and stream.moved + limits.write_stall_s <= now:
                self._reset(stream, ErrorCode.CANCEL)
        if not self._streams and now >= self._idle_since + limits.idle_s:
            self._goodbye()
            return
        self._flush()
        self._set_deadline(now)

    def _set_deadline(self, now: float) -> None:
        """While there are streams they are looked at every tick; an idle connection is left alone until it is due."""
        if self._closing:
            return
        if not self._settled:
            self.deadline = self._idle_since + self._limits.head_s
        elif self._streams or self._paused:
            self.deadline = now
        else:
            self.deadline = self._idle_since + self._limits.idle_s

    def drain(self) -> None:
        if self._closing or self._draining:
            return
        self._draining = True
        if not self._streams:
            self._goodbye()
            return
        self._flush()
        self._transport.write(_NO_MORE_STREAMS)

    def abort(self) -> None:
        self._closing = True
        self.deadline = NEVER
        self._transport.abort()

    def _goodbye(self, error: ErrorCode = ErrorCode.NO_ERROR) -> None:
        """Send the last GOAWAY and close; read on for a moment, as HTTP/1.1 does."""
        if self._closing:
            return
        self.send(frames.goaway(self._reader.last_id, error))
        self._flush()
        self._closing = self._reader.deaf = True
        self.deadline = self._serving.loop.time() + self._limits.linger_s
        half_close(self._transport, self._scheme)

    # -- reading ---------------------------------------------------------------------------------------------------

    def _receive(self, data: bytes) -> None:
        if self._closing:
            return
        self._receiving = True
        try:
            self._reader.feed(data)
        except Fault as fault:
            self._goodbye(fault.code)
        self._receiving = False
        self._flush_now()

    # What the reader finds; see http2_reader.Receiver.

    def opened(self, stream_id: int, head: Head, ended: bool) -> None:
        if self._running >= self._limits.running:
            self._goodbye(ErrorCode.ENHANCE_YOUR_CALM)
            return
        serving = self._serving
        request = Request(
            head.method, head.target, head.path, head.query, head.headers, b"", self._peer, self._scheme, "2"
        )
        limit = serving.max_body(request.method, request.path)
        stream = Stream(stream_id, request, head.announced, limit, self._sender.stream_window, serving.loop.time())
        self._streams[stream_id] = stream
        if not request.path:
            stream.complete = ended
            self._respond(stream, Response(405))
            return
        stream.conversation = serving.converse(request)
        if stream.conversation is not None:
            self._respond(stream, stream.conversation.head)
        elif head.announced > limit:
            request.too_large = head.announced
            if head.expects or head.announced > self._limits.drained_bytes:
                self._call(stream)
        elif head.expects and not ended:
            self._sender.head(stream_id, status_block(100))
        if ended and not stream.gone:
            self._complete(stream)

    def came(self, stream: Stream, data: bytes, ended: bool) -> None:
        if data:
            self._keep(stream, data, ended)
        elif not ended:
            self.bothered()
        if ended and not stream.gone:
            self._complete(stream)

    def given_up(self, stream: Stream) -> None:
        self._forget(stream)
        self._spend(self._resets)

    def refused(self, stream_id: int, code: ErrorCode) -> None:
        """Reset a stream by the peer's fault, which costs the peer as if it had done so itself (CVE-2025-8671)."""
        stream = self._streams.get(stream_id)
        if stream is not None:
            self._reset(stream, code)
        else:
            self.send(frames.rst_stream(stream_id, code))
            self._reader.close(stream_id, reset=True)
        self._spend(self._resets)

    def configured(self, settings: dict[int, int]) -> None:
        self._settled = True
        if frames.INITIAL_WINDOW_SIZE in settings:
            self._sender.set_stream_window(settings[frames.INITIAL_WINDOW_SIZE], self._streams.values())
            self._pump()

    def widened(self, stream_id: int, increment: int) -> None:
        stream = self._streams.get(stream_id)
        if stream is None and stream_id:
            return
        if not self._sender.widen(stream, increment):
            if stream is None:
                raise Fault(ErrorCode.FLOW_CONTROL_ERROR)
            self.refused(stream_id, ErrorCode.FLOW_CONTROL_ERROR)
        self._pump()

    def bothered(self) -> None:
        self._spend(self._control)

    def parting(self, code: int) -> None:
        if code:
            self._goodbye()
        self._draining = True  # Those streams that are open get their answers.

    def _spend(self, budget: Budget) -> None:
        if not budget.spend(self._serving.loop.time()):
            self._goodbye(ErrorCode.ENHANCE_YOUR_CALM)

    def _keep(self, stream: Stream, data: bytes, ended: bool) -> None:
        """Keep a part of a body until all of it is there, or count it when it is too large; a conversation gets it."""
        size = stream.size
        stream.last = self._serving.loop.time()
        if stream.conversation is not None:
            self._converse(stream, data)
        elif stream.request.too_large or size > stream.limit:
            self._intake.forget(stream)
            stream.request.too_large = max(stream.request.too_large, size)
            if size > self._limits.drained_bytes:
                self._call(stream)
        elif not self._intake.keep(stream, data) and not ended:
            self._reset(stream, ErrorCode.REFUSED_STREAM)

    def _complete(self, stream: Stream) -> None:
        stream.complete = True
        self._intake.finish(stream)
        if stream.conversation is not None:
            self._converse(stream, None)
        elif stream.future is None and not stream.is_open:
            self._call(stream)

    def _converse(self, stream: Stream, data: bytes | None) -> None:
        stream.converse(data)
        if stream.size > stream.limit or len(stream.body) > self._limits.unread_bytes:  # It asks and does not read.
            self._reset(stream, ErrorCode.ENHANCE_YOUR_CALM)
        else:
            self._sender.add(stream, stream.last, at_once=not self._paused)
            self._pump()

    def _go_on(self, stream: Stream) -> None:
        self._reader.give_back(stream)
        self._flush_soon()

    # -- handling --------------------------------------------------------------------------------------------------

    def _call(self, stream: Stream) -> None:
        if stream.future is not None:  # Answered early; the rest of its body is still coming.
            return
        answer = self._serving.call(stream.request)
        if isinstance(answer, Response):
            self._respond(stream, answer)
            return
        stream.future = answer
        self._running += 1
        answer.add_done_callback(lambda future: self._done(stream, future))

    def _done(self, stream: Stream, future: asyncio.Future[Response]) -> None:
        self._running -= 1
        if stream.gone or self._closing:
            if not future.cancelled():
                future.exception()  # Seen; nobody is left to be told.
            return
        self._respond(stream, self._serving.outcome(stream.request, future))

    def _forget(self, stream: Stream, *, reset: bool = False) -> None:
        """The stream is over, whichever way. `reset`: by us."""
        if stream.gone:
            return
        stream.gone = True
        self._intake.forget(stream)
        self._reader.close(stream.id, reset=reset)
        self._sender.discard(stream)
        if stream.future is not None:
            self._serving.give_up(stream.future)
        if not self._streams:
            self._idle_since = self._serving.loop.time()

    def _reset(self, stream: Stream, error: ErrorCode) -> None:
        self.send(frames.rst_stream(stream.id, error))
        self._forget(stream, reset=True)
        self._flush_soon()

    # -- writing ---------------------------------------------------------------------------------------------------

    def _respond(self, stream: Stream, response: Response) -> None:
        serving = self._serving
        if serving.finish is not None:
            serving.finish(stream.request, response)
        block = stream.answer(response, serving.date)
        stream.moved = serving.loop.time()
        self._sender.head(stream.id, block, end=not stream.is_open)
        if stream.is_open:
            self._sender.add(stream, stream.moved, at_once=not self._paused)
            self._pump()
        else:
            self._answered(stream)
        self._flush_soon()

    def _answered(self, stream: Stream) -> None:
        stream.future = None
        if stream.complete:
            self._forget(stream)
        else:  # RFC 9113 8.1: the answer did not need the rest of the request.
            self._reset(stream, ErrorCode.NO_ERROR)

    def _pump(self) -> None:
        """Send what the windows and the peer take, a gulp for every turn of the loop: uvloop pauses us only there."""
        if self._paused or self._closing or self._pump_due or not self._sender.waiting:
            return
        if self._sender.turn(self._serving.loop.time(), _GATHER):
            self._pump_due = True
            self._serving.loop.call_soon(self._pump_on)
        self._flush_soon()

    def _pump_on(self) -> None:
        self._pump_due = False
        self._pump()

    def _flush_soon(self) -> None:
        """Flush when the loop comes round, so that answers that are ready together leave together."""
        if not self._receiving and not self._flush_due:
            self._flush_due = True
            self._serving.loop.call_soon(self._flush_now)

    def _flush_now(self) -> None:
        self._flush_due = False
        if self._closing:
            return
        self._flush()
        if self._draining and not self._streams:
            self._goodbye()
        self._set_deadline(self._serving.now)

    def _flush(self) -> None:
        if self._out and not self._transport.is_closing():
            self._transport.write(b"".join(self._out))
            if self._paused and self._transport.get_write_buffer_size() > self._limits.unread_bytes:
                self.abort()
        self._out.clear()
