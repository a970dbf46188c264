"""What does much stored mail cost, and how fast does it go? On both engines.

    .venv/bin/python benchmarks/stored.py [--messages 1000000] [--engine sqlite|postgresql|both]

Fills a store with finished messages of 2 KiB. Prints what submit, the look that opens an attempt, and its close cost
in commits of 20, on it and on an empty store in turns; how long a count of the queue (delivery/census.py) takes; and,
while 500 messages a second come in, how many housekeeping removes in a second and what that does to commits.
"""

import argparse
import asyncio
import contextlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from mailward import metrics  # noqa: E402
from mailward.db.connect import connector  # noqa: E402
from mailward.db.database import Database, Transaction, open_database  # noqa: E402
from mailward.delivery import census, nodes, queue, retention  # noqa: E402
from mailward.delivery.housekeeping import Housekeeper, Keep  # noqa: E402
from mailward.delivery.lease import NewMessage, Owner  # noqa: E402
from tests.support.databases import new_postgres_url  # noqa: E402
from tests.support.postgres import postgres_server  # noqa: E402
from tests.support.queued import NOW, Mark, closing, mark, new_message, opening  # noqa: E402

_DAY_US = 86_400_000_000
_FILLED_AT_ONCE = 1_000
_COMMIT = 20
_COMMITS = 100
_RATE = 500
_TURN_S = 0.01
_LOAD_S = 10.0

Step = Callable[[Database, Owner, Sequence[NewMessage]], Awaitable[object]]


def fresh(count: int, owner: Owner) -> list[NewMessage]:
    """Return `count` messages that are leased to `owner`, of bytes that do not compress."""
    return [new_message(content=os.urandom(2048), owner=owner) for _ in range(count)]


async def submit(database: Database, owner: Owner, messages: Sequence[NewMessage]) -> None:
    await asyncio.gather(*[database.batch(queue.submit, message) for message in messages])


def attempt_of(message: NewMessage) -> Mark:
    """Return the one attempt of `message`."""
    return mark()._replace(attempt_id=message.id)  # type: ignore[arg-type]


async def open_all(database: Database, owner: Owner, messages: Sequence[NewMessage]) -> None:
    await asyncio.gather(
        *[database.batch(queue.open_attempts, opening(message, attempt_of(message), owner)) for message in messages]
    )


async def close_all(database: Database, owner: Owner, messages: Sequence[NewMessage]) -> None:
    await asyncio.gather(
        *[database.batch(queue.close_attempts, closing(message, attempt_of(message), owner)) for message in messages]
    )


STEPS: tuple[Step, ...] = (submit, open_all, close_all)


async def fill(database: Database, owner: Owner, count: int) -> None:
    """Store `count` finished messages."""
    for _ in range(0, count, _FILLED_AT_ONCE):
        messages = fresh(_FILLED_AT_ONCE, owner)
        for step in STEPS:
            await step(database, owner, messages)


async def compare(stores: Sequence[tuple[Database, Owner]]) -> None:
    """Print what each step costs a message in each store, in turns."""
    took: dict[tuple[int, int], list[float]] = {}
    for _ in range(_COMMITS):
        for place, (database, owner) in enumerate(stores):
            messages = fresh(_COMMIT, owner)
            for number, step in enumerate(STEPS):
                began = time.perf_counter()
                await step(database, owner, messages)
                took.setdefault((number, place), []).append((time.perf_counter() - began) / _COMMIT * 1e6)
    for number, name in enumerate(("submit", "open", "close")):
        empty, full = (statistics.median(took[number, place]) for place in (0, 1))
        print(f"  {name:7} {empty:5.0f} µs a message when empty, {full:5.0f} full: {full / empty:.2f}x")


async def load(database: Database, owner: Owner, until: "asyncio.Future[object]") -> list[float]:
    """Take in and deliver _RATE messages a second until `until` is done; return the submissions' times in ms."""
    took: list[float] = []
    running: set[asyncio.Task[None]] = set()

    async def one(message: NewMessage) -> None:
        began = time.perf_counter()
        await submit(database, owner, [message])
        took.append((time.perf_counter() - began) * 1e3)
        await open_all(database, owner, [message])
        await close_all(database, owner, [message])

    began, sent = time.perf_counter(), 0
    while not until.done():
        due = int((time.perf_counter() - began) * _RATE)
        for message in fresh(due - sent, owner):
            task = asyncio.get_running_loop().create_task(one(message))
            running.add(task)
            task.add_done_callback(running.discard)
        sent = due
        await asyncio.sleep(_TURN_S)
    await asyncio.gather(*running)
    return took


def shown(took: Sequence[float]) -> str:
    points = statistics.quantiles(took, n=100)
    return f"commits p50 {points[49]:.1f} ms, p99 {points[98]:.1f} ms"


async def keep_house(database: Database, owner: Owner) -> None:
    """Print what housekeeping removes beside a load, by how much is overdue, and what the load feels."""
    alone = await load(database, owner, asyncio.ensure_future(asyncio.sleep(_LOAD_S)))
    print(f"  {_RATE:,} messages a second alone: {shown(alone)}")
    filled_us = retention.drawn_at_us(new_message().id) + 10_000
    for overdue_s in (0, 3_600, 86_400):
        rates, beside = [], []
        for kind, keep in KEEPS.items():
            now_us = filled_us + 7 * _DAY_US + overdue_s * 1_000_000
            removed = metrics.housekeeping_removed.labels(kind)
            before, began = removed.value, time.perf_counter()
            work = asyncio.ensure_future(Housekeeper(database, keep, partial(int, now_us)).tidy())
            beside += await load(database, owner, asyncio.ensure_future(asyncio.wait([work], timeout=_LOAD_S)))
            rates.append((removed.value - before) / (time.perf_counter() - began))
            work.cancel()
        both = 1 / sum(1 / rate for rate in rates)
        print(f"  {overdue_s / 3600:2.0f} h overdue: {both:,.0f} messages a second, {shown(beside)}")
        print(f"    contents {rates[0]:,.0f}/s, the rest of messages without them {rates[1]:,.0f}/s")


KEEPS = {"contents": Keep(content_days=7, message_days=0), "messages": Keep(content_days=0, message_days=7)}


def wait_all(url: str) -> None:
    """Have every recipient wait."""
    with contextlib.closing(connector(url, statement_timeout_s=600)(read_only=False)) as connection:
        connection.begin()
        connection.execute("UPDATE recipients SET state = 'deferred', next_attempt_at_us = :at_us", at_us=NOW)
        connection.commit()


def recipients(tx: Transaction) -> int:
    """Return how many there are."""
    row = tx.fetch_one("SELECT count(*) FROM recipients")
    return row[0] if row else 0


async def count(database: Database, what: str) -> None:
    """Print how long a count of the queue takes."""
    took = []
    for _ in range(3):
        began = time.perf_counter()
        await database.read(census.count, NOW)
        took.append((time.perf_counter() - began) * 1e3)
    print(f"  a count of the queue, {what}: {statistics.median(took):,.1f} ms")


async def measure(urls: Sequence[str], messages: int) -> None:
    stores = []
    for url in urls:
        database = await open_database(url, writer="process", statement_timeout_s=600)
        stores.append((database, await database.write(nodes.register, "a", NOW)))
    began = time.perf_counter()
    database, owner = stores[1]
    await fill(database, owner, messages)
    print(f"{database.dialect}: {messages:,} finished messages (filled in {time.perf_counter() - began:.0f} s)")
    await compare(stores)
    await count(database, f"{messages:,} finished")
    await keep_house(database, owner)
    await asyncio.to_thread(wait_all, urls[1])
    await count(database, f"{await database.read(recipients):,} waiting")
    for database, _ in stores:
        await database.aclose()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--engine", choices=["sqlite", "postgresql", "both"], default="both")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=ROOT / "benchmarks") as folder, contextlib.ExitStack() as stack:
        if args.engine != "postgresql":
            asyncio.run(measure([f"sqlite:///{folder}/{name}.db" for name in ("empty", "full")], args.messages))
        if args.engine != "sqlite":
            server = stack.enter_context(postgres_server(autovacuum=True))
            asyncio.run(measure([new_postgres_url(server) for _ in range(2)], args.messages))


if __name__ == "__main__":
    main()
