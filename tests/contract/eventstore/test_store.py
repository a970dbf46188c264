"""The event log on both engines."""

import asyncio
from typing import Any

import pytest

from mailward.db.database import Database, Transaction, open_database
from mailward.errors import InvalidArgument
from mailward.eventstore import store
from mailward.eventstore.event import NewEvent, RecordedEvent
from mailward.eventstore.projection import rebuild
from mailward.eventstore.store import VersionConflict
from tests.support import events as stored_events


class Totals:
    """A toy read table in `meta`: for each counter the sum of what was added, as text."""

    name = "totals"

    def apply(self, tx: Transaction, event: RecordedEvent) -> None:
        if event.type != "counter.added":
            return
        row = tx.fetch_one("SELECT value FROM meta WHERE key = :key", key=event.aggregate_id)
        if row is None:
            tx.execute("INSERT INTO meta (key, value) VALUES (:key, '0')", key=event.aggregate_id)
        total = int(row[0]) if row else 0
        tx.execute(
            "UPDATE meta SET value = :value WHERE key = :key",
            key=event.aggregate_id,
            value=str(total + sum(event.payload["by"])),
        )

    def reset(self, tx: Transaction) -> None:
        tx.execute("DELETE FROM meta")


def added(*by: int) -> NewEvent:
    return NewEvent("counter.added", {"by": by})


def append(tx: Transaction, id: str, expected: int, *events: NewEvent) -> list[RecordedEvent]:
    return store.append(tx, "counter", id, expected, events, editor="me", at_us=7, projections=[Totals()])


def append_next(tx: Transaction, id: str) -> int:
    """Load, decide and append, as a command does."""
    version = store.version(tx, "counter", id, lock=True)
    append(tx, id, version, added(1))
    return version + 1


def totals(tx: Transaction) -> list[tuple[Any, ...]]:
    return tx.fetch("SELECT key, value FROM meta ORDER BY key")


def unlocked_version(tx: Transaction, id: str) -> int:
    return store.version(tx, "counter", id, lock=False)


def stream(tx: Transaction, id: str, after: int = 0) -> list[RecordedEvent]:
    return stored_events.stream(tx, "counter", id, after)


def spoil_and_rebuild(tx: Transaction) -> int:
    tx.execute("UPDATE meta SET value = 'wrong'")
    return rebuild(tx, [Totals()])


async def test_events_come_back_as_they_were_recorded(database: Database) -> None:
    recorded = await database.write(append, "a", 0, added(1, 2), NewEvent("counter.named", {"name": "ü 😀"}))
    more = await database.write(append, "a", 2, added(3))

    assert [(one.version, one.type, one.payload) for one in recorded] == [
        (1, "counter.added", {"by": [1, 2]}),
        (2, "counter.named", {"name": "ü 😀"}),
    ]
    assert (recorded[0].aggregate_type, recorded[0].aggregate_id) == ("counter", "a")
    assert (recorded[0].editor, recorded[0].at_us) == ("me", 7)
    assert await database.read(stream, "a") == recorded + more
    assert await database.read(stream, "a", 2) == more
    assert await database.read(unlocked_version, "a") == 3
    assert await database.read(unlocked_version, "b") == 0


async def test_nothing_to_append_changes_nothing(database: Database) -> None:
    assert await database.write(append, "a", 0) == []
    assert await database.read(unlocked_version, "a") == 0


@pytest.mark.parametrize("expected", [0, 2])
async def test_an_append_at_another_version_is_a_conflict(database: Database, expected: int) -> None:
    await database.write(append, "a", 0, added(1))

    with pytest.raises(VersionConflict):
        await database.write(append, "a", expected, added(1))

    assert await database.read(totals) == [("a", "1")]
    assert len(await database.read(stream, "a")) == 1


async def test_a_payload_that_is_no_json_is_refused_and_undone(database: Database) -> None:
    with pytest.raises(InvalidArgument):
        await database.write(append, "a", 0, added(1), NewEvent("counter.named", {"name": "\ud800"}))

    assert await database.read(unlocked_version, "a") == 0
    assert await database.read(totals) == []


async def test_two_programs_never_both_append_at_one_version(database: Database, database_url: str) -> None:
    other = await open_database(database_url)
    for version in range(20):
        results = await asyncio.gather(
            database.write(append, "a", version, added(1)),
            other.write(append, "a", version, added(10)),
            return_exceptions=True,
        )
        assert sorted(type(result).__name__ for result in results) == ["VersionConflict", "list"]
    await other.aclose()

    events = await database.read(stream, "a")
    assert [one.version for one in events] == list(range(1, 21))
    assert await database.read(totals) == [("a", str(sum(one.payload["by"][0] for one in events)))]


async def test_commands_of_two_programs_queue_up_instead_of_failing(database: Database, database_url: str) -> None:
    other = await open_database(database_url)
    versions = await asyncio.gather(
        *(one.write(append_next, id) for _ in range(10) for one in (database, other) for id in ("a", "b"))
    )
    await other.aclose()

    assert sorted(versions) == sorted(list(range(1, 21)) * 2)


async def test_whoever_follows_the_log_misses_no_event(database: Database, database_url: str) -> None:
    """Positions are given out before the commit; a late one must not appear behind a reader."""
    others = [await open_database(database_url) for _ in range(3)]
    seen: list[RecordedEvent] = []

    async def follow(until: int) -> None:
        while len(seen) < until:
            seen.extend(await database.read(store.read_all, seen[-1].position if seen else 0, 7))

    async def write(one: Database, name: str) -> None:
        for number in range(25):
            await one.write(append_next, f"{name}{number % 5}")

    async with asyncio.timeout(60):
        await asyncio.gather(follow(75), *(write(one, str(name)) for name, one in enumerate(others)))
    for one in others:
        await one.aclose()

    positions = [event.position for event in seen]
    assert positions == sorted(set(positions))
    assert len(seen) == 75


async def test_a_rebuild_gives_the_same_tables(database: Database) -> None:
    """From more events than one page, in the order in which they were appended."""
    for turn in range(3):
        await asyncio.gather(*(database.write(append, f"c{n}", turn, added(n, turn)) for n in range(400)))
    before = await database.read(totals)

    count = await database.write(spoil_and_rebuild)

    assert count == 1_200
    assert len(before) == 400
    assert await database.read(totals) == before
