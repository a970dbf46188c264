"""Streams of HTTP/2: what is known of each, and how answers leave as the windows open (RFC 9113 5.2, 8.1)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from mailward.rpc import http2_frames as frames
from mailward.rpc.http import Conversation, Request, Response
from mailward.rpc.http2_frames import DEFAULT_WINDOW, LARGEST_WINDOW, ErrorCode, Fault
from mailward.rpc.http2_head import NO_TABLE, field_block, response_block
from mailward.rpc.large import LargeBody
from mailward.rpc.serving import failure


class Stream:
    """One request and its answer."""

    __slots__ = (
        "announced", "at", "body", "chunks", "complete", "conversation", "future", "gone", "held", "id", "large",
        "last", "limit", "moved", "request", "size", "started", "taken", "trailers", "window",
    )  # fmt: skip

    def __init__(self, stream_id: int, request: Request, announced: int, limit: int, window: int, now: float) -> None:
        self.id = stream_id
        self.request = request
        self.announced = announced  #: bytes its body is to have; -1 = not said
        self.limit = limit  #: bytes its body may have
        self.chunks: list[bytes] = []
        self.size = 0
        self.taken = 0  #: bytes that came and that no WINDOW_UPDATE has given back
        self.large: LargeBody | None = None  #: the body, once it is a large one
        self.held = 0  #: what we have added to Serving.buffered
        self.started = self.last = now
        self.complete = False  #: the request has come in full
        self.future: asyncio.Future[Response] | None = None
        self.conversation: Conversation | None = None  #: which is still going on
        self.gone = False  #: reset, or answered in full
        self.body = b""  #: of the answer
        self.at = 0  #: bytes of it that are sent
        self.trailers: bytes | None = None  #: their block
        self.window = window  #: bytes that the peer takes; below zero when it has changed its mind
        self.moved = 0.0  #: loop time when the answer last made progress

    @property
    def waits_for_room(self) -> bool:
        """Whether no more of its large body may come for now."""
        return self.large is not None and not self.large.is_admitted

    def answer(self, response: Response, date: str) -> bytes:
        """Take `response` as the answer and return the block of its head."""
        try:
            head = response_block(response, date, is_whole=self.conversation is None)
            trailers = field_block(response.trailers) if response.trailers is not None else None
        except ValueError as error:
            response = failure(self.request, error)
            head, trailers = response_block(response, date), None
        if self.request.method != "HEAD" and response.status != 204 and response.status != 304:
            self.body = response.body
            self.trailers = trailers
        return head

    def converse(self, data: bytes | None) -> None:
        """Hand on what came (None: the client has ended), and add what is said to it to what is to be sent."""
        assert self.conversation is not None
        said, trailers = self.conversation.receive(data)
        self.body, self.at = self.body[self.at :] + said, 0
        if trailers is not None:
            self.trailers, self.conversation = field_block(trailers), None

    @property
    def is_open(self) -> bool:
        """Whether more is to be sent, or may be said later."""
        return bool(self.body) or self.trailers is not None or self.conversation is not None


class Sender:
    """Sends answers: heads at once, bodies as the windows open, a frame of each stream in turn."""

    def __init__(self, send: Callable[[bytes], None], answered: Callable[[Stream], None]) -> None:
        """`answered`: the last frame of a stream's answer was sent."""
        self._send = send
        self._answered = answered
        self._window = DEFAULT_WINDOW  #: of the connection
        self.stream_window = DEFAULT_WINDOW  #: of a new stream
        self._prefix = NO_TABLE  #: of the next block
        self.waiting: dict[int, Stream] = {}

    def head(self, stream_id: int, block: bytes, *, end: bool = False) -> None:
        """Send a head."""
        self._send(frames.headers(stream_id, self._prefix + block, end=end))
        self._prefix = b""

    def add(self, stream: Stream, now: float, *, at_once: bool) -> None:
        """Take a stream whose head is sent. `at_once`: send its first frame, often the only one, without waiting."""
        if not at_once or not self._send_some(stream, now):
            self.waiting[stream.id] = stream

    def discard(self, stream: Stream) -> None:
        self.waiting.pop(stream.id, None)

    def widen(self, stream: Stream | None, increment: int) -> bool:
        """The peer takes more, on a stream or (None) on the connection. Return whether that is possible."""
        if stream is None:
            self._window += increment
            return self._window <= LARGEST_WINDOW
        stream.window += increment
        return stream.window <= LARGEST_WINDOW

    def set_stream_window(self, size: int, streams: Iterable[Stream]) -> None:
        """The peer takes `size` bytes on each stream, those that are open included (RFC 9113 6.9.2). Raises Fault."""
        change, self.stream_window = size - self.stream_window, size
        for stream in streams:
            if not self.widen(stream, change):
                raise Fault(ErrorCode.FLOW_CONTROL_ERROR)

    def turn(self, now: float, most: int) -> int:
        """Send what may be sent, `most` bytes or a little more; return how many bytes that was, 0 = none may be."""
        total = 0
        progress = True
        while progress and total < most:
            progress = False
            for stream in list(self.waiting.values()):
                before = stream.at
                if self._send_some(stream, now):
                    self.waiting.pop(stream.id, None)
                total += stream.at - before
                progress = progress or stream.at > before
                if total >= most:
                    break
        return total

    def _send_some(self, stream: Stream, now: float) -> bool:
        """Send one frame of the body, if a window is open, and the trailers when all of it is out; True when done."""
        left = len(stream.body) - stream.at
        if left:
            size = min(left, stream.window, self._window, frames.MOST_BYTES)
            if size <= 0:
                return False
            is_last = size == left and stream.trailers is None and stream.conversation is None
            part = stream.body[stream.at : stream.at + size]
            self._send(frames.frame(frames.DATA, frames.END_STREAM if is_last else 0, stream.id, part))
            self._window -= size
            stream.window -= size
            stream.at += size
            stream.moved = now
            if size < left:
                return False
        if stream.conversation is not None:
            return True
        if stream.trailers is not None:
            self._send(frames.headers(stream.id, stream.trailers, end=True))
        self._answered(stream)
        return True
