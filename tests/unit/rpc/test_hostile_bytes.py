"""Whatever bytes come, a connection answers or ends; it never raises and never answers 500."""

import asyncio
import re

from hpack import Encoder
from hypothesis import given
from hypothesis import strategies as st

from tests.support.http import Client2, Echo, connect1, frame

HEAD = Encoder().encode([(":method", "POST"), (":path", "/"), (":scheme", "http"), (":authority", "a")])
PING, PONG = (b"\0\0\x08\x06" + flag + b"\0\0\0\0" + b"are here" for flag in (b"\0", b"\1"))


#: What stands in a frame of one type or another: heads, settings, increments, paddings, codes.
PAYLOADS = st.sampled_from([
    b"", HEAD, HEAD[:2], HEAD * 30, b"\x0a" + HEAD, b"\0" * 4, b"\0" * 5 + HEAD, b"\x7f\xff\xff\xff", b"\xff" * 4,
    b"\0" * 6, b"\0\1\xff\xff\xff\xff", b"\0\3\0\0\0\0", b"\0\4\0\0\0\0", b"\0\4\x7f\xff\xff\xff",
    b"\0\4\xff\xff\xff\xff", b"\0\5\0\0\0\0", b"\0\5\0\xff\xff\xff", b"\0\6\0\0\0\0", b"\0\1\0\0\0\0" * 500,
    b"\0" * 8, b"\x82" * 200, b"\x3f\xe1\x1f", b"x" * 16_384, b"x" * 16_385,
]) | st.binary(max_size=20)  # fmt: skip
FRAMES = st.builds(
    frame,
    st.integers(0, 11),
    st.sampled_from([0, 1, 4, 5, 8, 0x0D, 0x20, 0x25, 0xFF]),
    st.sampled_from([0, 1, 1, 1, 2, 3, 5, 7, 2**31 - 1, 2**31 + 1]),
    PAYLOADS,
)


@given(frames=st.lists(FRAMES, max_size=12))
def test_frames_in_any_order_end_the_connection_or_leave_it_alive(frames: list[bytes]) -> None:
    async def connection() -> tuple[bool, bytes]:
        client = Client2(Echo())
        for one in [*frames, PING]:
            client.connection.data_received(one)
        written = b""
        for _ in range(1_000):  # Turns of the loop: on a busy machine a connection needs several.
            await asyncio.sleep(0)
            written += client.transport.take()
            if client.transport.finished or PONG in written:
                break
        return client.transport.finished, written

    finished, written = asyncio.run(connection())

    assert finished or PONG in written


@given(data=st.binary(max_size=60), head=st.sampled_from([b"", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]))
def test_bytes_that_are_no_frames_harm_nobody(data: bytes, head: bytes) -> None:
    async def connection() -> None:
        client = Client2(Echo(), settled=False)
        client.connection.data_received(head + data)
        client.connection.expire(asyncio.get_running_loop().time() + 1_000)
        assert client.transport.closed

    asyncio.run(connection())


REQUESTS = [
    b"POST /a?b=c HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: y\r\n\r\n",
    b"GET http://a/ HTTP/1.0\r\nConnection: keep-alive\r\nExpect: 100-continue\r\nUpgrade: h2c\r\n\r\n",
]
DAMAGE = st.lists(
    st.tuples(
        st.integers(0, 110),
        st.integers(0, 12),
        st.sampled_from([b"", b"\r", b"\n", b"\r\n", b" ", b":", b"\0", b"\xff", b"-1", b"99999999999", b"0x5", b";"])
        | st.binary(max_size=3),
    ),
    max_size=3,
)  # fmt: skip


@given(requests=st.lists(st.sampled_from(REQUESTS), min_size=1, max_size=3), damage=DAMAGE, size=st.integers(1, 200))
def test_damaged_requests_of_http_1_are_answered_in_order_or_refused(
    requests: list[bytes], damage: list[tuple[int, int, bytes]], size: int
) -> None:
    data = b"".join(requests)
    for at, length, instead in damage:
        data = data[:at] + instead + data[at + length :]

    async def connection() -> tuple[bytes, int]:
        handler = Echo()
        http1, transport = connect1(handler)
        for start in range(0, len(data), size):
            if not transport.closed:
                http1.data_received(data[start : start + size])
                await asyncio.sleep(0)
        return transport.take(), len(handler.requests)

    written, handled = asyncio.run(connection())

    statuses = [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", written)]
    assert statuses.count(200) == handled
    assert set(statuses) <= {100, 200, 400, 408, 411, 413, 414, 417, 431, 501, 505}
    assert all(status == 200 or status == 100 for status in statuses[:-1])
