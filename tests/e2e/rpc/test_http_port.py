"""Raw sockets and http.client against our port: what is told apart, how it stops, what an attacker gets."""

import asyncio
import http.client
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection

from mailward.rpc.http import Request, Response
from mailward.rpc.limits import Limits
from tests.e2e.rpc.conftest import Open
from tests.support.certificates import Certificates
from tests.support.http import GET, Service
from tests.support.waiting import PATIENCE_S, until

HEAD = b"GET / HTTP/1.1\r\nHost: localhost\r\n"


def echo(request: Request) -> Response:
    body = bytes(request.take_body())
    return Response(200, [("x-version", request.http_version), ("x-scheme", request.scheme)], body or b"-")


async def ask(port: int, data: bytes) -> bytes:
    """Send `data`, read to the end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    answer = await asyncio.wait_for(reader.read(), PATIENCE_S)
    writer.close()
    return answer


async def served_until(over: asyncio.Future[Any], port: int) -> None:
    """Ask on one connection until `over` is done, and once more. Raises TimeoutError when that takes too long."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    async with asyncio.timeout(PATIENCE_S):
        is_over = False
        while not is_over:
            is_over = over.done()
            writer.write(HEAD + b"\r\n")
            await reader.readuntil(b"\r\n\r\n-")
    writer.close()


async def test_one_connection_serves_many_requests(open_port: Open) -> None:
    _, port = await open_port(echo)

    def talk() -> list[tuple[int, bytes]]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
        answers = []
        for number in range(50):
            connection.request("POST", "/", body=b"x" * number * 1000)
            response = connection.getresponse()
            answers.append((response.status, response.read()))
        connection.close()
        return answers

    answers = await asyncio.to_thread(talk)

    assert answers == [(200, b"x" * number * 1000 or b"-") for number in range(50)]


async def test_chunks_and_large_bodies_go_both_ways(open_port: Open) -> None:
    _, port = await open_port(echo, max_body=lambda method, path: 20_000_000)

    def talk() -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
        pieces = (b"x" * 100_000 for _ in range(100))
        connection.request("POST", "/", body=pieces, encode_chunked=True, headers={"Transfer-Encoding": "chunked"})
        body = connection.getresponse().read()
        connection.close()
        return body

    assert await asyncio.to_thread(talk) == b"x" * 10_000_000


async def test_large_bodies_for_which_there_is_no_room_wait_for_it(open_port: Open) -> None:
    """Announced or not; and of whoever goes away in the middle, nothing is left."""
    served, port = await open_port(echo, limits=Limits(large_bytes=4_000_000), max_body=lambda method, path: 3_000_000)
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3000000\r\nExpect: 100-continue\r\n\r\n"
    reader, leaver = await asyncio.open_connection("127.0.0.1", port)
    leaver.write(head)
    assert (await asyncio.wait_for(reader.readline(), PATIENCE_S)).startswith(b"HTTP/1.1 100")
    leaver.write(b"x" * 1_000_000)

    def talk(is_announced: bool) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
        size = {"Content-Length": "2500000"} if is_announced else {"Transfer-Encoding": "chunked"}
        pieces = (b"y" * 100_000 for _ in range(25))
        connection.request("POST", "/", body=pieces, encode_chunked=not is_announced, headers=size)
        body = connection.getresponse().read()
        connection.close()
        return body

    answers = asyncio.gather(*[asyncio.to_thread(talk, number % 2 == 0) for number in range(6)])
    await until(lambda: served.connections == 7)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(answers), 0.2)
    leaver.transport.abort()

    assert await asyncio.wait_for(answers, PATIENCE_S) == [b"y" * 2_500_000] * 6


async def test_a_client_that_sends_too_much_still_reads_its_answer(open_port: Open) -> None:
    def refuse(request: Request) -> Response:
        return Response(413, body=str(request.too_large).encode())

    _, port = await open_port(refuse, limits=Limits(drained_bytes=10_000_000), max_body=lambda method, path: 1_000)

    def talk() -> list[bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
        answers = []
        for size in (5_000_000, 2_000):
            connection.request("POST", "/", body=b"x" * size)
            answers.append(connection.getresponse().read())
        connection.close()
        return answers

    assert await asyncio.to_thread(talk) == [b"5000000", b"2000"]
    endless = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n" + b"x" * 1_000_000
    answer = await ask(port, endless)
    assert answer.startswith(b"HTTP/1.1 413") and answer.endswith(b"100000000")


@pytest.mark.parametrize("protocols", [["h2"], ["http/1.1"], []], ids=["h2", "http1", "none"])
async def test_tls_agrees_on_the_version(open_port: Open, certificates: Certificates, protocols: list[str]) -> None:
    _, port = await open_port(echo, tls=certificates.server_context())
    context = ssl.create_default_context(cafile=str(certificates.ca))
    if protocols:
        context.set_alpn_protocols(protocols)
    reader, writer = await asyncio.open_connection("localhost", port, ssl=context)

    if protocols == ["h2"]:
        client = H2Connection(H2Configuration(header_encoding="latin-1"))
        client.initiate_connection()
        client.send_headers(
            1, [(":method", "GET"), (":path", "/"), (":scheme", "https"), (":authority", "a")], end_stream=True
        )
        writer.write(client.data_to_send())
        fields: dict[str, Any] = {}
        while "x-version" not in fields:
            for event in client.receive_data(await asyncio.wait_for(reader.read(65_536), PATIENCE_S)):
                fields |= dict(getattr(event, "headers", None) or ())
        assert (fields["x-version"], fields["x-scheme"]) == ("2", "https")
    else:
        writer.write(HEAD + b"Connection: close\r\n\r\n")
        answer = await asyncio.wait_for(reader.read(), PATIENCE_S)
        assert b"x-version: 1.1" in answer and b"x-scheme: https" in answer
    writer.close()


async def test_the_preface_may_come_in_pieces(open_port: Open) -> None:
    _, port = await open_port(echo)
    client = H2Connection(H2Configuration(header_encoding="latin-1"))
    client.initiate_connection()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    for byte in client.data_to_send():
        writer.write(bytes((byte,)))
        await writer.drain()

    assert (await asyncio.wait_for(reader.readexactly(9), PATIENCE_S))[3] == 4
    writer.close()


async def test_slow_heads_and_bodies_are_cut_off_and_others_are_not(open_port: Open) -> None:
    limits = Limits(head_s=0.2, body_idle_s=0.2, idle_s=30.0)
    _, port = await open_port(echo, limits=limits)

    silent, head, body, preface, idle = await asyncio.gather(
        ask(port, b""),
        ask(port, HEAD),
        ask(port, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab"),
        ask(port, b"PRI * HTTP/2.0\r\n"),
        asyncio.wait_for(asyncio.open_connection("127.0.0.1", port), PATIENCE_S),
    )

    assert (silent, preface) == (b"", b"")
    assert head.startswith(b"HTTP/1.1 408") and body.startswith(b"HTTP/1.1 408")
    idle[1].close()


async def test_hundreds_who_drip_end_by_the_deadline_and_starve_nobody(open_port: Open) -> None:
    """Slowloris, in heads and bodies of HTTP/1.1 and in an HTTP/2 preface: a byte now and then."""
    port, number = await open_port(echo, limits=Limits(head_s=1.0, body_idle_s=1.0, body_bytes_per_s=1e6))
    post = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n"

    async def drip(beginning: bytes, more: bytes) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", number)
        writer.write(beginning)
        ended = asyncio.ensure_future(reader.read())
        while not ended.done():
            writer.write(more)
            await asyncio.wait([ended], timeout=0.1)
        ended.exception()  # Which is how it ended, perhaps.
        writer.close()

    beginnings = [(HEAD, b"X"), (post, b"x"), (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\x40\0\4", b"\0")]
    drips = asyncio.gather(*(drip(*one) for one in beginnings * 100), return_exceptions=True)
    await served_until(drips, number)

    await until(lambda: port.connections == 0)


async def test_an_idle_connection_is_closed_when_its_time_is_up(open_port: Open) -> None:
    port, number = await open_port(echo, limits=Limits(idle_s=0.2))

    answer = await ask(number, HEAD + b"\r\n")

    assert answer.startswith(b"HTTP/1.1 200")
    await until(lambda: port.connections == 0)


async def test_a_connection_too_many_is_told_so(open_port: Open) -> None:
    port, number = await open_port(echo, limits=Limits(connections=2))
    kept = [await asyncio.open_connection("127.0.0.1", number) for _ in range(2)]
    await until(lambda: port.connections == 2)

    assert (await ask(number, HEAD + b"\r\n")).startswith(b"HTTP/1.1 503")
    for _, writer in kept:
        writer.close()
    await until(lambda: port.connections == 0)
    assert (await ask(number, HEAD + b"Connection: close\r\n\r\n")).startswith(b"HTTP/1.1 200")


async def test_connections_that_come_and_go_leave_nothing_behind(open_port: Open) -> None:
    port, number = await open_port(echo)

    async def come_and_go(data: bytes) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", number)
        writer.write(data)
        writer.transport.abort()

    for _ in range(20):
        await asyncio.gather(
            *(come_and_go(data) for data in (b"", b"PRI", HEAD, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n") * 10)
        )

    await until(lambda: port.connections == 0)
    assert not port._serving.tasks and port._serving.buffered == 0


async def test_stopping_closes_idle_connections_and_waits_for_busy_ones(open_port: Open) -> None:
    answer: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
    asked = asyncio.Event()

    def busy(request: Request) -> asyncio.Future[Response]:
        asked.set()
        return answer

    port, number = await open_port(busy)
    idle_reader, idle_writer = await asyncio.open_connection("127.0.0.1", number)
    busy_reader, busy_writer = await asyncio.open_connection("127.0.0.1", number)
    busy_writer.write(HEAD + b"\r\n")
    await until(lambda: port.connections == 2 and asked.is_set())

    stopping = asyncio.ensure_future(port.stop(PATIENCE_S))

    assert await asyncio.wait_for(idle_reader.read(), PATIENCE_S) == b""
    with pytest.raises(OSError):
        await asyncio.open_connection("127.0.0.1", number)
    assert not stopping.done()
    answer.set_result(Response(200, body=b"done"))
    assert (await asyncio.wait_for(busy_reader.read(), PATIENCE_S)).endswith(b"done")
    idle_writer.close()
    busy_writer.close()
    assert await stopping is True


async def test_stopping_cuts_off_what_outlives_the_deadline(open_port: Open) -> None:
    cancelled = []

    async def never(request: Request) -> Response:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(True)
        return Response(200)

    port, number = await open_port(never)
    reader, writer = await asyncio.open_connection("127.0.0.1", number)
    writer.write(HEAD + b"\r\n")
    await until(lambda: bool(port._serving.tasks))

    assert await port.stop(0.05) is False

    assert cancelled == [True] and port.connections == 0
    assert await asyncio.wait_for(reader.read(), PATIENCE_S) == b""
    writer.close()


async def test_an_attack_of_resets_is_cut_off_and_others_are_served(open_port: Open) -> None:
    """CVE-2023-44487."""
    _, number = await open_port(echo, limits=Limits(linger_s=0.1, write_stall_s=0.4))
    client = H2Connection(H2Configuration(header_encoding="latin-1"))
    client.initiate_connection()
    for stream_id in range(1, 10_001, 2):
        client.send_headers(
            stream_id, [(":method", "GET"), (":path", "/"), (":scheme", "http"), (":authority", "a")], end_stream=True
        )
        client.reset_stream(stream_id)
    attack = client.data_to_send()
    attacker_reader, attacker_writer = await asyncio.open_connection("127.0.0.1", number)
    attacker_writer.write(attack)

    ended = asyncio.gather(attacker_reader.read(), return_exceptions=True)
    await served_until(ended, number)

    attacker_writer.close()


async def test_grpc_web_works_over_http_1(open_service: Open) -> None:
    _, port = await open_service(Service())

    def talk() -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
        headers = {"content-type": "application/grpc-web+proto", "authorization": "Bearer t"}
        connection.request("POST", GET, body=b"\0\0\0\0\x03\x0a\x013", headers=headers)
        response = connection.getresponse()
        answer = response.status, response.read()
        connection.close()
        return answer

    status, body = await asyncio.to_thread(talk)

    assert status == 200 and b"nnn" in body and body.endswith(b"grpc-status: 0\r\n")


@pytest.mark.peers
@pytest.mark.parametrize(
    ("options", "version"),
    [
        (["--http1.1"], "1.1"),
        (["--http1.0"], "1.0"),
        (["--http2-prior-knowledge"], "2"),
        (["--http2"], "1.1"),
        (["--http2", "--tls"], "2"),
        (["--http1.1", "--tls"], "1.1"),
    ],
    ids=lambda value: "".join(value),
)
async def test_curl_speaks_with_us(
    open_port: Open, certificates: Certificates, options: list[str], version: str, tmp_path: Path
) -> None:
    tls = "--tls" in options
    _, port = await open_port(echo, tls=certificates.server_context() if tls else None)
    body = tmp_path / "body"
    body.write_bytes(b"x" * 3_000_000)
    command = ["curl", "-sS", "-i", "--cacert", str(certificates.ca), "--data-binary", f"@{body}"]
    command += [option for option in options if option != "--tls"]
    command.append(f"http{'s' if tls else ''}://localhost:{port}/")

    result = await asyncio.to_thread(subprocess.run, command, capture_output=True, check=True, timeout=60)

    assert f"x-version: {version}".encode() in result.stdout
    assert result.stdout.endswith(b"\r\n\r\n" + b"x" * 3_000_000)
