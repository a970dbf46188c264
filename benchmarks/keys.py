"""What does an Idempotency-Key cost? Submissions over HTTP with a fresh key each and without one, in turns.

    .venv/bin/python benchmarks/keys.py [--rounds 7] [--calls 5000] [--connections 50] [--postgres]

No provider is active, so nothing but accepting is measured. Prints CPU µs a message (gateway, store process and, with
--postgres, the server) and with ÷ without.
"""

import argparse
import asyncio
import contextlib
import itertools
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.admin import cpu_us  # noqa: E402
from tests.support.databases import new_postgres_url  # noqa: E402
from tests.support.postgres import postgres_server  # noqa: E402
from tests.support.program import Program  # noqa: E402

_BODY = (ROOT / "benchmarks/message.json").read_bytes()
_numbers = itertools.count()


async def submit(port: int, token: str, calls: int, connections: int, *, with_key: bool) -> None:
    """Send `calls` submissions over `connections` connections."""
    head = (
        f"POST /v1/messages HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(_BODY)}\r\n"
    )

    async def connection(count: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(count):
            key = f"Idempotency-Key: order-{next(_numbers)}\r\n" if with_key else ""
            writer.write(f"{head}{key}\r\n".encode() + _BODY)
            answer = await reader.readuntil(b"\r\n\r\n")
            if not answer.startswith(b"HTTP/1.1 202"):
                raise SystemExit(f"unexpected answer: {answer.decode()}")
            length = next(line for line in answer.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            await reader.readexactly(int(length.split(b":")[1]))
        writer.close()

    await asyncio.gather(*[connection(calls // connections) for _ in range(connections)])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--calls", type=int, default=5000)
    parser.add_argument("--connections", type=int, default=50)
    parser.add_argument("--postgres", action="store_true", help="on PostgreSQL instead of SQLite")
    args = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(dir=ROOT / "benchmarks"))
        flags, others = [], []
        if args.postgres:
            server = stack.enter_context(postgres_server())
            flags, others = ["--database", new_postgres_url(server)], [server.pid]
        program = stack.enter_context(Program(Path(folder) / "data", *flags))
        token = program.token("sender")

        def used_us() -> float:
            return cpu_us([program.process.pid, *others])

        ratios = []
        for number in range(args.rounds + 1):
            costs = {}
            for with_key in (False, True):
                before, began = used_us(), time.perf_counter()
                asyncio.run(submit(program.http_port, token, args.calls, args.connections, with_key=with_key))
                costs[with_key] = (used_us() - before) / args.calls
                rate = args.calls / (time.perf_counter() - began)
                if number:  # The first round warms up.
                    print(f"{'with a key' if with_key else 'without   '} {costs[with_key]:5.0f} µs  {rate:6.0f}/s")
            if number:
                ratios.append(costs[True] / costs[False])
    print(f"with ÷ without: median {statistics.median(ratios):.2f}x [{min(ratios):.2f}-{max(ratios):.2f}]")


if __name__ == "__main__":
    main()
