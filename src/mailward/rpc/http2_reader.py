"""HTTP/2 out of bytes, the server's side (RFC 9113 3.4 to 6): frames, states of streams, and what is owed for them."""

from __future__ import annotations

import struct
from typing import Protocol

from mailward.rpc import http2_frames as frames
from mailward.rpc.http2_frames import LARGEST_WINDOW, PREFACE, ErrorCode, Fault
from mailward.rpc.http2_head import Head, HeadReader
from mailward.rpc.http2_stream import Stream
from mailward.rpc.limits import Limits

# Bytes that a peer may send ahead. They are given back by the half of a window as they come, which is why nobody can be
# found to have sent too many on a connection; on a stream it is different while its body waits for room.
_STREAM_WINDOW = 1 << 20
_CONNECTION_WINDOW = 2 << 20
_MOST_PIECES = 64  #: frames of one header block (CVE-2024-27316 and its like)
_CLOSED_REMEMBERED = 500  #: streams at least, for frames of theirs that were on their way
_NOTHING_EXPECTED = -1

_SETTINGS_TAKEN = frames.frame(frames.SETTINGS, frames.ACK, 0, b"")


class Receiver(Protocol):
    """Who gets what the reader finds; called while `feed` runs."""

    def send(self, frame: bytes) -> None:
        """A frame is owed to the peer."""

    def opened(self, stream_id: int, head: Head, ended: bool) -> None:
        """A request begins; with `ended` that is all of it."""

    def came(self, stream: Stream, data: bytes, ended: bool) -> None:
        """The next part of a body, `data` is counted in `stream.size` already; with `ended` the last."""

    def given_up(self, stream: Stream) -> None:
        """The peer has reset an open stream."""

    def refused(self, stream_id: int, code: ErrorCode) -> None:
        """The peer broke a rule that concerns this stream alone (RFC 9113 5.4.2): it is to be reset."""

    def configured(self, settings: dict[int, int]) -> None:
        """The peer's SETTINGS came. Raises Fault."""

    def widened(self, stream_id: int, increment: int) -> None:
        """The peer takes more on this stream, if it is open; 0 = the connection. Raises Fault."""

    def bothered(self) -> None:
        """A frame came that carries nothing."""

    def parting(self, code: int) -> None:
        """The peer will open no more streams."""


class FrameReader:
    """Reads the frames of one connection. Knows no clock: what takes too long is its owner's matter."""

    def __init__(self, receiver: Receiver, limits: Limits) -> None:
        self._receiver = receiver
        self._limits = limits
        self.streams: dict[int, Stream] = {}  #: those that are open; `opened` puts them in, `close` takes them out
        self._closed: dict[int, bool] = {}  #: the last that were closed: whether we reset them
        self.last_id = 0  #: of the streams that the peer has opened
        self.deaf = False  #: whatever comes in from now on is thrown away

        self._rest = b""  #: the beginning of a frame
        self._greeted = False  #: the preface has come
        self._expected = frames.SETTINGS  #: the only type of frame that may come next
        self._heads = HeadReader(limits.head_bytes)
        self._block = bytearray()  #: a header block that CONTINUATION will end ...
        self._block_of = (0, False)  #: ... its stream, and whether it ends that
        self._pieces = 0  #: frames of it that have come
        self._taken = 0  #: bytes of DATA that came and that no WINDOW_UPDATE has given back
        self._on = (
            self._on_data, self._on_headers, self._on_priority, self._on_rst_stream, self._on_settings,
            self._on_push_promise, self._on_ping, self._on_goaway, self._on_window_update, self._on_continuation,
        )  # fmt: skip

    def greeting(self) -> bytes:
        """Return what is sent first: our SETTINGS, and a wider window for the connection."""
        settings = {
            frames.MAX_CONCURRENT_STREAMS: self._limits.streams,
            frames.INITIAL_WINDOW_SIZE: _STREAM_WINDOW,
            frames.MAX_HEADER_LIST_SIZE: self._limits.head_bytes,
        }
        wider = frames.window_update(0, _CONNECTION_WINDOW - frames.DEFAULT_WINDOW)
        return frames.settings(settings) + wider

    def feed(self, data: bytes) -> None:
        """Take the next bytes. Raises Fault; then the connection has to be given up."""
        if self._rest:
            data = self._rest + data
        at = 0
        if not self._greeted:
            if not data.startswith(PREFACE):
                self._rest = data
                if not PREFACE.startswith(data):
                    raise Fault(ErrorCode.PROTOCOL_ERROR)
                return
            self._greeted = True
            at = len(PREFACE)
        end = len(data)
        while end - at >= frames.HEAD_BYTES and not self.deaf:
            high, low, kind, flags, stream_id = frames.read_head(data, at)
            size = high << 8 | low
            if size > frames.MOST_BYTES:
                raise Fault(ErrorCode.FRAME_SIZE_ERROR)
            stop = at + frames.HEAD_BYTES + size
            if stop > end:
                break
            self._frame(kind, flags, stream_id & frames.LARGEST_ID, data[at + frames.HEAD_BYTES : stop])
            at = stop
        self._rest = data[at:]

    def close(self, stream_id: int, *, reset: bool) -> None:
        """The stream is over. `reset`: by us; so the peer may send more of it before it learns that."""
        self.streams.pop(stream_id, None)
        self._closed[stream_id] = reset
        if len(self._closed) > 2 * _CLOSED_REMEMBERED:
            self._closed = dict(list(self._closed.items())[_CLOSED_REMEMBERED:])

    def _frame(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if self._expected != _NOTHING_EXPECTED and kind != self._expected:
            raise Fault(ErrorCode.PROTOCOL_ERROR)
        if kind < len(self._on):
            self._on[kind](flags, stream_id, payload)
        else:
            self._receiver.bothered()  # RFC 9113 5.5

    def _is_idle(self, stream_id: int) -> bool:
        """Whether the stream was never opened; even ones would be ours to open."""
        return stream_id > self.last_id or not stream_id & 1

    # -- requests --------------------------------------------------------------------------------------------------

    def _on_headers(self, flags: int, stream_id: int, payload: bytes) -> None:
        if flags & (frames.PADDED | frames.WITH_PRIORITY):
            payload = _unpadded(flags, payload)
            if flags & frames.WITH_PRIORITY:
                _check_priority(stream_id, payload[:5])
                payload = payload[5:]
        ended = bool(flags & frames.END_STREAM)
        if flags & frames.END_HEADERS:
            self._head(stream_id, ended, payload)
            return
        self._expected = frames.CONTINUATION
        self._block_of = stream_id, ended
        self._block[:] = payload
        self._pieces = 1

    def _on_continuation(self, flags: int, stream_id: int, payload: bytes) -> None:
        if self._expected != frames.CONTINUATION or stream_id != self._block_of[0]:
            raise Fault(ErrorCode.PROTOCOL_ERROR)
        self._block += payload
        self._pieces += 1
        if len(self._block) > self._limits.head_bytes or self._pieces > _MOST_PIECES:
            raise Fault(ErrorCode.ENHANCE_YOUR_CALM)
        if flags & frames.END_HEADERS:
            self._expected = _NOTHING_EXPECTED
            self._head(*self._block_of, bytes(self._block))
            self._block.clear()

    def _head(self, stream_id: int, ended: bool, block: bytes) -> None:
        stream = self.streams.get(stream_id)
        if stream is not None:
            self._trailers(stream, ended, block)
            return
        if stream_id <= self.last_id and stream_id & 1:  # Closed, or passed over, which closes it (RFC 9113 5.1.1).
            if not self._closed.get(stream_id, False):
                raise Fault(ErrorCode.STREAM_CLOSED if stream_id in self._closed else ErrorCode.PROTOCOL_ERROR)
            self._heads.trailers(block)  # They were on their way; the table has to know them.
            return
        if not stream_id & 1:
            raise Fault(ErrorCode.PROTOCOL_ERROR)
        self.last_id = stream_id
        head = self._heads.request(block)
        if head is None or (ended and head.announced > 0):
            self._receiver.refused(stream_id, ErrorCode.PROTOCOL_ERROR)
        elif len(self.streams) >= self._limits.streams:
            self._receiver.refused(stream_id, ErrorCode.REFUSED_STREAM)
        else:
            self._receiver.opened(stream_id, head, ended)

    def _trailers(self, stream: Stream, ended: bool, block: bytes) -> None:
        if stream.complete:
            raise Fault(ErrorCode.STREAM_CLOSED)
        if not self._heads.trailers(block) or not ended:
            self._receiver.refused(stream.id, ErrorCode.PROTOCOL_ERROR)
            return
        self._body(stream, b"", True)

    def _on_data(self, flags: int, stream_id: int, payload: bytes) -> None:
        size = len(payload)
        if flags & frames.PADDED:
            payload = _unpadded(flags, payload)
        self._taken += size
        if self._taken > _CONNECTION_WINDOW // 2:
            self._receiver.send(frames.window_update(0, self._taken))
            self._taken = 0
        stream = self.streams.get(stream_id)
        if stream is None or stream.complete:
            if self._is_idle(stream_id):
                raise Fault(ErrorCode.PROTOCOL_ERROR)
            if not self._closed.get(stream_id, False):
                self._receiver.refused(stream_id, ErrorCode.STREAM_CLOSED)
            return
        ended = bool(flags & frames.END_STREAM)
        stream.taken += size
        if stream.taken > _STREAM_WINDOW // 2 and not ended:
            if stream.taken > _STREAM_WINDOW:
                self._receiver.refused(stream_id, ErrorCode.FLOW_CONTROL_ERROR)
                return
            if not stream.waits_for_room:
                self.give_back(stream)
        self._body(stream, payload, ended)

    def give_back(self, stream: Stream) -> None:
        """Let the peer send as much more of this stream as has come of it."""
        if stream.taken:
            self._receiver.send(frames.window_update(stream.id, stream.taken))
            stream.taken = 0

    def _body(self, stream: Stream, data: bytes, ended: bool) -> None:
        size = stream.size = stream.size + len(data)
        if stream.announced >= 0 and (size > stream.announced or (ended and size < stream.announced)):
            self._receiver.refused(stream.id, ErrorCode.PROTOCOL_ERROR)  # RFC 9113 8.1.1
        else:
            self._receiver.came(stream, data, ended)

    def _on_rst_stream(self, flags: int, stream_id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise Fault(ErrorCode.FRAME_SIZE_ERROR)
        if self._is_idle(stream_id):
            raise Fault(ErrorCode.PROTOCOL_ERROR)
        stream = self.streams.get(stream_id)
        if stream is not None:
            self._receiver.given_up(stream)
        else:
            self._receiver.bothered()

    def _on_priority(self, flags: int, stream_id: int, payload: bytes) -> None:
        if not stream_id:
            raise Fault(ErrorCode.PROTOCOL_ERROR)
        _check_priority(stream_id, payload)
        self._receiver.bothered()

    def _on_push_promise(self, flags: int, stream_id: int, payload: bytes) -> None:
        raise Fault(ErrorCode.PROTOCOL_ERROR)  # RFC 9113 8.4: no client may.

    # -- the connection --------------------------------------------------------------------------------------------

    def _on_settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise Fault(ErrorCode.PROTOCOL_ERROR)
        if len(payload) % 6 or (flags & frames.ACK and payload):
            raise Fault(ErrorCode.FRAME_SIZE_ERROR)
        self._receiver.bothered()
        if flags & frames.ACK:
            return
        self._expected = _NOTHING_EXPECTED
        settings = dict(struct.iter_unpack(">HL", payload))  # Of one that is given twice the last counts.
        if settings.get(frames.ENABLE_PUSH, 0) > 1:
            raise Fault(ErrorCode.PROTOCOL_ERROR)
        if settings.get(frames.INITIAL_WINDOW_SIZE, 0) > LARGEST_WINDOW:
            raise Fault(ErrorCode.FLOW_CONTROL_ERROR)
        if not frames.MOST_BYTES <= settings.get(frames.MAX_FRAME_SIZE, frames.MOST_BYTES) < 1 << 24:
            raise Fault(ErrorCode.PROTOCOL_ERROR)
        self._receiver.send(_SETTINGS_TAKEN)  # Before the DATA that they may set free.
        self._receiver.configured(settings)

    def _on_ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise Fault(ErrorCode.PROTOCOL_ERROR)
        if len(payload) != 8:
            raise Fault(ErrorCode.FRAME_SIZE_ERROR)
        self._receiver.bothered()
        if not flags & frames.ACK:
            self._receiver.send(frames.frame(frames.PING, frames.ACK, 0, payload))

    def _on_goaway(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise Fault(ErrorCode.PROTOCOL_ERROR)
        if len(payload) < 8:
            raise Fault(ErrorCode.FRAME_SIZE_ERROR)
        self._receiver.parting(int.from_bytes(payload[4:8], "big"))

    def _on_window_update(self, flags: int, stream_id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise Fault(ErrorCode.FRAME_SIZE_ERROR)
        increment = int.from_bytes(payload, "big") & LARGEST_WINDOW
        if not increment or (stream_id and self._is_idle(stream_id)):
            raise Fault(ErrorCode.PROTOCOL_ERROR)
        self._receiver.widened(stream_id, increment)


def _unpadded(flags: int, payload: bytes) -> bytes:
    """Return the payload without its padding (RFC 9113 6.1). Raises Fault."""
    if not flags & frames.PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise Fault(ErrorCode.PROTOCOL_ERROR)
    return payload[1 : len(payload) - payload[0]]


def _check_priority(stream_id: int, fields: bytes) -> None:
    """Look at what nobody heeds any more (RFC 9113 5.3.2) but RFC 7540 had rules for. Raises Fault."""
    if len(fields) != 5:
        raise Fault(ErrorCode.FRAME_SIZE_ERROR)
    if int.from_bytes(fields[:4], "big") & frames.LARGEST_ID == stream_id:
        raise Fault(ErrorCode.PROTOCOL_ERROR)
