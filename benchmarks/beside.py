"""Does a slow provider hold up a fast one? 100 connections to one that answers after 2 s, beside a fast one.

    .venv/bin/python benchmarks/beside.py [--turns 15] [--clients 50]

Again and again the slow provider is made the active one until 90 connections wait for its answers, and then the fast
one; what that delivers meanwhile is compared with what it delivered just before, alone.
"""

import argparse
import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from tests.support.program import Program  # noqa: E402

CONNECTIONS = 100
IN_USE = 90  # of the 96 that are not kept for login codes
ANSWERS_AFTER_S = 2.0
_SETTLES_S = 0.3  # after a change of the active provider; the same for both
_WARM_S = 2.0
_TEXT = (
    b"From: shop@source.example\r\nSubject: Hello\r\n\r\n" + b"The quick brown fox jumps over the lazy dog.\r\n" * 44
)


class Sink(asyncio.Protocol):
    """Takes mail, each `after_s` after its dot."""

    taken = 0  #: by all that are not slow
    busy = 0  #: that are slow and owe an answer

    def __init__(self, after_s: float) -> None:
        self.after_s = after_s
        self.buffer = b""
        self.in_data = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(b"220 sink\r\n")

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        answers = b""
        while True:
            end = b"\r\n.\r\n" if self.in_data else b"\r\n"
            line, found, rest = self.buffer.partition(end)
            if not found:
                break
            self.buffer = rest
            answers += self._answer(line)
        self.transport.write(answers)

    def _answer(self, line: bytes) -> bytes:
        if self.in_data:
            self.in_data = False
            if not self.after_s:
                Sink.taken += 1
                return b"250 2.0.0 taken\r\n"
            Sink.busy += 1
            asyncio.get_running_loop().call_later(self.after_s, self._late)
            return b""
        match line[:4].upper():
            case b"EHLO":
                return b"250-sink\r\n250-PIPELINING\r\n250 8BITMIME\r\n"
            case b"DATA":
                self.in_data = True
                return b"354 go on\r\n"
        return b"250 2.0.0 ok\r\n"

    def _late(self) -> None:
        Sink.busy -= 1
        self.transport.write(b"250 2.0.0 taken\r\n")


async def sinks() -> None:
    """Run both; say their ports, then again and again: the time, what the fast one took, what the slow one has."""
    loop = asyncio.get_running_loop()
    servers = [await loop.create_server(partial(Sink, after_s), "127.0.0.1", 0) for after_s in (0.0, ANSWERS_AFTER_S)]
    print(*[server.sockets[0].getsockname()[1] for server in servers], flush=True)
    while True:
        await asyncio.sleep(0.1)
        print(time.monotonic(), Sink.taken, Sink.busy, flush=True)


async def client(port: int, token: str) -> None:
    """Send mail on one connection until cancelled, the commands of each pipelined."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def replies(count: int) -> None:
        while count:
            line = await reader.readline()
            if line[:1] not in (b"2", b"3"):
                raise SystemExit(f"the gateway said {line!r}")
            count -= line[3:4] == b" "

    await replies(1)
    login = b64encode(f"\0bench\0{token}".encode()).decode()
    for line, count in (("EHLO bench", 1), (f"AUTH PLAIN {login}", 1)):
        writer.write(f"{line}\r\n".encode())
        await replies(count)
    while True:
        writer.write(b"MAIL FROM:<shop@source.example>\r\nRCPT TO:<a@sink.example>\r\nDATA\r\n")
        await replies(3)
        writer.write(_TEXT + b".\r\n")
        await replies(1)


async def load(port: int, token: str, clients: int) -> None:
    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(client(port, token))


@asynccontextmanager
async def child(*args: str) -> AsyncIterator[asyncio.StreamReader]:
    """Run this program as `args` until the block ends; yield what it prints."""
    process = await asyncio.create_subprocess_exec(sys.executable, __file__, *args, stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        yield process.stdout
    finally:
        process.kill()
        await process.wait()


class Seen(NamedTuple):
    """What the sinks reported at a moment."""

    at_s: float
    taken: int
    busy: int


async def measure(folder: Path, clients: int, turns: int) -> list[tuple[float, float]]:
    """Return how many mails a second the fast provider takes in each turn: alone, and beside the slow one."""
    async with child("sinks") as reports:
        fast, slow = (await reports.readline()).decode().split()
        with Program(folder, "--relay-connections", str(CONNECTIONS)) as program:
            ids = [program.add_relay(f"127.0.0.1:{port}", activate=False) for port in (fast, slow)]
            token = program.token("sender")

            def activate(id: str) -> None:
                assert program.request("POST", f"/admin/v1/smtp/{id}/_activate", {}).status == 200

            async def see(until: Callable[[Seen], bool]) -> Seen:
                while True:
                    at_s, taken, busy = (await reports.readline()).split()
                    seen = Seen(float(at_s), int(taken), int(busy))
                    if until(seen):
                        return seen

            async def passed(seconds: float) -> Seen:
                end_s = time.monotonic() + seconds
                return await see(lambda seen: seen.at_s >= end_s)

            async def rate() -> tuple[float, int]:
                """Return how many were taken a second, and how many connections the slow one has in use."""
                begin = await passed(_SETTLES_S)
                end = await passed(ANSWERS_AFTER_S - 2 * _SETTLES_S)
                return (end.taken - begin.taken) / (end.at_s - begin.at_s), end.busy

            rates: list[tuple[float, float]] = []
            async with child("load", str(program.smtp_port), token, str(clients)):
                activate(ids[0])
                await passed(_WARM_S)
                while len(rates) < turns:
                    alone, _ = await rate()
                    activate(ids[1])
                    await see(lambda seen: seen.busy >= IN_USE)
                    activate(ids[0])
                    beside, busy = await rate()
                    if busy >= IN_USE:  # Otherwise the change took too long.
                        rates.append((alone, beside))
                    await see(lambda seen: not seen.busy)
    return rates


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--clients", type=int, default=50)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=ROOT / "benchmarks") as folder:
        rates = asyncio.run(measure(Path(folder) / "data", args.clients, args.turns))
    for alone, beside in rates:
        print(f"alone {alone:7.0f}/s   beside the slow one {beside:7.0f}/s   {beside / alone:.2f}x")
    first, median, third = statistics.quantiles([beside / alone for alone, beside in rates], n=4)
    print(f"median {median:.2f}x, half of them [{first:.2f}-{third:.2f}]")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["sinks"]:
            asyncio.run(sinks())
        case ["load", port, token, clients]:
            asyncio.run(load(int(port), token, int(clients)))
        case _:
            main()
