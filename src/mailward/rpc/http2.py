"""HTTP/2 on one connection (RFC 9113), by h2: streams, flow control, and how much a peer may cost."""

from __future__ import annotations

import asyncio
from typing import cast

from h2 import events
from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError

from mailward.rpc.http import Response
from mailward.rpc.http2_lib import Turn, no_more_streams, server_h2
from mailward.rpc.http2_stream import Intake, Sender, Stream, request_of
from mailward.rpc.limits import Budget
from mailward.rpc.serving import NEVER, Serving, body_deadline, half_close, peer_name

_GATHER = 128 * 1024  #: bytes of answers put together for one write


class Http2Connection(asyncio.Protocol):
    """One connection; it serves its streams at the same time."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        limits = self._limits = serving.limits
        self._transport: asyncio.Transport = None  # type: ignore[assignment]
        self._peer = ""
        self._scheme = "http"
        self.deadline = NEVER

        self._h2 = server_h2(limits)
        self._streams: dict[int, Stream] = {}
        self._intake = Intake(self._h2, serving, self._flush_soon)
        self._sender = Sender(self._h2, self._answered, self._forget)
        self._running = 0
        self._resets = Budget(limits.resets, limits.resets_per_s)
        self._control = Budget(limits.control_frames, limits.control_frames_per_s)
        self._backlog = bytearray()  #: read, and not yet handled
        self._turn = Turn()
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
        if self._closing:
            return
        if self._backlog:
            self._backlog += data
        elif len(data) <= self._turn.bytes:
            self._receive(data)
        else:
            self._backlog += data
            self._transport.pause_reading()
            self._work_off()

    def _work_off(self) -> None:
        """Handle a part of what was read, then let the other connections have their turn."""
        if self._closing:
            self._backlog.clear()
            return
        data = bytes(self._backlog[: self._turn.bytes])
        del self._backlog[: self._turn.bytes]
        began = self._serving.loop.time()
        self._receive(data)
        self._turn.took(self._serving.loop.time() - began)
        if self._closing:
            return
        if self._backlog:
            self._serving.loop.call_soon(self._work_off)
        else:
            self._transport.resume_reading()

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
                    self._reset(stream, ErrorCodes.CANCEL)
            elif stream in self._sender and not self._paused and stream.moved + limits.write_stall_s <= now:
                self._reset(stream, ErrorCodes.CANCEL)
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
        self._transport.write(no_more_streams())

    def abort(self) -> None:
        self._closing = True
        self.deadline = NEVER
        self._transport.abort()

    def _goodbye(self, error: ErrorCodes | None = ErrorCodes.NO_ERROR) -> None:
        """Send the last GOAWAY (None: h2 has one ready) and close; read on for a moment, as HTTP/1.1 does."""
        if self._closing:
            return
        self._closing = True
        self.deadline = self._serving.loop.time() + self._limits.linger_s
        if error is not None:
            self._h2.close_connection(error)
        self._flush()
        half_close(self._transport, self._scheme)

    # -- reading ---------------------------------------------------------------------------------------------------

    def _receive(self, data: bytes) -> None:
        try:
            received = self._h2.receive_data(data)
        except ProtocolError:
            self._goodbye(None)
            return
        if self._h2.overlong:
            self._goodbye(ErrorCodes.FRAME_SIZE_ERROR)
            return
        self._receiving = True
        for event in received:
            self._handle(event)
            if self._closing:
                break
        self._receiving = False
        self._flush_now()

    def _handle(self, event: events.Event) -> None:
        match event:
            case events.RequestReceived():
                self._request(event)
            case events.DataReceived():
                self._data(event)
            case events.StreamEnded():
                stream = self._streams.get(event.stream_id)
                if stream is not None and not stream.complete:
                    self._complete(stream)
            case events.StreamReset():
                stream = self._streams.get(event.stream_id)
                if stream is not None:
                    self._forget(stream)
                if not self._resets.spend(self._serving.loop.time()):
                    self._goodbye(ErrorCodes.ENHANCE_YOUR_CALM)
            case events.WindowUpdated():
                self._pump()
            case events.RemoteSettingsChanged():
                self._settled = True
                self._spend_control()
                self._pump()
            case events.PingReceived() | events.PriorityUpdated():
                self._spend_control()
            case events.ConnectionTerminated():
                if event.error_code:
                    self._goodbye()
                self._draining = True  # It will open no more streams; those that are open get their answers.

    def _spend_control(self) -> None:
        if not self._control.spend(self._serving.loop.time()):
            self._goodbye(ErrorCodes.ENHANCE_YOUR_CALM)

    def _request(self, event: events.RequestReceived) -> None:
        assert event.stream_id is not None
        if self._running >= self._limits.running:
            self._goodbye(ErrorCodes.ENHANCE_YOUR_CALM)
            return
        request, announced, expects = request_of(event.headers, self._peer, self._scheme)
        limit = self._serving.max_body(request.method, request.path)
        stream = self._streams[event.stream_id] = Stream(event.stream_id, request, limit, self._serving.loop.time())
        if not request.path:
            self._respond(stream, Response(405))
        elif (conversation := self._serving.converse(request)) is not None:
            stream.conversation = conversation
            self._respond(stream, conversation.head)
        elif event.stream_ended is not None:
            return  # StreamEnded follows.
        elif announced > limit:
            request.too_large = announced
            if expects or announced > self._limits.drained_bytes:
                self._call(stream)
        elif expects:
            self._h2.send_headers(stream.id, [(b":status", b"100")])

    def _data(self, event: events.DataReceived) -> None:
        assert event.stream_id is not None and event.flow_controlled_length is not None
        stream = self._streams.get(event.stream_id)
        self._intake.open_windows(stream, event.stream_id, event.flow_controlled_length)
        if not event.data:
            if event.stream_ended is None:
                self._spend_control()
            return
        if stream is None or stream.complete:
            return
        size = stream.size = stream.size + len(event.data)
        stream.last = self._serving.loop.time()
        if stream.conversation is not None:
            self._converse(stream, bytes(event.data))
            return
        if stream.request.too_large or size > stream.limit:
            self._intake.forget(stream)
            stream.request.too_large = max(stream.request.too_large, size)
            if size > self._limits.drained_bytes:
                self._call(stream)
            return
        if not self._intake.keep(stream, bytes(event.data)) and event.stream_ended is None:
            self._reset(stream, ErrorCodes.REFUSED_STREAM)

    def _complete(self, stream: Stream) -> None:
        stream.complete = True
        self._intake.finish(stream)
        if stream.conversation is not None:
            self._converse(stream, None)
        elif stream.future is None and not stream.gone and not stream.is_open:
            self._call(stream)

    def _converse(self, stream: Stream, data: bytes | None) -> None:
        stream.converse(data)
        if stream.size > stream.limit or len(stream.body) > self._limits.unread_bytes:  # It asks and does not read.
            self._reset(stream, ErrorCodes.ENHANCE_YOUR_CALM)
        else:
            self._sender.add(stream, stream.last, at_once=not self._paused)
            self._pump()

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

    def _forget(self, stream: Stream) -> None:
        """The stream is over, whichever way."""
        if stream.gone:
            return
        stream.gone = True
        self._intake.forget(stream)
        self._streams.pop(stream.id, None)
        self._sender.discard(stream)
        if stream.future is not None:
            self._serving.give_up(stream.future)
        if not self._streams:
            self._idle_since = self._serving.loop.time()

    def _reset(self, stream: Stream, error: ErrorCodes) -> None:
        try:
            self._h2.reset_stream(stream.id, error)
        except ProtocolError:
            pass
        self._forget(stream)
        self._flush_soon()

    # -- writing ---------------------------------------------------------------------------------------------------

    def _respond(self, stream: Stream, response: Response) -> None:
        serving = self._serving
        if serving.finish is not None:
            serving.finish(stream.request, response)
        head = stream.answer(response, serving.date)
        stream.moved = serving.loop.time()
        try:
            self._h2.send_headers(stream.id, head, end_stream=not stream.is_open)
        except ProtocolError:
            self._reset(stream, ErrorCodes.INTERNAL_ERROR)
            return
        if stream.is_open:
            self._sender.add(stream, stream.moved, at_once=not self._paused)
            self._pump()
        else:
            self._answered(stream)
        self._flush_soon()

    def _answered(self, stream: Stream) -> None:
        if not stream.complete:  # RFC 9113 8.1: the answer did not need the rest of the request.
            self._reset(stream, ErrorCodes.NO_ERROR)
        stream.future = None
        self._forget(stream)

    def _pump(self) -> None:
        """Send what the windows and the peer take, a gulp for every turn of the loop: uvloop pauses us only there."""
        if self._paused or self._closing or self._pump_due:
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
        data = self._h2.data_to_send()
        if data and not self._transport.is_closing():
            self._transport.write(data)
            if self._paused and self._transport.get_write_buffer_size() > self._limits.unread_bytes:
                self.abort()
