"""What does a count of the queue cost when much waits? And what does removing old mail? On both engines.

    .venv/bin/python benchmarks/waiting.py [--messages 1000000] [--engine sqlite|postgresql|both]

Fills a store with messages that wait, prints how long one count (delivery/census.py) takes and how much longer commits
of single submissions take while it runs; then ends them all and prints how many housekeeping removes in a second.
"""

import argparse
import asyncio
import contextlib
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from mailward.db.database import Database, Transaction, open_database  # noqa: E402
from mailward.delivery import census, queue  # noqa: E402
from mailward.delivery.housekeeping import sweep_messages  # noqa: E402
from tests.support.databases import new_postgres_url  # noqa: E402
from tests.support.postgres import postgres_server  # noqa: E402
from tests.support.queued import NOW, new_message  # noqa: E402

_STEP = 2_000
_REMOVED = 20_000


def end_all(tx: Transaction) -> None:
    """Have every recipient accepted."""
    tx.execute("UPDATE recipients SET state = 'accepted', next_attempt_at_us = NULL")


async def commits(database: Database, until: "asyncio.Future[object]") -> list[float]:
    """Submit one message after the other until `until` is done; return how long each took, in ms."""
    took = []
    while not until.done():
        began = time.perf_counter()
        await database.batch(queue.submit, new_message())
        took.append((time.perf_counter() - began) * 1e3)
    return took


async def measure(url: str, messages: int) -> None:
    database = await open_database(url)
    began = time.perf_counter()
    for first in range(0, messages, _STEP):
        count = min(_STEP, messages - first)
        await asyncio.gather(*[database.batch(queue.submit, new_message()) for _ in range(count)])
    print(f"  filled in {time.perf_counter() - began:.0f} s", file=sys.stderr)

    alone = await commits(database, asyncio.ensure_future(asyncio.sleep(3)))
    counting, counts = [], []
    for _ in range(3):
        began = time.perf_counter()
        count = asyncio.ensure_future(database.read(census.count, NOW))
        counting += await commits(database, count)
        counts.append(time.perf_counter() - began)
        assert sum(count.result().recipients[1].values()) >= messages
    print(f"{database.dialect}, {messages:,} waiting: a count takes {statistics.median(counts):.2f} s")
    for name, took in (("alone", alone), ("during a count", counting)):
        points = statistics.quantiles(took, n=100)
        print(f"  a lone commit {name}: p50 {points[49]:.2f} ms, p99 {points[98]:.2f} ms ({len(took)})")

    await database.write(end_all)
    removed, cursor = 0, -1
    began = time.perf_counter()
    while removed < min(_REMOVED, messages):
        swept = await database.write(sweep_messages, NOW * 2, cursor)
        assert swept.cursor is not None
        removed, cursor = removed + swept.removed, swept.cursor
    print(f"  housekeeping without its rests: {removed / (time.perf_counter() - began):,.0f} messages a second")
    await database.aclose()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--engine", choices=["sqlite", "postgresql", "both"], default="both")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=ROOT / "benchmarks") as folder, contextlib.ExitStack() as stack:
        if args.engine != "postgresql":
            asyncio.run(measure(f"sqlite:///{folder}/mailward.db", args.messages))
        if args.engine != "sqlite":
            server = stack.enter_context(postgres_server())
            asyncio.run(measure(new_postgres_url(server), args.messages))


if __name__ == "__main__":
    main()
