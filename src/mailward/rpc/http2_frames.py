"""Frames of HTTP/2 (RFC 9113 4, 6): how they are called, and those that we send."""

from __future__ import annotations

import struct
from enum import IntEnum

#: What a client sends first that knows the server to speak HTTP/2 (RFC 9113 3.3, 3.4).
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

HEAD_BYTES = 9  #: of a frame, before its payload
MOST_BYTES = 16_384  #: of a payload: what every peer takes, and all that we take (RFC 9113 4.2)
LARGEST_ID = (1 << 31) - 1
LARGEST_WINDOW = (1 << 31) - 1
DEFAULT_WINDOW = 65_535  #: until SETTINGS or WINDOW_UPDATE say otherwise (RFC 9113 6.9.2)

# Types (RFC 9113 6).
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)

# Flags.
END_STREAM = ACK = 0x01
END_HEADERS = 0x04
PADDED = 0x08
WITH_PRIORITY = 0x20

# Settings (RFC 9113 6.5.2).
ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = range(2, 7)


class ErrorCode(IntEnum):
    """Why a stream or a connection ends (RFC 9113 7)."""

    NO_ERROR = 0x00
    PROTOCOL_ERROR = 0x01
    INTERNAL_ERROR = 0x02
    FLOW_CONTROL_ERROR = 0x03
    STREAM_CLOSED = 0x05
    FRAME_SIZE_ERROR = 0x06
    REFUSED_STREAM = 0x07
    CANCEL = 0x08
    COMPRESSION_ERROR = 0x09
    ENHANCE_YOUR_CALM = 0x0B


class Fault(Exception):
    """The peer broke a rule so that the connection cannot go on (RFC 9113 5.4.1)."""

    def __init__(self, code: ErrorCode) -> None:
        super().__init__(code.name)
        self.code = code


_HEAD = struct.Struct(">HBBBL")  # The length has 24 bits.
read_head = _HEAD.unpack_from


def frame(kind: int, flags: int, stream_id: int, payload: bytes) -> bytes:
    """Return one frame; `payload`: MOST_BYTES at most."""
    return _HEAD.pack(len(payload) >> 8, len(payload) & 0xFF, kind, flags, stream_id) + payload


def headers(stream_id: int, block: bytes, *, end: bool) -> bytes:
    """Return the HEADERS frame with this block, and as many CONTINUATIONs as it takes. `end`: of the stream."""
    end_stream = END_STREAM if end else 0
    if len(block) <= MOST_BYTES:
        return frame(HEADERS, END_HEADERS | end_stream, stream_id, block)
    frames = [frame(HEADERS, end_stream, stream_id, block[:MOST_BYTES])]
    for at in range(MOST_BYTES, len(block), MOST_BYTES):
        is_last = at + MOST_BYTES >= len(block)
        frames.append(frame(CONTINUATION, END_HEADERS if is_last else 0, stream_id, block[at : at + MOST_BYTES]))
    return b"".join(frames)


def settings(values: dict[int, int]) -> bytes:
    """Return a SETTINGS frame with these values."""
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HL", name, value) for name, value in values.items()))


def window_update(stream_id: int, increment: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream_id, increment.to_bytes(4, "big"))


def rst_stream(stream_id: int, code: ErrorCode) -> bytes:
    return frame(RST_STREAM, 0, stream_id, code.to_bytes(4, "big"))


def goaway(last_id: int, code: ErrorCode) -> bytes:
    """Return a GOAWAY: streams above `last_id` were not looked at (RFC 9113 6.8)."""
    return frame(GOAWAY, 0, 0, struct.pack(">LL", last_id, code))
