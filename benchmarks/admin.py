"""Cost of the control plane: AddSMTPConfig, GetSMTPConfigById and a page of 20 over REST with keep-alive.

    .venv/bin/python benchmarks/admin.py [--calls 4000] [--connections 10] [--postgres] [--json]

Starts a fresh server, prints calls per second and CPU microseconds per call of the server and its database (the load
runs in a process of its own and is not counted), and the ratio to ZITADEL v4.3 with PostgreSQL 15 as it was recorded on
such a machine: 21.6 ms, 3.5 ms and 11.5 ms of CPU per call. That peer cannot run beside us, so these ratios compare
figures of two runs.
"""

import argparse
import asyncio
import json
import multiprocessing
import multiprocessing.queues
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
ZITADEL_CPU_US = {"AddSMTPConfig": 21_600, "GetSMTPConfigById": 3_500, "ListSMTPConfigs (20 of 1,000)": 11_500}
Answers = multiprocessing.queues.SimpleQueue
TICK = os.sysconf("SC_CLK_TCK")


def tree(pid: int) -> set[int]:
    """Return `pid` and all its descendants."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents.setdefault(int(fields[1]), []).append(int(entry.name))
    found, queue = set(), [pid]
    while queue:
        one = queue.pop()
        found.add(one)
        queue += parents.get(one, [])
    return found


def cpu_us(pid: int) -> float:
    """Return the CPU microseconds that the process tree of `pid` has used."""
    ticks = 0
    for one in tree(pid):
        try:
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        ticks += int(fields[11]) + int(fields[12])
    return ticks * 1e6 / TICK


async def exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> bytes:
    """Send one request on a kept connection and return the body of its answer."""
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        raise SystemExit(f"unexpected answer: {head.decode()}")
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    return await reader.readexactly(int(length.split(b":")[1]))


async def load(port: int, requests: list[bytes], connections: int) -> list[bytes]:
    """Send `requests` over `connections` connections, one after the other on each; return the bodies."""
    rest, bodies = iter(requests), []

    async def connection() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for request in rest:
            bodies.append(await exchange(reader, writer, request))  # noqa: PERF401  the iterator is shared
        writer.close()

    await asyncio.gather(*(connection() for _ in range(connections)))
    return bodies


def _load_process(
    port: int, requests: list[bytes], connections: int, answers: "multiprocessing.Queue[list[bytes]]"
) -> None:
    answers.put(asyncio.run(load(port, requests, connections)))


def timed(port: int, requests: list[bytes], connections: int, pid: int) -> tuple[float, float, list[bytes]]:
    """Return (calls per second, CPU µs per call, bodies) of `requests`."""
    answers = multiprocessing.SimpleQueue()
    process = multiprocessing.Process(target=_load_process, args=(port, requests, connections, answers))
    before, start = cpu_us(pid), time.perf_counter()
    process.start()
    bodies = answers.get()
    seconds, used = time.perf_counter() - start, cpu_us(pid) - before
    process.join()
    return len(requests) / seconds, used / len(requests), bodies


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=4000)
    parser.add_argument("--connections", type=int, default=10)
    parser.add_argument("--postgres", action="store_true", help="on PostgreSQL instead of SQLite")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()

    sys.path.insert(0, str(ROOT))
    from tests.support.program import Program, free_port

    with tempfile.TemporaryDirectory(dir=ROOT / "benchmarks") as folder:
        Path(folder).chmod(0o755)
        command, flags = [], []
        if args.postgres:
            port = str(free_port())
            command = [sys.executable, str(ROOT / "benchmarks/with_postgres.py"), folder, port, "sleep", "1000000"]
            flags = ["--database", f"postgresql://mailward@127.0.0.1:{port}/mailward"]
        database = subprocess.Popen(command) if command else None
        if database:
            time.sleep(5)
        try:
            with Program(Path(folder) / "data", *flags) as program:
                pids = [program.process.pid, *([database.pid] if database else [])]
                figures = measure(program, args.calls, args.connections, pids)
        finally:
            if database:
                database.send_signal(signal.SIGTERM)
                database.wait()
    if args.json:
        print(json.dumps(figures, indent=2))
        return
    print(f"{'call':32} {'calls/s':>9} {'CPU us/call':>12} {'ZITADEL / ours':>15}")
    for name, (rate, us) in figures.items():
        print(f"{name:32} {rate:9.0f} {us:12.0f} {ZITADEL_CPU_US[name] / us:14.1f}x")


def measure(program: "Program", calls: int, connections: int, pids: list[int]) -> dict[str, tuple[float, float]]:  # type: ignore[name-defined]  # noqa: F821
    """Return {call: (calls per second, CPU µs per call of all `pids`)}."""
    head = f"Host: localhost\r\nAuthorization: Bearer {program.owner}\r\nContent-Type: application/json\r\n"

    def request(method: str, path: str, body: str = "") -> bytes:
        return f"{method} {path} HTTP/1.1\r\n{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()

    def run(requests: list[bytes]) -> tuple[float, float, list[bytes]]:
        before = sum(cpu_us(pid) for pid in pids[1:])
        rate, us, bodies = timed(program.http_port, requests, connections, pids[0])
        return rate, us + (sum(cpu_us(pid) for pid in pids[1:]) - before) / len(requests), bodies

    config = json.dumps(
        {"senderAddress": "a@example.com", "senderName": "A", "host": "mail.example.com:587", "tls": True}
        | {"user": "u", "password": "p", "description": "benchmark"}
    )
    add = request("POST", "/admin/v1/smtp", config)
    run([add] * 200)  # warm-up
    figures = {}
    rate, us, bodies = run([add] * 1000)
    figures["AddSMTPConfig"] = (rate, us)
    id = json.loads(bodies[-1])["id"]
    run([request("GET", f"/admin/v1/smtp/{id}")] * 200)
    figures["GetSMTPConfigById"] = run([request("GET", f"/admin/v1/smtp/{id}")] * calls)[:2]
    page = request("POST", "/admin/v1/smtp/_search", '{"query":{"limit":20,"offset":"0"}}')
    figures["ListSMTPConfigs (20 of 1,000)"] = run([page] * max(calls // 4, 500))[:2]
    figures["AddSMTPConfig"] = run([add] * calls)[:2]
    return figures


if __name__ == "__main__":
    main()
