"""What hostile clients of the HTTP port get: an end. Everybody else is served meanwhile, and memory stays flat."""

import socket
import struct
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from itertools import repeat
from pathlib import Path

import pytest
from hpack import Encoder
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from tests.support.program import Program
from tests.support.waiting import PATIENCE_S

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SettingsFrame(0).serialize()
ATTACKERS, MOST_FRAMES = 4, 50_000
SERVED_S = 20.0  #: on a machine with nothing else to do it is a fraction of a second


def head(path: str = "/openapi.json", method: str = "GET") -> bytes:
    fields = [(":method", method), (":path", path), (":scheme", "http"), (":authority", "a")]
    return bytes(Encoder().encode(fields))


def headers(stream: int, *flags: str, data: bytes = head()) -> Frame:
    return HeadersFrame(stream, data=data, flags=flags)


def rapid_reset() -> Iterator[Frame]:
    """CVE-2023-44487."""
    for stream in range(1, 2 * MOST_FRAMES, 2):
        yield headers(stream, "END_HEADERS", "END_STREAM")
        yield RstStreamFrame(stream, error_code=8)


def continuation_flood() -> Iterator[Frame]:
    """CVE-2024-27316."""
    yield headers(1)
    yield from repeat(ContinuationFrame(1, data=b"\x00\x01a\x01b" * 10), MOST_FRAMES)


def bomb() -> Iterator[Frame]:
    """A field of 4,000 bytes, repeated by references of one byte each."""
    yield headers(1, data=head() + b"\x40\x01a\x7f\xa1\x1e" + b"x" * 4_000)
    yield ContinuationFrame(1, data=b"\xbe" * 16_000, flags=["END_HEADERS"])


def no_window() -> Iterator[Frame]:
    """Asks for much and takes nothing."""
    yield SettingsFrame(0, settings={SettingsFrame.INITIAL_WINDOW_SIZE: 0})
    for stream in range(1, 400, 2):
        yield headers(stream, "END_HEADERS", "END_STREAM")


ATTACKS = {
    "oversize settings": [SettingsFrame(0, settings=dict.fromkeys(range(100, 2_900), 1)), WindowUpdateFrame(0)],
    "settings flood": repeat(SettingsFrame(0, settings={1: 4096}), MOST_FRAMES),
    "ping flood": repeat(PingFrame(0, opaque_data=b"12345678"), MOST_FRAMES),
    "empty data flood": [headers(1, "END_HEADERS", data=head("/v1/messages", "POST"))] + [DataFrame(1)] * MOST_FRAMES,
    "rapid reset": rapid_reset(),
    "continuation flood": continuation_flood(),
    "header bomb": bomb(),
}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    with Program(tmp_path_factory.mktemp("hostile") / "data") as program:
        yield program


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_cut_off_while_others_are_served(name: str, gateway: Program) -> None:
    data = PREFACE + b"".join(frame.serialize() for frame in ATTACKS[name])

    def attack(_: int) -> None:
        """Return when the server has ended it."""
        with connect(gateway) as connection, suppress(ConnectionError):
            connection.sendall(data)
            while connection.recv(65_536):
                pass

    with ThreadPoolExecutor(ATTACKERS) as attackers:
        attacks = [attackers.submit(attack, n) for n in range(ATTACKERS)]
        waits = [0.0]
        while not all(one.done() for one in attacks):
            waits.append(served_after_s(gateway))

    for one in attacks:
        one.result()
    assert max(waits) < SERVED_S
    assert b"Traceback" not in gateway.log.read_bytes()


def test_clients_that_ask_for_much_and_take_nothing_hold_nobody_up(gateway: Program) -> None:
    """Their answers wait a minute for a window; the streams of one connection are limited meanwhile."""
    data = PREFACE + b"".join(frame.serialize() for frame in no_window())
    with ExitStack() as stack:
        for _ in range(ATTACKERS):
            stack.enter_context(connect(gateway)).sendall(data)

        assert max(served_after_s(gateway) for _ in range(50)) < SERVED_S


def connect(gateway: Program) -> socket.socket:
    return socket.create_connection(("127.0.0.1", gateway.http_port), timeout=PATIENCE_S)


def served_after_s(gateway: Program) -> float:
    """Make a call as everybody else, and return how long it took."""
    began = time.monotonic()
    assert gateway.request("GET", "/admin/v1/smtp/123456789012345678").status == 404
    return time.monotonic() - began


#: What a connection says before it is dropped.
BEGINNINGS = [
    b"", b"PRI", PREFACE, PREFACE + headers(1, "END_HEADERS", "END_STREAM").serialize(),
    b"POST /v1/messages HTTP/1.1\r\nHost: a\r\nContent-Length: 900\r\n\r\n{",
    b"GET /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n" * 3, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
]  # fmt: skip


def test_ten_thousand_connections_opened_and_dropped_leave_memory_flat(gateway: Program) -> None:
    def come_and_go(count: int) -> int:
        """Return the resident KiB after `count` connections."""
        for n in range(count):
            with connect(gateway) as connection:
                connection.sendall(BEGINNINGS[n % len(BEGINNINGS)])
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # reset
        assert gateway.request("GET", "/debug/healthz").status == 200
        status = Path(f"/proc/{gateway.process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0])

    warm = come_and_go(2_000)

    assert come_and_go(10_000) - warm < 4_096
    assert b"Traceback" not in gateway.log.read_bytes()
