"""What HTTP/2 demands of a peer (RFC 9113), and what becomes of one that does not keep to it."""

import asyncio
import struct

import pytest
from h2.events import DataReceived, ResponseReceived
from h2.settings import SettingCodes
from hpack import Encoder

from mailward.rpc.http import Handler, Request, Response
from mailward.rpc.http2_frames import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    WITH_PRIORITY,
    ErrorCode,
)
from mailward.rpc.limits import Limits
from tests.support.http import Client2, Echo, frame

Fields = list[tuple[str, str]]

GET: Fields = [(":method", "GET"), (":path", "/"), (":scheme", "http"), (":authority", "a")]
POST: Fields = [(":method", "POST"), *GET[1:]]


def block(fields: Fields) -> bytes:
    """Return `fields` as no table remembers them."""
    return Encoder().encode([(name, value, True) for name, value in fields])


def head(stream_id: int, fields: Fields, *, end: bool = True) -> bytes:
    return frame(HEADERS, END_HEADERS | (END_STREAM if end else 0), stream_id, block(fields))


def setting(name: int, value: int) -> bytes:
    return frame(SETTINGS, 0, 0, struct.pack(">HL", name, value))


class Peer:
    """A client that sends what it is told, and keeps the frames that come back."""

    def __init__(self, handler: Handler, limits: Limits | None = None, *, settled: bool = True) -> None:
        client = Client2(handler, limits=limits, settled=False)
        self.connection, self.transport = client.connection, client.transport
        self.came: list[tuple[int, int, bytes]] = []  #: type, stream and payload
        if settled:
            self.send(PREFACE + frame(SETTINGS, 0, 0, b""))

    def send(self, data: bytes) -> None:
        self.connection.data_received(data)
        self.receive()

    def receive(self) -> None:
        written = self.transport.take()
        while written:
            size = int.from_bytes(written[:3], "big")
            self.came.append((written[3], int.from_bytes(written[5:9], "big"), written[9 : 9 + size]))
            written = written[9 + size :]

    async def settle(self) -> None:
        for _ in range(100):
            await asyncio.sleep(0)
        self.receive()

    def resets(self, stream_id: int) -> list[ErrorCode]:
        """Return the codes with which the stream was reset."""
        return [code_in(payload) for kind, stream, payload in self.came if (kind, stream) == (RST_STREAM, stream_id)]

    def given(self, stream_id: int) -> int:
        """Return how many bytes of window the stream was given."""
        updates = [one for kind, stream, one in self.came if (kind, stream) == (WINDOW_UPDATE, stream_id)]
        return sum(int.from_bytes(update, "big") for update in updates)

    @property
    def sent_away(self) -> ErrorCode:
        """The code of the GOAWAY that came last, which must be the last frame."""
        kind, _, payload = self.came[-1]
        assert kind == GOAWAY and self.transport.finished
        return code_in(payload[4:])


def code_in(payload: bytes) -> ErrorCode:
    return ErrorCode(int.from_bytes(payload, "big"))


def never(request: Request) -> asyncio.Future[Response]:
    return asyncio.get_running_loop().create_future()


OPEN = head(1, POST, end=False)
ENDED = head(1, POST)  #: its handler is at work

BREACHES = {
    "DATA on no stream": (frame(DATA, 0, 0, b"x"), ErrorCode.PROTOCOL_ERROR),
    "DATA on a stream that was never opened": (frame(DATA, 0, 5, b"x"), ErrorCode.PROTOCOL_ERROR),
    "more padding than payload": (OPEN + frame(DATA, PADDED, 1, b"\x02x"), ErrorCode.PROTOCOL_ERROR),
    "padding without a length": (OPEN + frame(DATA, PADDED, 1, b""), ErrorCode.PROTOCOL_ERROR),
    "HEADERS on no stream": (head(0, GET), ErrorCode.PROTOCOL_ERROR),
    "HEADERS on a stream of ours": (head(2, GET), ErrorCode.PROTOCOL_ERROR),
    "HEADERS on a stream passed over": (head(5, GET) + head(3, GET), ErrorCode.PROTOCOL_ERROR),
    "HEADERS on a stream that has ended": (ENDED + head(1, GET), ErrorCode.STREAM_CLOSED),
    "HEADERS on a stream that was given up": (
        OPEN + frame(RST_STREAM, 0, 1, bytes(4)) + head(1, GET),
        ErrorCode.STREAM_CLOSED,
    ),
    "no header block": (frame(HEADERS, END_HEADERS, 1, b"\xff\xff"), ErrorCode.COMPRESSION_ERROR),
    "a field that no table has": (frame(HEADERS, END_HEADERS, 1, b"\xc5"), ErrorCode.COMPRESSION_ERROR),
    "HEADERS too short for its priority": (
        frame(HEADERS, END_HEADERS | WITH_PRIORITY, 1, b"\0\0"),
        ErrorCode.FRAME_SIZE_ERROR,
    ),
    "HEADERS that depends on itself": (
        frame(HEADERS, END_HEADERS | WITH_PRIORITY, 1, b"\0\0\0\1\0" + block(GET)),
        ErrorCode.PROTOCOL_ERROR,
    ),
    "a frame amid a header block": (frame(HEADERS, 0, 1, b"") + frame(PING, 0, 0, bytes(8)), ErrorCode.PROTOCOL_ERROR),
    "an unknown frame amid a header block": (
        frame(HEADERS, 0, 1, b"") + frame(77, 0, 0, b""),
        ErrorCode.PROTOCOL_ERROR,
    ),
    "CONTINUATION of another stream": (
        frame(HEADERS, 0, 1, b"") + frame(CONTINUATION, 0, 3, b""),
        ErrorCode.PROTOCOL_ERROR,
    ),
    "CONTINUATION of nothing": (frame(CONTINUATION, END_HEADERS, 1, block(GET)), ErrorCode.PROTOCOL_ERROR),
    "PRIORITY of no stream": (frame(PRIORITY, 0, 0, bytes(5)), ErrorCode.PROTOCOL_ERROR),
    "PRIORITY of the wrong size": (frame(PRIORITY, 0, 1, bytes(4)), ErrorCode.FRAME_SIZE_ERROR),
    "PRIORITY that depends on itself": (frame(PRIORITY, 0, 7, b"\0\0\0\7\0"), ErrorCode.PROTOCOL_ERROR),
    "RST_STREAM of no stream": (frame(RST_STREAM, 0, 0, bytes(4)), ErrorCode.PROTOCOL_ERROR),
    "RST_STREAM of a stream that was never opened": (frame(RST_STREAM, 0, 1, bytes(4)), ErrorCode.PROTOCOL_ERROR),
    "RST_STREAM of the wrong size": (OPEN + frame(RST_STREAM, 0, 1, bytes(3)), ErrorCode.FRAME_SIZE_ERROR),
    "SETTINGS on a stream": (frame(SETTINGS, 0, 1, b""), ErrorCode.PROTOCOL_ERROR),
    "SETTINGS of a wrong size": (frame(SETTINGS, 0, 0, bytes(5)), ErrorCode.FRAME_SIZE_ERROR),
    "SETTINGS taken, and more": (frame(SETTINGS, 1, 0, bytes(6)), ErrorCode.FRAME_SIZE_ERROR),
    "a push that is neither on nor off": (setting(2, 2), ErrorCode.PROTOCOL_ERROR),
    "a window beyond all": (setting(4, 1 << 31), ErrorCode.FLOW_CONTROL_ERROR),
    "frames too small": (setting(5, 16_383), ErrorCode.PROTOCOL_ERROR),
    "frames too large": (setting(5, 1 << 24), ErrorCode.PROTOCOL_ERROR),
    "PUSH_PROMISE": (frame(PUSH_PROMISE, END_HEADERS, 1, bytes(4)), ErrorCode.PROTOCOL_ERROR),
    "PING on a stream": (frame(PING, 0, 1, bytes(8)), ErrorCode.PROTOCOL_ERROR),
    "PING of the wrong size": (frame(PING, 0, 0, bytes(7)), ErrorCode.FRAME_SIZE_ERROR),
    "GOAWAY on a stream": (frame(GOAWAY, 0, 1, bytes(8)), ErrorCode.PROTOCOL_ERROR),
    "GOAWAY of the wrong size": (frame(GOAWAY, 0, 0, bytes(7)), ErrorCode.FRAME_SIZE_ERROR),
    "WINDOW_UPDATE of the wrong size": (frame(WINDOW_UPDATE, 0, 0, bytes(3)), ErrorCode.FRAME_SIZE_ERROR),
    "WINDOW_UPDATE by nothing": (frame(WINDOW_UPDATE, 0, 0, bytes(4)), ErrorCode.PROTOCOL_ERROR),
    "WINDOW_UPDATE of a stream never opened": (frame(WINDOW_UPDATE, 0, 1, b"\0\0\0\1"), ErrorCode.PROTOCOL_ERROR),
    "a connection's window beyond all": (
        frame(WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff"),
        ErrorCode.FLOW_CONTROL_ERROR,
    ),
    "streams' windows beyond all": (
        ENDED + frame(WINDOW_UPDATE, 0, 1, b"\x7f\xff\0\0") + setting(4, 1 << 20),
        ErrorCode.FLOW_CONTROL_ERROR,
    ),
    "a frame too long": (b"\x00\x40\x01\x00\x00\x00\x00\x00\x01", ErrorCode.FRAME_SIZE_ERROR),
}


@pytest.mark.parametrize("name", BREACHES)
async def test_a_breach_of_the_connections_rules_ends_it(name: str) -> None:
    data, code = BREACHES[name]
    peer = Peer(never)

    peer.send(data)

    assert peer.sent_away is code


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1\r\n\r\n", PREFACE + frame(PING, 0, 0, bytes(8)), PREFACE[:20] + b"XXXX"]
)
async def test_who_does_not_begin_with_preface_and_settings_is_sent_away(data: bytes) -> None:
    peer = Peer(never, settled=False)

    peer.send(data)

    assert peer.sent_away is ErrorCode.PROTOCOL_ERROR


@pytest.mark.parametrize(
    "fields",
    [
        GET[1:],
        [GET[0], *GET[2:]],
        [*GET[:2], GET[3]],
        GET[:3],
        [*GET, (":method", "GET")],
        [*GET, (":status", "200")],
        [("x", "y"), *GET],
        [*GET, ("x", "y"), (":path", "/")],
        [GET[0], (":path", ""), *GET[2:]],
        [*GET, ("X", "y")],
        [*GET, ("a b", "y")],
        [*GET, ("", "y")],
        [*GET, ("x", "a\nb")],
        [*GET, ("x", "a\0b")],
        [*GET, ("x", " a")],
        [*GET, ("x", "a\t")],
        [*GET, ("connection", "close")],
        [*GET, ("transfer-encoding", "chunked")],
        [*GET, ("te", "gzip")],
        [*GET, ("host", "b")],
        [*GET, ("host", "a"), ("host", "a")],
        [*GET, ("content-length", "x")],
        [*GET, ("content-length", "+0")],
        [*GET, ("content-length", "0"), ("content-length", "0")],
        [*GET, ("content-length", "5")],
        [(":method", "CONNECT"), *GET[1:]],
        [(":method", "CONNECT"), (":path", ""), (":authority", "a:1")],
    ],
    ids=lambda fields: " ".join(f"{name}={value!r}" for name, value in fields),
)
async def test_a_malformed_request_is_reset_and_the_connection_lives(fields: Fields) -> None:
    handler = Echo()
    peer = Peer(handler)

    peer.send(head(1, fields))
    peer.send(head(3, GET))

    assert peer.resets(1) == [ErrorCode.PROTOCOL_ERROR]
    assert [request.path for request in handler.requests] == ["/"]


@pytest.mark.parametrize("fields", [[*GET, ("te", "trailers")], [*GET, ("host", "a")], [*GET[:3], ("host", "a")]])
async def test_what_looks_odd_and_is_allowed_is_served(fields: Fields) -> None:
    handler = Echo()
    peer = Peer(handler)

    peer.send(head(1, fields))

    assert [request.headers.get("host") for request in handler.requests] == ["a"]


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        (OPEN + frame(WINDOW_UPDATE, 0, 1, b"\x7f\xff\xff\xff"), ErrorCode.FLOW_CONTROL_ERROR),
        (OPEN + head(1, [("x", "y")], end=False), ErrorCode.PROTOCOL_ERROR),
        (OPEN + head(1, [(":path", "/")]), ErrorCode.PROTOCOL_ERROR),
        (ENDED + frame(DATA, 0, 1, b"x"), ErrorCode.STREAM_CLOSED),
        (OPEN + frame(RST_STREAM, 0, 1, bytes(4)) + frame(DATA, 0, 1, b"x"), ErrorCode.STREAM_CLOSED),
        (head(1, [*POST, ("content-length", "3")], end=False) + frame(DATA, 0, 1, b"four"), ErrorCode.PROTOCOL_ERROR),
        (head(1, [*POST, ("content-length", "3")], end=False) + frame(DATA, 1, 1, b"of"), ErrorCode.PROTOCOL_ERROR),
        (head(1, [*POST, ("content-length", "3")], end=False) + head(1, []), ErrorCode.PROTOCOL_ERROR),
    ],
    ids=["window", "head twice", "trailers", "ended", "given up", "too much", "too little", "nothing"],
)  # fmt: skip
async def test_a_breach_of_a_streams_rules_ends_the_stream(frames: bytes, code: ErrorCode) -> None:
    handler = Echo(never)
    peer = Peer(handler)

    peer.send(frames)

    assert peer.resets(1) == [code]
    assert not peer.connection._streams and not peer.connection._serving.buffered
    peer.send(head(3, GET))
    assert handler.requests[-1].method == "GET"


async def test_frames_that_were_on_their_way_to_a_stream_we_reset_are_not_held_against_anybody() -> None:
    handler = Echo()
    peer = Peer(handler)
    peer.send(head(1, [*POST, ("content-length", "3")], end=False) + frame(DATA, 0, 1, b"four"))

    peer.send(frame(DATA, 0, 1, b"more") + head(1, [("x", "y")]) + frame(RST_STREAM, 0, 1, bytes(4)))
    peer.send(frame(WINDOW_UPDATE, 0, 1, b"\0\0\0\1") + head(3, GET))

    assert peer.resets(1) == [ErrorCode.PROTOCOL_ERROR]
    assert len(handler.requests) == 1 and not peer.transport.finished


async def test_a_stream_too_many_is_refused_and_may_be_asked_again() -> None:
    answers = [asyncio.get_running_loop().create_future() for _ in range(3)]
    peer = Peer(lambda request: answers.pop(), Limits(streams=2))
    first = answers[-1]

    peer.send(head(1, GET) + head(3, GET) + head(5, GET))
    assert peer.resets(5) == [ErrorCode.REFUSED_STREAM]
    first.set_result(Response(200))
    await peer.settle()
    peer.send(head(7, GET))

    assert not answers and not peer.resets(7)


async def test_priority_padding_continuation_and_trailers_are_understood() -> None:
    handler = Echo()
    peer = Peer(handler)
    fields = block(POST)

    peer.send(frame(HEADERS, PADDED | WITH_PRIORITY, 1, b"\3\0\0\0\0\x10" + fields[:5] + bytes(3)))
    peer.send(frame(CONTINUATION, 0, 1, fields[5:6]) + frame(CONTINUATION, END_HEADERS, 1, fields[6:]))
    peer.send(frame(DATA, PADDED, 1, b"\2body\0\0") + frame(77, 0, 0, b"unknown") + head(1, [("grpc-x", "y")]))

    assert [(request.path, request.body) for request in handler.requests] == [("/", b"body")]


async def test_a_head_of_many_frames_is_sent_as_one() -> None:
    client = Client2(Echo(lambda request: Response(200, [(f"x-{n}", "y" * 8_000) for n in range(5)], b"body")))

    stream_id = client.request()

    assert len(dict(client.of(ResponseReceived, stream_id)[0].headers)["x-4"]) == 8_000
    assert [event.data for event in client.of(DataReceived, stream_id)] == [b"body"]


async def test_a_peer_that_wants_no_table_is_told_once_that_we_use_none() -> None:
    """RFC 7541 4.2: whoever lowers the limit waits for us to say that we heard."""
    client = Client2(Echo())
    client.h2.update_settings({SettingCodes.HEADER_TABLE_SIZE: 0})
    client.send()

    first, second = client.request(), client.request()

    assert client.h2.decoder.header_table_size == 0
    for stream_id in (first, second):
        assert dict(client.of(ResponseReceived, stream_id)[0].headers)[":status"] == "200"


async def test_windows_are_given_back_before_they_are_empty() -> None:
    """The client's h2 raises when it may send no more."""
    handler = Echo(lambda request: Response(200))
    client = Client2(handler, max_body=lambda method, path: 1 << 24)
    client.h2.send_headers(1, POST)

    for _ in range(320):  # Five times what may be sent ahead on a stream.
        client.h2.send_data(1, bytes(16_384))
        await client.settle()
    client.h2.end_stream(1)
    await client.settle()

    assert handler.requests[0].size == 320 * 16_384


async def test_a_body_that_waits_for_room_may_not_grow_and_goes_on_when_there_is_some() -> None:
    """Room is for one: the second gets no more window, and is reset when it sends all the same."""
    peer = Peer(never, Limits(large_bytes=1))
    peer.send(b"".join(head(stream_id, POST, end=False) for stream_id in (1, 3, 5)))
    for stream_id in (1, 3, 5):
        for _ in range(65):  # One frame more than makes it large.
            peer.send(frame(DATA, 0, stream_id, bytes(16_384)))
            await peer.settle()

    for _ in range(33):  # One frame more than its window had left.
        peer.send(frame(DATA, 0, 3, bytes(16_384)))
        await peer.settle()
    assert peer.resets(3) == [ErrorCode.FLOW_CONTROL_ERROR]
    given = peer.given(5)
    peer.send(frame(DATA, END_STREAM, 1, b""))
    await peer.settle()

    assert peer.given(5) == 65 * 16_384 > given


# -- floods ------------------------------------------------------------------------------------------------------------

FEW = Limits(resets=50, resets_per_s=0.0, control_frames=50, control_frames_per_s=0.0, head_bytes=8_192)


@pytest.mark.parametrize(
    "frames",
    [
        frame(77, 0, 0, b"") * 60,
        frame(SETTINGS, 1, 0, b"") * 60,
        OPEN + frame(RST_STREAM, 0, 1, bytes(4)) * 60,
        b"".join(head(1 + 2 * n, GET[1:]) for n in range(60)),
        b"".join(head(1 + 2 * n, GET) + frame(WINDOW_UPDATE, 0, 1 + 2 * n, b"\x7f\xff\xff\xff") for n in range(60)),
        frame(HEADERS, 0, 1, b"") + frame(CONTINUATION, 0, 1, b"") * 70,
        frame(HEADERS, 0, 1, b"") + frame(CONTINUATION, 0, 1, bytes(3_000)) * 3,
        frame(HEADERS, END_HEADERS, 1, block([("x", "y" * 9_000)])),
        frame(HEADERS, END_HEADERS, 1, Encoder().encode([("x", "y" * 4_000)]) + b"\xbe" * 100),
    ],
    ids=["unknown", "acks", "resets", "malformed", "reset by us", "continuation", "long head", "long field", "bomb"],
)  # fmt: skip
async def test_floods_end_the_connection(frames: bytes) -> None:
    """CVE-2023-44487 (resets), CVE-2025-8671 (having us reset), CVE-2024-27316 (CONTINUATION), and HPACK bombs."""
    peer = Peer(never, FEW)

    peer.send(frames)
    await peer.settle()

    assert peer.sent_away is ErrorCode.ENHANCE_YOUR_CALM
    assert not peer.connection._serving.buffered


async def test_heads_that_are_equal_share_what_was_decoded_and_not_the_request() -> None:
    handler = Echo()
    peer = Peer(handler)

    peer.send(head(1, POST, end=False) + frame(DATA, END_STREAM, 1, b"one"))
    peer.send(head(3, POST, end=False) + frame(DATA, END_STREAM, 3, b"two"))

    first, second = handler.requests
    assert first.headers is second.headers
    assert (first.body, second.body) == (b"one", b"two")
