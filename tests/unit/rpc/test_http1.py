"""HTTP/1.1 on one connection, by feeding bytes."""

import asyncio
import logging

import pytest

from mailward.rpc.http import Request, Response
from mailward.rpc.limits import Limits
from tests.support.http import Echo, connect1

HEAD = b"Host: mail.example\r\n"


def post(body: bytes, path: bytes = b"/") -> bytes:
    return b"POST %s HTTP/1.1\r\n%sContent-Length: %d\r\n\r\n%s" % (path, HEAD, len(body), body)


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


async def test_a_request_reaches_the_handler_as_it_was_sent() -> None:
    handler = Echo()
    connection, transport = connect1(handler)

    connection.data_received(
        b"POST /v1/messages%2F1?a=b&c HTTP/1.1\r\nHost: mail.example\r\nX-Two:  one \r\nx-two: 2\r\n"
        b"Content-Length: 5\r\n\r\nhello"
    )

    request = handler.requests[0]
    assert (request.method, request.path, request.query) == ("POST", "/v1/messages%2F1", "a=b&c")
    assert (request.target, request.body) == (b"/v1/messages%2F1?a=b&c", b"hello")
    assert (request.peer, request.scheme, request.http_version) == ("192.0.2.7:4711", "http", "1.1")
    assert request.headers.get("HOST") == "mail.example"
    assert [value for name, value in request.headers if name == "x-two"] == ["one", "2"]
    assert "x-three" not in request.headers and request.headers.get("x-three", "none") == "none"
    answer = transport.take()
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n") and answer.endswith(b"content-length: 5\r\n\r\nhello")
    assert b"\r\ndate: " in answer


async def test_a_request_may_come_byte_by_byte() -> None:
    handler = Echo()
    connection, _ = connect1(handler)

    for byte in post(b"hello", b"/path?query"):
        connection.data_received(bytes((byte,)))

    assert [(r.path, r.query, r.body) for r in handler.requests] == [("/path", "query", b"hello")]


async def test_the_target_may_be_absolute() -> None:
    handler = Echo()
    connection, _ = connect1(handler)

    connection.data_received(b"GET http://other.example:80/path?q HTTP/1.1\r\n" + HEAD + b"\r\n")

    assert [value for name, value in handler.requests[0].headers if name == "host"] == ["other.example:80"]
    assert (handler.requests[0].path, handler.requests[0].query) == ("/path", "q")


async def test_trailers_of_a_chunked_body_do_not_become_fields_of_any_request() -> None:
    """Otherwise whoever shares a connection behind a proxy could slip fields into the next client's request."""
    handler = Echo()
    connection, _ = connect1(handler)

    connection.data_received(
        b"POST /1 HTTP/1.1\r\n" + HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
        b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nAuthorization: Bearer stolen\r\n\r\n" + post(b"", b"/2")
    )

    assert [(r.path, r.body) for r in handler.requests] == [("/1", b"abcde"), ("/2", b"")]
    assert all("authorization" not in r.headers for r in handler.requests)


async def test_pipelined_requests_are_answered_in_their_order_however_long_each_takes() -> None:
    first: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
    handler = Echo(lambda request: first if request.path == "/1" else Response(200, body=request.path.encode()))
    connection, transport = connect1(handler)

    connection.data_received(post(b"", b"/1") + post(b"", b"/2") + post(b"", b"/3"))

    assert [r.path for r in handler.requests] == ["/1"]
    assert transport.reading_paused
    first.set_result(Response(200, body=b"/1"))
    await asyncio.sleep(0)
    answer = transport.take()
    assert [answer.index(path) for path in (b"/1", b"/2", b"/3")] == sorted(
        answer.index(p) for p in (b"/1", b"/2", b"/3")
    )
    assert not transport.reading_paused


@pytest.mark.parametrize(
    ("line", "field", "stays"),
    [
        (b"GET / HTTP/1.1", b"", True),
        (b"GET / HTTP/1.1", b"Connection: close\r\n", False),
        (b"GET / HTTP/1.0", b"", False),
        (b"GET / HTTP/1.0", b"Connection: keep-alive\r\n", True),
    ],
)
async def test_a_connection_stays_as_long_as_its_version_says(line: bytes, field: bytes, stays: bool) -> None:
    connection, transport = connect1(Echo())

    connection.data_received(line + b"\r\n" + HEAD + field + b"\r\n")

    answer = transport.take()
    assert status(answer) == 200
    assert (b"connection: close" in answer) is not stays
    assert transport.finished is not stays


async def test_an_answer_to_head_has_the_length_and_no_body() -> None:
    connection, transport = connect1(Echo(lambda request: Response(200, body=b"12345")))

    connection.data_received(b"HEAD / HTTP/1.1\r\n" + HEAD + b"\r\n")

    assert transport.take().endswith(b"content-length: 5\r\n\r\n")


async def test_no_content_has_no_length() -> None:
    connection, transport = connect1(Echo(lambda request: Response(204)))

    connection.data_received(b"GET / HTTP/1.1\r\n" + HEAD + b"\r\n")

    assert b"content-length" not in transport.take()


async def test_a_client_that_waits_for_100_gets_it_before_it_sends() -> None:
    handler = Echo()
    connection, transport = connect1(handler)

    connection.data_received(b"POST / HTTP/1.1\r\n" + HEAD + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n")

    assert transport.take() == b"HTTP/1.1 100 Continue\r\n\r\n"
    connection.data_received(b"ok")
    assert handler.requests[0].body == b"ok"


async def test_100_waits_for_the_answer_to_the_request_before() -> None:
    first: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
    connection, transport = connect1(Echo(lambda request: first if request.path == "/1" else Response(200)))

    connection.data_received(
        post(b"", b"/1") + b"POST /2 HTTP/1.1\r\n" + HEAD + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n"
    )

    assert transport.take() == b""
    first.set_result(Response(200))
    await asyncio.sleep(0)
    assert transport.take().endswith(b"HTTP/1.1 100 Continue\r\n\r\n")


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 3\r\n\r\nabc", b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"]
)
async def test_an_upgrade_that_is_asked_for_is_not_taken_and_breaks_nothing(framing: bytes) -> None:
    """Java's and curl's clients ask for h2c with every first request, bodies included."""
    handler = Echo()
    connection, transport = connect1(handler)
    ask = (
        b"POST / HTTP/1.1\r\n"
        + HEAD
        + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA\r\n"
    )

    connection.data_received((ask + framing) * 3 + b"GET /last HTTP/1.1\r\n" + HEAD + b"\r\n")

    assert [(r.method, r.body) for r in handler.requests] == [("POST", b"abc")] * 3 + [("GET", b"")]
    assert not transport.finished


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", 400),
        (b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", 400),
        (b"Content-Length: 3\r\nContent-Length: 4\r\n", 400),
        (b"Content-Length: 3, 4\r\n", 400),
        (b"Content-Length: +3\r\n", 400),
        (b"Content-Length: 0x3\r\n", 400),
        (b"Content-Length: -3\r\n", 400),
        (b"Content-Length: 99999999999999999999999\r\n", 400),
        (b"Content-Length : 3\r\n", 400),
        (b"Transfer-Encoding : chunked\r\n", 400),
        (b"Transfer-Encoding: gzip, chunked\r\n", 501),
        (b"Transfer-Encoding: chunked, gzip\r\n", 400),
        (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", 501),
        (b"Transfer-Encoding: \x0bchunked\r\n", 400),
        (b"X: a\r\n b\r\n", 400),
        (b"X: a\x00b\r\n", 400),
        (b"X: a\nContent-Length: 3\r\n", 400),
        (b"Host: other.example\r\n", 400),
        (b"X y: z\r\n", 400),
    ],
)
async def test_a_head_that_could_be_read_in_two_ways_is_refused(head: bytes, expected: int) -> None:
    """Two readers of one connection that disagree about where a request ends is how requests are smuggled."""
    handler = Echo()
    connection, transport = connect1(handler)

    connection.data_received(
        b"POST / HTTP/1.1\r\n" + HEAD + head + b"\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\n" + HEAD + b"\r\n"
    )

    assert handler.requests == []
    assert status(transport.take()) in (expected, 400)
    assert transport.finished


@pytest.mark.parametrize(
    ("request_bytes", "expected"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\n" + HEAD + b"\r\n", 505),
        (b"GET / HTTP/1.2\r\n" + HEAD + b"\r\n", 400),
        (b"CONNECT mail.example:25 HTTP/1.1\r\n" + HEAD + b"\r\n", 405),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"hello\r\n", 400),
    ],
)
async def test_what_is_no_request_of_http_1_is_refused(request_bytes: bytes, expected: int) -> None:
    handler = Echo()
    connection, transport = connect1(handler)

    connection.data_received(request_bytes)

    assert handler.requests == []
    assert status(transport.take()) == expected
    assert transport.finished


async def test_a_fault_is_answered_after_the_requests_before_it() -> None:
    first: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
    connection, transport = connect1(Echo(lambda request: first))

    connection.data_received(post(b"") + b"nonsense\r\n\r\n")

    assert transport.take() == b""
    first.set_result(Response(201))
    await asyncio.sleep(0)
    answer = transport.take()
    assert answer.startswith(b"HTTP/1.1 201") and b"HTTP/1.1 400" in answer
    assert transport.finished


@pytest.mark.parametrize("piece", [1_000_000, 1_000])
@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"GET /" + b"a" * 9_000 + b" HTTP/1.1\r\n" + HEAD + b"\r\n", (414, 431)),
        (b"GET / HTTP/1.1\r\n" + HEAD + b"X: " + b"a" * 9_000 + b"\r\n\r\n", (431,)),
        (b"GET / HTTP/1.1\r\n" + HEAD + b"X: a\r\n" * 2_000 + b"\r\n", (431,)),
        (b"GET / HTTP/1.1\r\n" + HEAD + b"X: a\r\n" * 101 + b"\r\n", (431,)),
    ],
)
async def test_a_head_has_limits(head: bytes, expected: tuple[int, ...], piece: int) -> None:
    handler = Echo()
    connection, transport = connect1(handler, limits=Limits(head_bytes=8_192, head_fields=100))

    for at in range(0, len(head), piece):
        if not transport.finished:
            connection.data_received(head[at : at + piece])

    assert handler.requests == []
    assert status(transport.take()) in expected


async def test_heads_within_the_limit_may_fill_a_read_together() -> None:
    handler = Echo()
    connection, _ = connect1(handler, limits=Limits(head_bytes=8_192))

    connection.data_received((b"GET / HTTP/1.1\r\n" + HEAD + b"X: " + b"a" * 4_000 + b"\r\n\r\n") * 20)

    assert len(handler.requests) == 20


@pytest.mark.parametrize("framing", ["announced", "chunked"])
async def test_a_body_over_its_limit_is_not_kept_and_the_handler_is_told_its_size(framing: str) -> None:
    handler = Echo(lambda request: Response(413))
    connection, transport = connect1(handler, max_body=lambda method, path: 10 if path == "/small" else 100)
    body = b"x" * 50
    if framing == "announced":
        request = post(body, b"/small")
    else:
        request = b"POST /small HTTP/1.1\r\n" + HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
        request += (b"5\r\nxxxxx\r\n") * 10 + b"0\r\n\r\n"

    connection.data_received(request + post(body, b"/large"))

    assert [(r.path, r.too_large, len(r.body)) for r in handler.requests] == [("/small", 50, 0), ("/large", 0, 50)]
    assert not transport.finished


async def test_a_body_too_long_to_be_thrown_away_is_answered_at_once() -> None:
    handler = Echo(lambda request: Response(413))
    connection, transport = connect1(handler, limits=Limits(drained_bytes=1_000), max_body=lambda method, path: 10)

    connection.data_received(b"POST / HTTP/1.1\r\n" + HEAD + b"Content-Length: 5000\r\n\r\nxxxx")

    assert [r.too_large for r in handler.requests] == [5000]
    answer = transport.take()
    assert status(answer) == 413 and b"connection: close" in answer
    assert transport.finished
    connection.data_received(b"x" * 4_996)
    assert transport.take() == b""


async def test_a_client_that_asks_before_it_sends_too_much_is_told_not_to() -> None:
    handler = Echo(lambda request: Response(413))
    connection, transport = connect1(handler, max_body=lambda method, path: 10)

    connection.data_received(b"POST / HTTP/1.1\r\n" + HEAD + b"Expect: 100-continue\r\nContent-Length: 50\r\n\r\n")

    assert status(transport.take()) == 413
    assert transport.finished


async def test_chunks_that_are_mostly_wrapping_are_refused() -> None:
    handler = Echo()
    connection, transport = connect1(handler)
    connection.data_received(b"POST / HTTP/1.1\r\n" + HEAD + b"Transfer-Encoding: chunked\r\n\r\n")

    for _ in range(40):
        if not transport.finished:
            connection.data_received(b"1;" + b"e" * 20_000 + b"\r\nx\r\n")

    assert status(transport.take()) == 400


async def test_unfinished_bodies_of_all_connections_share_a_limit() -> None:
    connection, transport = connect1(Echo(), limits=Limits(buffered_bytes=1_000))

    connection.data_received(b"POST / HTTP/1.1\r\n" + HEAD + b"Content-Length: 5000\r\n\r\n" + b"x" * 2_000)

    assert status(transport.take()) == 503
    assert connection._serving.buffered == 0


async def test_a_slow_head_is_given_up_however_steadily_it_drips() -> None:
    limits = Limits(head_s=10.0)
    connection, transport = connect1(Echo(), limits=limits)
    connection.data_received(b"GET / HTTP/1.1\r\n")
    due = connection.deadline

    connection.data_received(b"X: y\r\n")

    assert connection.deadline == due
    connection.expire(due)
    assert status(transport.take()) == 408
    assert transport.finished


async def test_every_request_has_its_own_time_for_its_head() -> None:
    connection, _ = connect1(Echo())
    connection.data_received(b"GET / HTTP/1.1\r\n")
    phase = connection._phase

    connection.data_received(HEAD + b"\r\nGET / HTTP/1.1\r\n")

    assert connection._phase != phase


async def test_a_slow_body_is_given_up() -> None:
    connection, transport = connect1(Echo(), limits=Limits(body_idle_s=30.0))
    now = asyncio.get_running_loop().time()

    connection.data_received(b"POST / HTTP/1.1\r\n" + HEAD + b"Content-Length: 5\r\n\r\na")

    assert now + 29 < connection.deadline < now + 32
    connection.expire(connection.deadline)
    assert status(transport.take()) == 408


async def test_an_idle_connection_is_closed_after_a_long_while_and_a_busy_one_is_not() -> None:
    answer: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
    connection, transport = connect1(Echo(lambda request: answer))
    now = asyncio.get_running_loop().time()

    connection.data_received(post(b""))

    assert connection.deadline == float("inf")
    answer.set_result(Response(200))
    await asyncio.sleep(0)
    assert now + 290 < connection.deadline < now + 310
    connection.expire(connection.deadline)
    assert transport.closed


async def test_a_peer_that_does_not_read_is_not_written_to() -> None:
    handler = Echo()
    connection, transport = connect1(handler)
    transport.unsent = 100_000
    connection.pause_writing()

    connection.data_received(post(b"1") + post(b"2"))

    assert handler.requests == [] and transport.reading_paused
    connection.resume_writing()
    assert [r.body for r in handler.requests] == [b"1", b"2"]
    assert not transport.reading_paused


async def test_many_large_answers_are_written_a_few_at_a_time() -> None:
    """uvloop tells us to pause only when the loop comes round; one read may hold thousands of requests."""
    handler = Echo(lambda request: Response(200, body=b"x" * 50_000))
    connection, transport = connect1(handler)

    connection.data_received(post(b"") * 100)

    assert len(handler.requests) == 2 and transport.reading_paused
    for _ in range(100):
        await asyncio.sleep(0)
    assert len(handler.requests) == 100 and not transport.reading_paused


async def test_a_peer_that_reads_slowly_is_kept_and_one_that_stopped_is_not() -> None:
    connection, transport = connect1(Echo())
    transport.unsent = 100_000
    connection.pause_writing()

    transport.unsent = 50_000
    connection.expire(connection.deadline)
    assert not transport.aborted
    connection.expire(connection.deadline)
    assert transport.aborted


async def test_a_lost_client_cancels_its_coroutine_but_no_future_of_somebody_else() -> None:
    cancelled = []

    async def slow() -> Response:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise
        return Response(200)

    write: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
    for handler in (Echo(lambda request: slow()), Echo(lambda request: write)):
        connection, _ = connect1(handler)
        connection.data_received(post(b""))
        await asyncio.sleep(0)
        connection.connection_lost(None)
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    assert cancelled == [True]
    assert not write.cancelled()
    write.set_result(Response(200))
    await asyncio.sleep(0)


async def test_an_unforeseen_exception_is_a_500_that_tells_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def broken(request: Request) -> Response:
        raise ZeroDivisionError("in here")

    async def broken_later(request: Request) -> Response:
        raise ZeroDivisionError("in here")

    for handler in (broken, broken_later):
        connection, transport = connect1(handler)
        with caplog.at_level(logging.ERROR, "mailward.rpc"):
            connection.data_received(post(b"a secret body"))
            await asyncio.sleep(0)
            await asyncio.sleep(0)

        answer = transport.take()
        assert status(answer) == 500
        assert answer.endswith(b'{"code":13,"message":"An internal error occurred"}')
        assert "ZeroDivisionError in POST /" in caplog.text and "secret" not in caplog.text
        caplog.clear()


async def test_a_line_break_in_a_field_of_an_answer_splits_nothing() -> None:
    connection, transport = connect1(Echo(lambda request: Response(200, [("location", "/\r\nset-cookie: a=b")])))

    connection.data_received(post(b""))

    answer = transport.take()
    assert status(answer) == 500 and b"set-cookie" not in answer


async def test_drained_connections_finish_what_they_have_begun() -> None:
    answer: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
    busy, busy_transport = connect1(Echo(lambda request: answer))
    busy.data_received(post(b""))
    idle, idle_transport = connect1(Echo())

    for connection in (busy, idle):
        connection._serving.draining = True
        connection.drain()

    assert idle_transport.closed and not busy_transport.finished
    answer.set_result(Response(200))
    await asyncio.sleep(0)
    assert b"connection: close" in busy_transport.take()
    assert busy_transport.finished


async def test_a_client_that_ends_its_half_gets_its_answer() -> None:
    answer: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
    connection, transport = connect1(Echo(lambda request: answer))
    connection.data_received(post(b""))

    assert connection.eof_received() is True
    answer.set_result(Response(200))
    await asyncio.sleep(0)
    assert status(transport.take()) == 200
    assert transport.closed
