"""Cost of the control plane: adding, reading and listing SMTP configurations over REST with keep-alive, and over gRPC.

    .venv/bin/python benchmarks/admin.py [--calls 4000] [--connections 10] [--postgres] [--json]

Starts a fresh server, prints calls per second, CPU microseconds per call of the server and its database (the load runs
in a process of its own and is not counted), how many calls failed, and the ratio to ZITADEL v4.3 with PostgreSQL 15 as
it was recorded on such a machine over REST: 21.6 ms, 3.5 ms and 11.5 ms of CPU per call. That peer cannot run beside
us, so these ratios compare figures of two runs.

On SQLite the server remembers answers until something changes. "in turn" asks for more ids and pages than it remembers,
so that each is read from the database; "again" asks for the same one, which then always comes from memory.
"""

import argparse
import asyncio
import itertools
import json
import multiprocessing
import multiprocessing.connection
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NamedTuple

from google.protobuf.json_format import ParseDict

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from mailward.proto.zitadel import admin_pb2  # noqa: E402
from tests.support.databases import new_postgres_url  # noqa: E402
from tests.support.postgres import postgres_server  # noqa: E402
from tests.support.program import Program  # noqa: E402

STORED = 1_200  #: configurations that are there when reading begins; more than the 500 answers that are remembered
PAGE = 20
ADD, BY_ID, LIST = "AddSMTPConfig", "GetSMTPConfigById", f"ListSMTPConfigs ({PAGE} of {STORED:,})"
ZITADEL_CPU_US = {ADD: 21_600, f"{BY_ID}, in turn": 3_500, f"{LIST}, in turn": 11_500}
SERVICE = "/zitadel.admin.v1.AdminService"
CONFIG = {
    "senderAddress": "a@example.com", "senderName": "A", "host": "mail.example.com:587", "tls": True,
    "user": "u", "password": "p", "description": "benchmark",
}  # fmt: skip
TICK = os.sysconf("SC_CLK_TCK")

#: One exchange on one connection: takes a request, returns the body of its answer, None for a failure.
Exchange = Callable[[bytes], Awaitable[bytes | None]]


class Figures(NamedTuple):
    """What a call cost."""

    calls_per_s: float
    cpu_us: float  #: of server and database, for one call
    failed: int


def tree(pid: int) -> set[int]:
    """Return `pid` and all its descendants."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                parents.setdefault(int(fields[1]), []).append(int(entry.name))
    found, queue = set(), [pid]
    while queue:
        one = queue.pop()
        found.add(one)
        queue += parents.get(one, [])
    return found


def cpu_us(pids: list[int]) -> float:
    """Return the CPU microseconds that the process trees of `pids` have used."""
    ticks = 0
    for one in set().union(*map(tree, pids)):
        with suppress(OSError):
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks * 1e6 / TICK


async def rest(port: int) -> Exchange:
    """Open a connection that is kept for requests of HTTP/1.1."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def exchange(request: bytes) -> bytes | None:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        body = await reader.readexactly(int(length.split(b":")[1]))
        return body if head.startswith(b"HTTP/1.1 200") else None

    return exchange


async def grpc_channel(port: int, token: str) -> Exchange:
    """Open a channel for calls; a request is the method, a line feed and the message."""
    import grpc.aio  # Not before the load's own process: grpcio does not outlive a fork.

    channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}", [("grpc.use_local_subchannel_pool", 1)])

    async def exchange(request: bytes) -> bytes | None:
        method, _, message = request.partition(b"\n")
        call = channel.unary_unary(method.decode(), request_serializer=bytes, response_deserializer=bytes)
        try:
            return bytes(await call(message, metadata=[("authorization", f"Bearer {token}")]))
        except grpc.aio.AioRpcError:
            return None

    return exchange


async def load(connect: Callable[[], Awaitable[Exchange]], requests: list[bytes], connections: int) -> list[bytes]:
    """Send `requests` over `connections` connections, one after the other on each; return the good answers."""
    left, good = iter(requests), []

    async def connection() -> None:
        exchange = await connect()
        for request in left:
            if (body := await exchange(request)) is not None:
                good.append(body)  # noqa: PERF401  the iterator is shared

    await asyncio.gather(*(connection() for _ in range(connections)))
    return good


class Bench:
    """Loads one server from a process of its own, and looks at what that costs the server and its database."""

    def __init__(self, program: Program, connections: int, pids: list[int]) -> None:
        self.program, self.connections, self.pids = program, connections, pids

    def run(self, requests: list[bytes], *, over_grpc: bool = False) -> tuple[Figures, list[bytes]]:
        """Return what `requests` cost and the answers to them."""
        port, token = self.program.http_port, self.program.owner
        connect = (lambda: grpc_channel(port, token)) if over_grpc else (lambda: rest(port))
        here, there = multiprocessing.Pipe()

        def work(end: multiprocessing.connection.Connection) -> None:
            end.send(asyncio.run(load(connect, requests, self.connections)))

        process = multiprocessing.get_context("fork").Process(target=work, args=(there,))
        before, start = cpu_us(self.pids), time.perf_counter()
        process.start()
        there.close()
        good = here.recv()
        seconds, used = time.perf_counter() - start, cpu_us(self.pids) - before
        process.join()
        return Figures(len(requests) / seconds, used / len(requests), len(requests) - len(good)), good


def measure(program: Program, calls: int, connections: int, pids: list[int]) -> dict[str, Figures]:
    """Return what each kind of call costs all `pids`."""
    bench = Bench(program, connections, pids)
    head = f"Host: localhost\r\nAuthorization: Bearer {program.owner}\r\nContent-Type: application/json\r\n"

    def request(method: str, path: str, body: str = "") -> bytes:
        return f"{method} {path} HTTP/1.1\r\n{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()

    def page(offset: int) -> bytes:
        return request("POST", "/admin/v1/smtp/_search", json.dumps({"query": {"limit": PAGE, "offset": offset}}))

    def by_grpc(method: str, message: bytes) -> bytes:
        return f"{SERVICE}/{method}\n".encode() + message

    def turns(of: list[bytes], count: int) -> list[bytes]:
        return list(itertools.islice(itertools.cycle(of), count))

    add = request("POST", "/admin/v1/smtp", json.dumps(CONFIG))
    _, added = bench.run([add] * STORED)
    ids = [json.loads(body)["id"] for body in added]
    reads, pages = [request("GET", f"/admin/v1/smtp/{id}") for id in ids], [page(n) for n in range(STORED - PAGE)]
    grpc_reads = [by_grpc(BY_ID, admin_pb2.GetSMTPConfigByIdRequest(id=id).SerializeToString()) for id in ids]
    grpc_add = by_grpc(ADD, ParseDict(CONFIG, admin_pb2.AddSMTPConfigRequest()).SerializeToString())
    listed = max(calls // 4, 500)
    rounds: dict[str, tuple[list[bytes], bool]] = {
        f"{BY_ID}, in turn": (turns(reads, calls), False),
        f"{BY_ID}, in turn, gRPC": (turns(grpc_reads, calls), True),
        f"{BY_ID}, again": (reads[:1] * calls, False),
        f"{BY_ID}, again, gRPC": (grpc_reads[:1] * calls, True),
        f"{LIST}, in turn": (turns(pages, listed), False),
        f"{LIST}, again": (pages[:1] * listed, False),
        ADD: ([add] * calls, False),
        f"{ADD}, gRPC": ([grpc_add] * calls, True),
    }
    figures = {}
    for name, (requests, over_grpc) in rounds.items():
        bench.run(requests[:200], over_grpc=over_grpc)  # warm-up
        figures[name], _ = bench.run(requests, over_grpc=over_grpc)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=4000)
    parser.add_argument("--connections", type=int, default=10)
    parser.add_argument("--postgres", action="store_true", help="on PostgreSQL instead of SQLite")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()

    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(dir=ROOT / "benchmarks"))
        pids, flags = [], []
        if args.postgres:
            server = stack.enter_context(postgres_server(fsync=True))
            pids, flags = [server.pid], ["--database", new_postgres_url(server)]
        program = stack.enter_context(Program(Path(folder) / "data", *flags))
        figures = measure(program, args.calls, args.connections, [program.process.pid, *pids])
    if args.json:
        print(json.dumps({name: one._asdict() for name, one in figures.items()}, indent=2))
        return
    print(f"{'call':42} {'calls/s':>8} {'CPU us/call':>12} {'failed':>7} {'ZITADEL / ours':>15}")
    for name, (rate, us, failed) in figures.items():
        ratio = f"{ZITADEL_CPU_US[name] / us:14.1f}x" if name in ZITADEL_CPU_US else ""
        print(f"{name:42} {rate:8.0f} {us:12.0f} {failed:7} {ratio:>15}")


if __name__ == "__main__":
    main()
