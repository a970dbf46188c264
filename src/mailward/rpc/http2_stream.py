"""One stream of HTTP/2: its request out of header fields, its answer into header fields and DATA (RFC 9113 8)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from h2.connection import H2Connection
from h2.exceptions import ProtocolError

from mailward.rpc.http import Conversation, Headers, Request, Response, split_target
from mailward.rpc.large import LARGE_BYTES, LargeBody
from mailward.rpc.serving import Serving, failure

#: Fields that belong to one connection of HTTP/1.1 (RFC 9113 8.2.2).
_DROPPED = frozenset(("connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"))

#: Of DATA that we put into one frame; every peer takes as many, and small frames let streams take turns.
_FRAME_BYTES = 16_384


class Stream:
    """One request and its answer."""

    __slots__ = (
        "at", "body", "chunks", "complete", "conversation", "future", "gone", "held", "id", "large", "last", "limit",
        "moved", "request", "size", "started", "trailers", "unread",
    )  # fmt: skip

    def __init__(self, stream_id: int, request: Request, limit: int, now: float) -> None:
        self.id = stream_id
        self.request = request
        self.limit = limit  #: bytes its body may have
        self.chunks: list[bytes] = []
        self.size = 0
        self.large: LargeBody | None = None  #: the body, once it is a large one
        self.unread = 0  #: bytes of it for which the peer was given no new window, because it waits for room
        self.held = 0  #: what we have added to Serving.buffered
        self.started = self.last = now
        self.complete = False  #: the request has come in full
        self.future: asyncio.Future[Response] | None = None
        self.conversation: Conversation | None = None  #: which is still going on
        self.gone = False  #: reset, or answered in full
        self.body = b""  #: of the answer
        self.at = 0  #: bytes of it that are sent
        self.trailers: list[tuple[bytes, bytes]] | None = None
        self.moved = 0.0  #: loop time when the answer last made progress

    @property
    def waits_for_room(self) -> bool:
        """Whether no more of its large body may come for now."""
        return self.large is not None and not self.large.is_admitted

    def answer(self, response: Response, date: str) -> list[tuple[bytes, bytes]]:
        """Take `response` as the answer and return its head."""
        try:
            head = response_fields(response, date, is_whole=self.conversation is None)
            trailers = lower_fields(response.trailers) if response.trailers is not None else None
        except ValueError as error:
            response = failure(self.request, error)
            head, trailers = response_fields(response, date), None
        if self.request.method != "HEAD" and response.status not in (204, 304):
            self.body = response.body
            self.trailers = trailers
        return head

    def converse(self, data: bytes | None) -> None:
        """Hand on what came (None: the client has ended), and add what is said to it to what is to be sent."""
        assert self.conversation is not None
        said, trailers = self.conversation.receive(data)
        self.body, self.at = self.body[self.at :] + said, 0
        if trailers is not None:
            self.trailers, self.conversation = lower_fields(trailers), None

    @property
    def is_open(self) -> bool:
        """Whether more is to be sent, or may be said later."""
        return bool(self.body) or self.trailers is not None or self.conversation is not None


class Intake:
    """Keeps what comes of the bodies of one connection's streams, and gives the peer new windows for them."""

    def __init__(self, h2: H2Connection, serving: Serving, flush_soon: Callable[[], None]) -> None:
        self._h2 = h2
        self._serving = serving
        self._flush_soon = flush_soon

    def open_windows(self, stream: Stream | None, stream_id: int, size: int) -> None:
        """Give back the `size` bytes of window that a frame took; that of a stream later if it waits for room."""
        if not size:
            return
        if stream is None or not stream.waits_for_room:
            self._h2.acknowledge_received_data(size, stream_id)
        else:
            stream.unread += size
            self._h2.increment_flow_control_window(size)  # The other streams go on.

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
        if stream.chunks:
            stream.request.body = stream.chunks[0] if len(stream.chunks) == 1 else b"".join(stream.chunks)
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
        size, stream.unread = stream.unread, 0
        stream.started = stream.last = self._serving.loop.time()
        if size and not stream.gone:
            self._h2.increment_flow_control_window(size, stream.id)
            self._flush_soon()


class Sender:
    """Sends the bodies of answers as the windows open, a frame of each stream in turn."""

    def __init__(self, h2: H2Connection, answered: Callable[[Stream], None], gone: Callable[[Stream], None]) -> None:
        """`answered`: the last frame of a stream's answer was sent. `gone`: h2 says that the stream is closed."""
        self._h2 = h2
        self._answered = answered
        self._gone = gone
        self._waiting: dict[int, Stream] = {}

    def __contains__(self, stream: Stream) -> bool:
        return stream.id in self._waiting

    def add(self, stream: Stream, now: float, *, at_once: bool) -> None:
        """Take a stream whose head is sent. `at_once`: send its first frame, often the only one, without waiting."""
        if not at_once or not self._send(stream, now):
            self._waiting[stream.id] = stream

    def discard(self, stream: Stream) -> None:
        self._waiting.pop(stream.id, None)

    def turn(self, now: float, most: int) -> int:
        """Send what may be sent, `most` bytes or a little more; return how many bytes that was, 0 = none may be."""
        total = 0
        progress = True
        while progress and total < most:
            progress = False
            for stream in list(self._waiting.values()):
                before = stream.at
                if self._send(stream, now):
                    self._waiting.pop(stream.id, None)
                total += stream.at - before
                progress = progress or stream.at > before
                if total >= most:
                    break
        return total

    def _send(self, stream: Stream, now: float) -> bool:
        """Send one frame of the body, if a window is open, and the trailers when all of it is out; True when done."""
        h2 = self._h2
        left = len(stream.body) - stream.at
        try:
            if left:
                size = min(left, h2.local_flow_control_window(stream.id), _FRAME_BYTES)
                if size <= 0:
                    return False
                end = size == left and stream.trailers is None and stream.conversation is None
                h2.send_data(stream.id, stream.body[stream.at : stream.at + size], end_stream=end)
                stream.at += size
                stream.moved = now
                if size < left:
                    return False
            if stream.conversation is not None:
                return True
            if stream.trailers is not None:
                h2.send_headers(stream.id, stream.trailers, end_stream=True)
        except ProtocolError:
            self._gone(stream)
            return True
        self._answered(stream)
        return True


def request_of(fields: Iterable[tuple[bytes, bytes]], peer: str, scheme: str) -> tuple[Request, int, bool]:
    """Return the request that `fields` describe, its Content-Length (-1 = none), and whether it expects a 100.

    The path is "" when there is none (CONNECT). h2 has seen to it that nothing is malformed.
    """
    method = target = b""
    raw: list[tuple[bytes, bytes]] = []
    cookies: list[bytes] = []
    authority: bytes | None = None
    announced = -1
    expects = False
    for name, value in fields:
        if name[:1] == b":":
            if name == b":path":
                target = bytes(value)
            elif name == b":method":
                method = bytes(value)
            elif name == b":authority":
                authority = bytes(value)
            continue
        if name == b"cookie":
            cookies.append(bytes(value))
            continue
        if name == b"host":
            authority = authority if authority is not None else bytes(value)
            continue
        if name == b"content-length" and value.isdigit():
            announced = int(value)
        elif name == b"expect":
            expects = value.lower() == b"100-continue"
        raw.append((bytes(name), bytes(value)))
    if authority is not None:
        raw.insert(0, (b"host", authority))
    if cookies:  # RFC 9113 8.2.3
        raw.append((b"cookie", b"; ".join(cookies)))
    path, query = split_target(target) if target else ("", "")
    request = Request(method.decode("latin-1"), target, path, query, Headers(raw), b"", peer, scheme, "2")
    return request, announced, expects


def response_fields(response: Response, date: str, *, is_whole: bool = True) -> list[tuple[bytes, bytes]]:
    """Return :status and the fields to send. Raises ValueError for a line break in one of them.

    `is_whole`: the response's body is all that will be sent.
    """
    fields = [(b":status", b"%d" % response.status), *lower_fields(response.headers)]
    names = {name for name, _ in fields}
    if b"date" not in names:
        fields.append((b"date", date.encode("ascii")))
    has_length = is_whole and response.trailers is None and response.status not in (204, 304)
    if has_length and b"content-length" not in names:
        fields.append((b"content-length", b"%d" % len(response.body)))
    return fields


def lower_fields(fields: list[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    result = []
    for name, value in fields:
        lower = name.lower()
        if lower in _DROPPED:
            continue
        if "\n" in value or "\r" in value or "\0" in value:
            raise ValueError("line break in a header field")
        try:
            result.append((lower.encode("latin-1"), value.encode("latin-1")))
        except UnicodeEncodeError:
            result.append((lower.encode("utf-8"), value.encode("utf-8")))
    return result
