"""The chain through the event log on both engines: what was changed or removed shows."""

from typing import Any

import pytest

from mailward.db.database import Database, Transaction
from mailward.eventstore import chain, store
from mailward.eventstore.chain import START, Checked
from mailward.eventstore.event import Editor, NewEvent

COUNT = 7


def _record(tx: Transaction, id: str, count: int) -> None:
    version = store.version(tx, "counter", id, lock=True)
    new = [NewEvent("counter.added", {"by": number, "note": "größer"}) for number in range(count)]
    store.append(tx, "counter", id, version, new, editor=Editor("me", "192.0.2.1:25"), at_us=7, projections=())


@pytest.fixture
async def positions(database: Database) -> list[int]:
    """Positions of COUNT events, recorded alone and together, about two aggregates."""
    for id, count in (("a", 1), ("b", 3), ("a", 2), ("b", 1)):
        await database.write(_record, id, count)
    return [event.position for event in await database.read(store.read_all)]


async def checked(database: Database, limit: int = 2, wanted: bytes = b"-") -> Checked:
    result = Checked(0, 0, START)
    while True:
        before, result = result, await database.read(chain.check, result, limit, wanted)
        if result.broken or result.count == before.count:
            return result


def _execute(tx: Transaction, sql: str, values: dict[str, Any]) -> None:
    assert tx.execute(sql, **values) > 0


async def test_a_log_that_nobody_touched_holds(database: Database, positions: list[int]) -> None:
    result = await checked(database)

    assert (result.count, result.position, result.broken) == (COUNT, positions[-1], None)
    assert len(result.head) == 32


@pytest.mark.parametrize(
    "change",
    [
        "payload = '{}'", "editor = 'somebody'", "peer = ''", "at_us = 8", "type = 'counter.removed'",
        "version = version + 100", "digest = :digest",
    ],
)  # fmt: skip
@pytest.mark.parametrize("index", [0, 3, COUNT - 1])
async def test_a_changed_event_is_named(database: Database, positions: list[int], change: str, index: int) -> None:
    values = {"at": positions[index]} | ({"digest": bytes(32)} if ":digest" in change else {})
    await database.write(_execute, f"UPDATE events SET {change} WHERE position = :at", values)

    result = await checked(database)

    assert result.broken is not None and result.broken.position == positions[index]
    assert result.count == index


async def test_a_removed_event_shows_at_the_next_one(database: Database, positions: list[int]) -> None:
    await database.write(_execute, "DELETE FROM events WHERE position = :at", {"at": positions[2]})

    result = await checked(database)

    assert result.broken is not None and result.broken.position == positions[3]


async def test_a_cut_end_shows_to_whoever_noted_the_head(database: Database, positions: list[int]) -> None:
    noted = (await checked(database)).head
    await database.write(_record, "c", 1)
    assert (await checked(database, wanted=noted)).met

    await database.write(_execute, "DELETE FROM events WHERE position >= :at", {"at": positions[-1]})

    result = await checked(database, wanted=noted)
    assert (result.broken, result.met) == (None, False)
