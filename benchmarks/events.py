"""Cost of searching the event log: the same searches beside 1,000 and beside 1,000,000 events, and of an append.

    .venv/bin/python benchmarks/events.py [--events 1000000] [--postgres]

Prints the median microseconds of each search in one read transaction, and the ratio of the two sizes.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from pathlib import Path

from mailward.db.database import Database, Transaction, open_database
from mailward.eventstore import store
from mailward.eventstore.event import NewEvent
from mailward.eventstore.search import Search, search
from tests.support.databases import new_postgres_url
from tests.support.postgres import postgres_server

BORN = 1_700_000_000_000_000
COMMON = ("instance.smtp.config.added", "instance.smtp.config.changed", "instance.smtp.config.activated")
RARE = "instance.member.removed"
_EVENT = """
    INSERT INTO events (position, aggregate_type, aggregate_id, version, type, payload, editor, peer, at_us, digest)
    VALUES (:n, :a, :i, :v, :t, :p, :e, '', :at, :d)
"""


def fill(tx: Transaction, first: int, last: int) -> None:
    """Append events of the instance, each hundredth of a user of its own, every 100,000th of a rare kind."""
    rows = []
    for number in range(first, last):
        at, payload = BORN + number * 1000, '{"id": "298765432109880001", "senderName": "Example"}'
        if number % 100:
            type = RARE if number % 100_000 == 1 else COMMON[number % 3]
            row = {"a": "instance", "i": "1", "v": number + 1, "t": type, "e": f"editor-{number % 7}"}
        else:
            row = {"a": "user", "i": f"u{number}", "v": 1, "t": "user.machine.added", "e": "SYSTEM"}
        rows.append(row | {"n": number + 1, "p": payload, "at": at, "d": b""})  # No chain: nobody checks it here.
    tx.executemany(_EVENT, rows)
    kinds = {(row["a"], row["t"]) for row in rows}
    tx.executemany(
        "INSERT INTO event_kinds (aggregate_type, type) VALUES (:a, :t) ON CONFLICT DO NOTHING",
        [{"a": a, "t": t} for a, t in kinds],
    )
    users = [{"i": row["i"]} for row in rows if row["a"] == "user"]
    tx.executemany("INSERT INTO aggregates (type, id, version) VALUES ('user', :i, 1)", users)
    tx.execute("DELETE FROM aggregates WHERE type = 'instance'")
    tx.execute("INSERT INTO aggregates (type, id, version) VALUES ('instance', '1', :v)", v=last)


def append(tx: Transaction) -> None:
    version = store.version(tx, "instance", "1", lock=True)
    new = [NewEvent(COMMON[0], {"id": "298765432109880001"})]
    at_us = BORN + version * 1000
    store.append(tx, "instance", "1", version, new, editor="editor-1", at_us=at_us, projections=())


def searches(count: int) -> dict[str, Search]:
    middle = BORN + count // 2 * 1000
    types = frozenset(COMMON)
    return {
        "newest 20": Search(limit=20),
        "one type": Search(types=frozenset({COMMON[0]}), limit=20),
        "a rare type": Search(types=frozenset({RARE}), limit=20),
        "three types, oldest": Search(types=types, newest_first=False, limit=20),
        "an editor": Search(editor="editor-3", limit=20),
        "an editor and a rare type": Search(editor="editor-3", types=frozenset({RARE}), limit=20),
        "an unknown editor": Search(editor="nobody", limit=20),
        "the instance": Search(aggregate_id="1", limit=20),
        "the instance, types": Search(aggregate_id="1", types=types, limit=20),
        "the instance, after a sequence": Search(
            aggregate_id="1", after_version=count // 2, newest_first=False, limit=20
        ),
        "before a sequence, types": Search(aggregate_id="1", types=types, before_version=count // 2, limit=20),
        "one user": Search(aggregate_id="u500", limit=20),
        "all users": Search(aggregate_types=frozenset({"user"}), limit=20),
        "from the middle": Search(after_us=middle, newest_first=False, limit=20),
        "up to the middle, types": Search(before_us=middle, types=types, limit=20),
        "a moment in the middle": Search(after_us=middle, before_us=middle + 5_000, limit=20),
    }


async def medians(database: Database, count: int) -> dict[str, float]:
    found = {}
    for name, wanted in searches(count).items():
        times = []
        for _ in range(15):
            start = time.perf_counter()
            await database.read(search, wanted)
            times.append((time.perf_counter() - start) * 1e6)
        found[name] = statistics.median(times)
    times = []
    for _ in range(30):
        start = time.perf_counter()
        await database.write(append)
        times.append((time.perf_counter() - start) * 1e6)
    found["append, durable"] = statistics.median(times)
    return found


async def measure(url: str | Path, count: int) -> dict[str, float]:
    database = await open_database(url)
    for first in range(0, count, 20_000):
        await database.write(fill, first, min(first + 20_000, count))
    if database.dialect == "postgresql":
        await database.write(_analyze)
    found = await medians(database, count)
    await database.aclose()
    return found


def _analyze(tx: Transaction) -> None:
    tx.execute("ANALYZE")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--postgres", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.postgres:
            with postgres_server(fsync=True) as server:
                few = asyncio.run(measure(new_postgres_url(server), 1_000))
                many = asyncio.run(measure(new_postgres_url(server), options.events))
        else:
            few = asyncio.run(measure(Path(folder) / "few.db", 1_000))
            many = asyncio.run(measure(Path(folder) / "many.db", options.events))
    print(f"{'µs beside':32}{1_000:>10,}{options.events:>12,}   ratio")
    for name, least in few.items():
        print(f"{name:32}{least:10.0f}{many[name]:12.0f}{many[name] / least:8.2f}")


if __name__ == "__main__":
    main()
