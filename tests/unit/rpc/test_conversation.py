"""Requests over HTTP/2 that are answered while they go on, by feeding frames."""

from h2.events import DataReceived, ResponseReceived, StreamEnded, StreamReset, TrailersReceived

from mailward.rpc.http import Request, Response
from mailward.rpc.limits import Limits
from tests.support.http import Client2, Echo

HEADERS = [(":method", "POST"), (":path", "/talk"), (":scheme", "http"), (":authority", "a")]


class Repeat:
    """Says what it hears, `times` over, and counts it at the end. Ends by itself when it hears "stop"."""

    def __init__(self, times: int = 1) -> None:
        self.head = Response(200, [("content-type", "text/plain")])
        self.times = times
        self.heard = 0

    def receive(self, data: bytes | None) -> tuple[bytes, list[tuple[str, str]] | None]:
        if data is None or data == b"stop":
            return b"", [("heard", str(self.heard))]
        self.heard += len(data)
        return data * self.times, None


def talking(times: int = 1, limits: Limits | None = None, max_body: int = 1 << 20) -> Client2:
    def converse(request: Request) -> Repeat | None:
        return Repeat(times) if request.path == "/talk" else None

    client = Client2(Echo(), limits=limits, max_body=lambda method, path: max_body, converse=converse)
    client.h2.send_headers(1, HEADERS)
    client.send()
    return client


def say(client: Client2, data: bytes, *, end: bool = False) -> None:
    client.h2.send_data(1, data, end_stream=end)
    client.send()


def heard(client: Client2) -> list[bytes]:
    return [event.data for event in client.of(DataReceived, 1)]


async def test_the_head_comes_at_once_and_each_part_is_answered_before_the_next_is_sent() -> None:
    client = talking()
    assert dict(client.of(ResponseReceived, 1)[0].headers)[":status"] == "200"

    say(client, b"one")
    assert heard(client) == [b"one"]
    say(client, b"two")
    assert heard(client) == [b"one", b"two"]
    assert client.of(StreamEnded, 1) == []

    say(client, b"", end=True)

    assert client.of(TrailersReceived, 1)[0].headers == [("heard", "6")]
    assert len(client.of(StreamEnded, 1)) == 1
    assert client.connection._streams == {}


async def test_other_requests_are_answered_beside_it() -> None:
    client = talking()
    say(client, b"one")

    other = client.request(path="/2", body=b"x")

    assert len(client.of(StreamEnded, other)) == 1
    say(client, b"two", end=True)
    assert heard(client)[-1] == b"two"


async def test_the_server_may_end_it() -> None:
    client = talking()

    say(client, b"stop")

    assert client.of(TrailersReceived, 1)[0].headers == [("heard", "0")]
    assert client.connection._streams == {}


async def test_who_asks_and_does_not_read_is_cut_off() -> None:
    """Otherwise a few bytes would make us hold many."""
    client = talking(times=1000, limits=Limits(unread_bytes=100_000))

    for _ in range(3):
        if not client.of(StreamReset, 1):
            say(client, b"x" * 60)

    assert len(client.of(StreamReset, 1)) == 1
    assert client.connection._streams == {}


async def test_who_says_more_than_a_body_may_have_is_cut_off() -> None:
    client = talking(max_body=10)

    say(client, b"x" * 11)

    assert len(client.of(StreamReset, 1)) == 1


async def test_a_request_that_ends_with_its_head_is_a_conversation_too() -> None:
    client = talking()
    client.h2.send_headers(3, HEADERS, end_stream=True)
    client.send()

    assert client.of(TrailersReceived, 3)[0].headers == [("heard", "0")]
