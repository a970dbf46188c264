"""HTTP/2 on one connection, by feeding frames."""

import asyncio

import pytest
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    InformationalResponseReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.settings import SettingCodes
from hyperframe.frame import ContinuationFrame, DataFrame, HeadersFrame, PingFrame, PriorityFrame, SettingsFrame

from mailward.rpc.http import Request, Response
from mailward.rpc.http2_turns import Turn
from mailward.rpc.limits import Limits
from tests.support.http import Client2, Echo

POST = [(":method", "POST"), (":path", "/"), (":scheme", "http"), (":authority", "a")]


def future() -> asyncio.Future[Response]:
    return asyncio.get_running_loop().create_future()


def body(client: Client2, stream_id: int) -> bytes:
    return b"".join(event.data for event in client.of(DataReceived, stream_id))


def last_goaway(client: Client2) -> int:
    error: int = client.of(ConnectionTerminated)[-1].error_code
    return error


async def test_a_request_reaches_the_handler_as_over_http_1() -> None:
    handler = Echo()
    client = Client2(handler)

    stream_id = client.request("POST", "/a%2Fb?c=d", body=b"hello", fields={"x-two": "1", "cookie": "a=b"})

    request = handler.requests[0]
    assert (request.method, request.path, request.query, request.body) == ("POST", "/a%2Fb", "c=d", b"hello")
    assert (request.target, request.peer, request.http_version) == (b"/a%2Fb?c=d", "192.0.2.7:4711", "2")
    assert request.headers.get("Host") == "localhost" and request.headers.get("x-two") == "1"
    assert not any(name.startswith(":") for name, _ in request.headers)
    answer = dict(client.of(ResponseReceived, stream_id)[0].headers)
    assert (answer[":status"], answer["content-length"]) == ("200", "5") and "date" in answer
    assert body(client, stream_id) == b"hello"
    assert len(client.of(StreamEnded, stream_id)) == 1


async def test_cookies_sent_one_by_one_are_one_field() -> None:
    handler = Echo()
    client = Client2(handler)

    client.h2.send_headers(
        1,
        [
            (":method", "GET"),
            (":path", "/"),
            (":scheme", "http"),
            (":authority", "a"),
            ("cookie", "a=b"),
            ("cookie", "c=d"),
        ],
        end_stream=True,
    )
    client.send()

    assert [value for name, value in handler.requests[0].headers if name == "cookie"] == ["a=b; c=d"]


async def test_trailers_follow_the_body_and_an_empty_answer_is_one_frame() -> None:
    with_trailers = Response(200, body=b"x", trailers=[("Grpc-Status", "0")])
    client = Client2(Echo(lambda request: with_trailers if request.path == "/1" else Response(200)))

    first = client.request(path="/1")
    second = client.request(path="/2")

    assert [event.headers for event in client.of(TrailersReceived, first)] == [[("grpc-status", "0")]]
    assert client.of(DataReceived, second) == []
    assert client.of(ResponseReceived, second)[0].stream_ended is not None


async def test_head_gets_no_body_and_line_breaks_no_fields() -> None:
    client = Client2(Echo(lambda request: Response(200, [("x", request.headers.get("want"))], b"12345")))

    head = client.request("HEAD")
    broken = client.request()
    client.connection._serving.handler = Echo(lambda request: Response(200, [("x", "a\nb")]))
    split = client.request()

    assert body(client, head) == b"" and len(client.of(StreamEnded, head)) == 1
    assert body(client, broken) == b"12345"
    assert dict(client.of(ResponseReceived, split)[0].headers)[":status"] == "500"


async def test_answers_wait_for_the_windows_and_take_turns() -> None:
    answers = {"/1": b"1" * 100_000, "/2": b"2" * 100_000}
    client = Client2(Echo(lambda request: Response(200, body=answers[request.path])))
    first, second = client.request(path="/1"), client.request(path="/2")

    await client.settle()
    assert len(body(client, first)) + len(body(client, second)) == 65_535
    while not client.of(StreamEnded, second):
        for stream_id in (first, second, None):
            if stream_id is None or not client.of(StreamEnded, stream_id):
                client.h2.increment_flow_control_window(50_000, stream_id)
        client.send()
        await client.settle()

    assert (body(client, first), body(client, second)) == (answers["/1"], answers["/2"])
    order = [event.stream_id for event in client.of(DataReceived)]
    assert order.index(second) < len(order) - 1 - order[::-1].index(first)


async def test_a_window_that_shrinks_below_zero_stops_the_answer() -> None:
    client = Client2(Echo(lambda request: Response(200, body=b"x" * 100_000)))
    stream_id = client.request()

    client.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 0})
    client.send()
    client.h2.increment_flow_control_window(100_000)
    client.send()
    await client.settle()

    assert len(body(client, stream_id)) == 65_535
    client.h2.increment_flow_control_window(200_000, stream_id)
    client.send()
    await client.settle()
    assert len(body(client, stream_id)) == 100_000


async def test_a_peer_that_does_not_read_gets_no_more_than_a_gulp() -> None:
    client = Client2(Echo(lambda request: Response(200, body=b"x" * 10_000_000)))
    client.h2.increment_flow_control_window(20_000_000)
    client.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 20_000_000})
    client.send()
    await client.settle()
    client.connection.pause_writing()
    stream_id = client.request()
    await client.settle()

    assert len(body(client, stream_id)) <= 16_384
    client.transport.unsent = 9_000_000
    for _ in range(100):
        if not client.transport.aborted:
            client.send(PingFrame(0, opaque_data=b"12345678").serialize())
    assert client.transport.aborted


async def test_a_reset_cancels_the_coroutine_and_leaves_a_write_alone() -> None:
    cancelled = []

    async def slow() -> Response:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise
        return Response(200)

    write = future()
    client = Client2(Echo(lambda request: slow() if request.path == "/slow" else write))
    for path in ("/slow", "/write"):
        stream_id = client.request(path=path)
        await client.settle()
        client.h2.reset_stream(stream_id)
        client.send()
        await client.settle()

    assert cancelled == [True] and not write.cancelled()
    write.set_result(Response(200))
    await client.settle()
    assert client.connection._running == 0 and not client.connection._serving.tasks
    client.connection._serving.handler = Echo()
    assert client.of(ResponseReceived, client.request())


async def test_a_body_over_its_limit_is_counted_and_not_kept() -> None:
    handler = Echo(lambda request: Response(413))
    client = Client2(handler, max_body=lambda method, path: 10)

    announced = client.request("POST", body=b"x" * 50, fields={"content-length": "50"})
    counted = client.request("POST", body=b"x" * 60)

    assert [(r.too_large, r.body) for r in handler.requests] == [(50, b""), (60, b"")]
    for stream_id in (announced, counted):
        assert dict(client.of(ResponseReceived, stream_id)[0].headers)[":status"] == "413"


async def test_a_body_too_long_to_be_thrown_away_is_answered_and_told_to_stop() -> None:
    client = Client2(
        Echo(lambda request: Response(413)), limits=Limits(drained_bytes=1_000), max_body=lambda method, path: 10
    )

    client.h2.send_headers(
        1,
        [*POST, ("content-length", "5000")],
    )
    client.send()

    assert dict(client.of(ResponseReceived, 1)[0].headers)[":status"] == "413"
    assert [event.error_code for event in client.of(StreamReset, 1)] == [ErrorCodes.NO_ERROR]


async def test_100_continue_is_sent_when_asked_for() -> None:
    client = Client2(Echo())

    client.h2.send_headers(
        1,
        [*POST, ("expect", "100-continue")],
    )
    client.send()
    client.h2.send_data(1, b"body", end_stream=True)
    client.send()

    assert len(client.of(InformationalResponseReceived, 1)) == 1
    assert body(client, 1) == b"body"


async def test_unfinished_bodies_of_all_connections_share_a_limit() -> None:
    client = Client2(Echo(), limits=Limits(buffered_bytes=1_000))

    client.h2.send_headers(1, POST)
    client.h2.send_data(1, b"x" * 2_000)
    client.send()
    await client.settle()

    assert [event.error_code for event in client.of(StreamReset, 1)] == [ErrorCodes.REFUSED_STREAM]
    assert client.connection._serving.buffered == 0


async def test_a_slow_body_is_reset_and_the_connection_lives() -> None:
    client = Client2(Echo(), limits=Limits(body_idle_s=30.0))
    client.h2.send_headers(1, POST)
    client.h2.send_data(1, b"x")
    client.send()

    client.connection.expire(asyncio.get_running_loop().time() + 31)
    await client.settle()

    assert [event.error_code for event in client.of(StreamReset, 1)] == [ErrorCodes.CANCEL]
    assert client.of(ResponseReceived, client.request())


async def test_an_answer_that_nobody_takes_is_given_up() -> None:
    client = Client2(Echo(lambda request: Response(200, body=b"x" * 100_000)))
    stream_id = client.request()

    client.connection.expire(asyncio.get_running_loop().time() + 61)
    await client.settle()

    assert len(client.of(StreamReset, stream_id)) == 1


async def test_an_idle_connection_is_sent_away_after_a_long_while() -> None:
    client = Client2(Echo())
    client.request()
    await client.settle()
    now = asyncio.get_running_loop().time()

    assert now + 290 < client.connection.deadline < now + 310
    client.connection.expire(client.connection.deadline + 1)
    client.receive()

    assert last_goaway(client) == ErrorCodes.NO_ERROR and client.transport.finished


async def test_a_peer_that_never_sends_settings_is_dropped() -> None:
    client = Client2(Echo(), settled=False)

    client.connection.expire(client.connection.deadline)

    assert client.transport.aborted


async def test_pings_of_a_client_that_keeps_its_connection_alive_are_answered() -> None:
    client = Client2(Echo())

    for _ in range(100):
        client.h2.ping(b"12345678")
        client.send()

    assert not client.transport.finished


FLOOD = Limits(resets=50, resets_per_s=0.0, control_frames=50, control_frames_per_s=0.0)


@pytest.mark.parametrize(
    "frame",
    [
        PingFrame(0, opaque_data=b"12345678"),
        SettingsFrame(0),
        PriorityFrame(3, depends_on=0, stream_weight=1),
        DataFrame(1),
    ],
    ids=lambda frame: type(frame).__name__,
)
async def test_floods_of_frames_that_carry_nothing_end_the_connection(
    frame: PingFrame | SettingsFrame | PriorityFrame | DataFrame,
) -> None:
    client = Client2(Echo(), limits=FLOOD)
    client.h2.send_headers(1, POST)
    client.send()

    client.send(frame.serialize() * 60)

    assert last_goaway(client) == ErrorCodes.ENHANCE_YOUR_CALM
    assert client.transport.finished


async def test_a_flood_of_resets_ends_the_connection() -> None:
    """CVE-2023-44487: opening and resetting streams costs the client nothing."""
    client = Client2(Echo(lambda request: future()), limits=FLOOD)

    for _ in range(60):
        if not client.transport.finished:
            stream_id = client.request()
            client.h2.reset_stream(stream_id)
            client.send()

    assert last_goaway(client) == ErrorCodes.ENHANCE_YOUR_CALM
    assert client.transport.finished


async def test_handlers_of_streams_given_up_still_count() -> None:
    client = Client2(Echo(lambda request: future()), limits=Limits(running=20))

    for _ in range(30):
        if not client.transport.finished:
            stream_id = client.request()
            if not client.transport.finished:
                client.h2.reset_stream(stream_id)
                client.send()

    assert last_goaway(client) == ErrorCodes.ENHANCE_YOUR_CALM


async def test_heads_that_never_end_and_frames_too_long_are_not_waited_for() -> None:
    endless = Client2(Echo())
    endless.send(HeadersFrame(1, data=b"").serialize())
    for _ in range(70):
        if not endless.transport.finished:
            endless.send(ContinuationFrame(1, data=b"\x00" * 100).serialize())
    long = Client2(Echo())
    for piece in (b"\x40\x00\x00\x00\x00\x00\x00\x00\x01", b"x" * 10_000, b"x" * 10_000):
        if not long.transport.finished:
            long.send(piece)
            await long.settle()

    assert endless.transport.finished
    assert last_goaway(long) == ErrorCodes.FRAME_SIZE_ERROR and long.transport.finished


async def test_large_heads_are_refused() -> None:
    handler = Echo()
    client = Client2(handler, limits=Limits(head_bytes=8_192))

    client.request(fields={f"x-{number}": "a" * 1_000 for number in range(10)})
    await client.settle()

    assert handler.requests == [] and client.transport.finished


async def test_draining_says_goodbye_and_lets_streams_finish() -> None:
    answer = future()
    client = Client2(Echo(lambda request: answer))
    stream_id = client.request()

    client.connection.drain()
    client.receive()

    assert client.of(ConnectionTerminated)[-1].last_stream_id == 2**31 - 1
    assert not client.transport.finished
    answer.set_result(Response(200, body=b"done"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    # The client's h2 takes the first GOAWAY for the end, so the bytes are looked at as they are.
    written = client.transport.take()
    assert b"done" in written and client.transport.finished
    assert stream_id == 1


async def test_an_idle_connection_that_is_drained_closes() -> None:
    client = Client2(Echo())

    client.connection.drain()

    assert client.transport.finished


async def test_a_client_that_says_goodbye_gets_the_answers_it_waits_for() -> None:
    """A GOAWAY says that no more streams will be opened, and nothing of those that are."""
    answer = future()
    client = Client2(Echo(lambda request: answer))
    client.request()

    client.connection.data_received(b"\x00\x00\x08\x07\x00\x00\x00\x00\x00" + bytes(8))
    answer.set_result(Response(200, body=b"done"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    assert b"done" in client.transport.take()
    assert client.transport.finished


async def test_a_long_read_is_worked_off_in_slices() -> None:
    handler = Echo()
    client = Client2(handler)
    for stream_id in range(1, 401, 2):
        client.h2.send_headers(stream_id, POST)
        client.h2.send_data(stream_id, b"x" * 300, end_stream=True)

    client.send()

    assert 0 < len(handler.requests) < 200 and client.transport.reading_paused
    for _ in range(20):
        await client.settle()
    assert len(handler.requests) == 200 and not client.transport.reading_paused


def test_a_turn_grows_while_it_is_short_and_shrinks_when_it_was_long() -> None:
    turn = Turn()
    first = turn.bytes

    turn.took(0.0001)
    grown = turn.bytes
    turn.took(0.005)
    kept = turn.bytes
    for _ in range(10):
        turn.took(0.1)

    assert first < grown == kept
    assert turn.bytes == 512


async def test_connect_is_not_for_us() -> None:
    handler = Echo()
    client = Client2(handler)

    client.h2.send_headers(1, [(":method", "CONNECT"), (":authority", "mail.example:25")])
    client.send()

    assert handler.requests == []
    assert dict(client.of(ResponseReceived, 1)[0].headers)[":status"] == "405"


async def test_requests_show_no_secrets_when_printed() -> None:
    handler = Echo()
    client = Client2(handler)

    client.request("POST", body=b"secret body", fields={"authorization": "Bearer secret"})

    assert "secret" not in repr(handler.requests[0])
    assert isinstance(handler.requests[0], Request)
