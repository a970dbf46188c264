"""The writer as a process: same answers, same errors, and an end that everybody hears of. Both engines."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from functools import partial

import pytest

from mailward.db.database import Database, Transaction, open_database
from mailward.db.transaction import ConstraintViolated
from mailward.errors import FailedPrecondition, Unavailable

_LONG = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000000) SELECT count(*) FROM n"


def put(tx: Transaction, key: str, value: str = "") -> str:
    tx.execute("INSERT INTO meta (key, value) VALUES (:key, :value)", key=key, value=value)
    return key


def put_all(tx: Transaction, items: list[str]) -> list[str]:
    return [put(tx, item) for item in items]


def process_id(tx: Transaction) -> int:
    return os.getpid()


def keys(tx: Transaction) -> list[str]:
    return [row[0] for row in tx.fetch("SELECT key FROM meta ORDER BY key")]


def refuse(tx: Transaction, key: str) -> None:
    put(tx, key)
    raise FailedPrecondition("TEST-1", "not now", pointer="/to/0")


class Odd(Exception):
    """Pickles, and then cannot be made anew."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(one)


def raise_odd(tx: Transaction) -> None:
    raise Odd("one", "two")


def answer_with_a_function(tx: Transaction, key: str) -> object:
    put(tx, key)
    return lambda: None


def think(tx: Transaction) -> None:
    tx.fetch(_LONG)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = await open_database(database_url, writer="process")
    yield database
    await database.aclose()


async def test_writes_run_in_another_process_and_are_seen_by_reads(database: Database) -> None:
    assert await database.write(process_id) != os.getpid()
    results = await asyncio.gather(database.write(put, "a"), database.batch(put_all, "b"), database.batch(put_all, "c"))

    assert list(results) == ["a", "b", "c"]
    assert await database.read(keys) == ["a", "b", "c"]


async def test_a_value_of_many_megabytes_comes_through_whole(database: Database) -> None:
    value = "x" * 20_000_000
    await database.write(put, "large", value)

    (row,) = await database.read(lambda tx: tx.fetch("SELECT value FROM meta WHERE key = 'large'"))
    assert row[0] == value


async def test_an_error_arrives_with_its_kind_id_pointer_and_where_it_was_raised(database: Database) -> None:
    with pytest.raises(FailedPrecondition) as caught:
        await database.write(refuse, "a")

    assert (caught.value.id, caught.value.message, caught.value.pointer) == ("TEST-1", "not now", "/to/0")
    assert "in refuse" in str(caught.value.__cause__)
    assert await database.read(keys) == []


async def test_one_poisoned_item_of_a_batch_fails_alone(database: Database) -> None:
    await database.write(put, "b")
    results = await asyncio.gather(*(database.batch(put_all, key) for key in "abc"), return_exceptions=True)

    assert [results[0], type(results[1]), results[2]] == ["a", ConstraintViolated, "c"]
    assert await database.read(keys) == ["a", "b", "c"]


async def test_an_error_that_cannot_travel_is_described(database: Database) -> None:
    with pytest.raises(RuntimeError, match=r"Odd\('one'\)"):
        await database.write(raise_odd)


async def test_a_call_that_cannot_be_sent_fails_alone(database: Database) -> None:
    local = partial(put, value="")
    results = await asyncio.gather(
        database.write(put, "a"),
        database.write(lambda tx: None),
        database.batch(lambda tx, items: items, "b"),
        database.write(local, "c"),
        return_exceptions=True,
    )

    assert [results[0], type(results[1]), type(results[2]), results[3]] == ["a", TypeError, TypeError, "c"]
    assert await database.read(keys) == ["a", "c"]


async def test_a_result_that_cannot_come_back_fails_alone_though_it_was_stored(database: Database) -> None:
    results = await asyncio.gather(
        database.write(put, "a"), database.write(answer_with_a_function, "b"), return_exceptions=True
    )

    assert [results[0], type(results[1])] == ["a", TypeError]
    assert await database.read(keys) == ["a", "b"]


async def test_when_the_store_process_dies_everybody_hears_of_it(database: Database) -> None:
    pid = await database.write(process_id)
    written, batched = asyncio.ensure_future(database.write(think)), database.batch(put_all, "a")
    await asyncio.sleep(0)
    os.kill(pid, signal.SIGKILL)

    results = await asyncio.gather(written, batched, return_exceptions=True)

    assert [type(result) for result in results] == [Unavailable, Unavailable]
    assert database.lost.is_set()
    with pytest.raises(Unavailable):
        await database.write(put, "b")


async def test_an_orderly_end_is_no_loss(database_url: str) -> None:
    database = await open_database(database_url, writer="process")
    waiting = asyncio.ensure_future(database.write(put, "a"))
    await asyncio.sleep(0)
    await database.aclose()

    assert await waiting == "a"
    assert not database.lost.is_set()


async def test_signals_meant_for_the_gateway_do_not_end_its_store(database: Database) -> None:
    pid = await database.write(process_id)
    for name in (signal.SIGINT, signal.SIGTERM):
        os.kill(pid, name)

    assert await database.write(put, "a") == "a"


async def test_a_commit_that_takes_too_long_is_ended(database_url: str) -> None:
    database = await open_database(database_url, writer="process", statement_timeout_s=2.0)

    with pytest.raises(Exception, match="too long"):
        await database.write(think)
    assert await database.write(put, "a") == "a"
    await database.aclose()


async def test_a_database_that_cannot_be_opened_leaves_no_process(tmp_path: object) -> None:
    with pytest.raises(Unavailable, match="cannot open"):
        await open_database(f"sqlite:///{tmp_path}/no/x.db", writer="process")
