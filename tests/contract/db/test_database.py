"""What every engine promises to whoever calls read, write and batch."""

import asyncio
from typing import Any

import pytest

from mailward.db.database import Database, Transaction, open_database
from mailward.db.transaction import ConstraintViolated
from mailward.errors import FailedPrecondition, InvalidArgument, Unavailable


def put(tx: Transaction, key: str, value: str = "") -> str:
    tx.execute("INSERT INTO meta (key, value) VALUES (:key, :value)", key=key, value=value)
    return key


def put_later(tx: Transaction, *new: str) -> list[str]:
    for key in new:
        tx.put("INSERT INTO meta (key, value) VALUES (:key, '')", key=key)
    return list(new)


def put_later_and_look(tx: Transaction, *new: str) -> list[str]:
    put_later(tx, *new)
    return keys(tx)


def ask_differently(tx: Transaction, count: int) -> list[int]:
    """Ask with more different statements than a session keeps prepared."""
    return [tx.fetch(f"SELECT {n} + CAST(:one AS BIGINT)", one=1)[0][0] for n in range(count)]


def put_and_fail(tx: Transaction, key: str) -> None:
    put(tx, key)
    raise FailedPrecondition("TEST-1", "no")


def put_all(tx: Transaction, items: list[str]) -> list[str]:
    """Refuses "poison", and whatever stands beside it in one call."""
    for item in items:
        put(tx, item)
    if "poison" in items:
        raise FailedPrecondition("TEST-2", "poison")
    return [f"done {item}" for item in items]


def count_items(tx: Transaction, items: list[int]) -> list[int]:
    return [len(items)] * len(items)


def forget_one(tx: Transaction, items: list[int]) -> list[int]:
    return items[1:]


async def batched(database: Database, f: Any, item: Any) -> Any:
    """Call `batch` in the same turn of the loop as the writes beside it."""
    return await database.batch(f, item)


def keys(tx: Transaction) -> list[str]:
    return [row[0] for row in tx.fetch("SELECT key FROM meta ORDER BY key")]


def get(tx: Transaction, key: str) -> Any:
    row = tx.fetch_one("SELECT value FROM meta WHERE key = :key", key=key)
    return row and row[0]


def number(tx: Transaction, value: int) -> Any:
    row = tx.fetch_one("SELECT CAST(:value AS BIGINT)", value=value)
    return row and row[0]


def put_in_memo(tx: Transaction, key: str, fail: bool) -> object:
    before = tx.memo.get(key)
    tx.memo[key] = True
    if fail:
        raise FailedPrecondition("TEST-3", "no")
    return before


def swallow(tx: Transaction) -> None:
    """Put a key twice and go on as if nothing had happened."""
    put(tx, "swallowed")
    try:
        put(tx, "swallowed")
    except ConstraintViolated:
        pass


def count_changes(tx: Transaction) -> list[int]:
    update = "UPDATE meta SET value = :value"
    named = "INSERT INTO meta (key, value) VALUES (:key, :key)"
    native = "INSERT INTO meta (key, value) VALUES ({0}, {0})".format("?" if tx.dialect == "sqlite" else "%s")
    return [
        tx.execute(update, value="x"),
        tx.execute(update + " WHERE key = :key", value="y", key="none"),
        tx.executemany(named, [{"key": "c"}, {"key": "d"}]),
        tx.executemany(native, [("e", "e"), ("f", "f")]),
        tx.executemany(named, []),
        tx.execute("CREATE TABLE other (id INTEGER NOT NULL)"),
    ]


def stop_iteration(tx: Transaction) -> None:
    next(iter(()))


async def test_a_read_sees_every_write_that_returned(database: Database) -> None:
    for value in range(50):
        await database.write(put, str(value), "x")

        assert await database.read(get, str(value)) == "x"


async def test_a_read_cannot_write(database: Database) -> None:
    with pytest.raises(Exception, match=r"readonly|read-only"):
        await database.read(put, "a")


async def test_a_failed_write_is_undone_alone(database: Database) -> None:
    """Each has a savepoint of its own in the commit that they share."""
    results = await asyncio.gather(
        database.write(put, "a"),
        database.write(put_and_fail, "b"),
        database.write(put, "c"),
        database.write(put, "c"),
        database.write(put, "d"),
        return_exceptions=True,
    )

    assert [type(result) for result in results] == [str, FailedPrecondition, str, ConstraintViolated, str]
    assert await database.read(keys) == ["a", "c", "d"]
    assert database.commits == 1


async def test_a_lone_failed_write_is_undone(database: Database) -> None:
    with pytest.raises(FailedPrecondition):
        await database.write(put_and_fail, "b")

    assert await database.read(keys) == []


async def test_a_batch_gives_each_item_its_own_result(database: Database) -> None:
    items = [f"{number:03}" for number in range(200)]

    results = await asyncio.gather(*(database.batch(put_all, item) for item in items))

    assert results == [f"done {item}" for item in items]
    assert await database.read(keys) == items


async def test_a_poisoned_item_fails_alone(database: Database) -> None:
    results = await asyncio.gather(
        batched(database, put_all, "a"),
        batched(database, put_all, "poison"),
        batched(database, put_all, "b"),
        batched(database, count_items, 0),
        database.write(put, "c"),
        return_exceptions=True,
    )

    assert [results[0], results[2:]] == ["done a", ["done b", 1, "c"]]
    assert isinstance(results[1], FailedPrecondition)
    assert await database.read(keys) == ["a", "b", "c"]
    assert database.commits == 1


async def test_a_lone_poisoned_item_gets_its_own_error(database: Database) -> None:
    with pytest.raises(FailedPrecondition):
        await database.batch(put_all, "poison")

    assert await database.read(keys) == []


async def test_a_batch_function_that_forgets_an_item_is_a_fault_for_all(database: Database) -> None:
    results = await asyncio.gather(*(database.batch(forget_one, item) for item in range(3)), return_exceptions=True)

    assert {type(result) for result in results} == {RuntimeError}


async def test_concurrent_calls_share_commits(database: Database) -> None:
    """A commit is an fsync; a thousand callers must not wait for a thousand."""
    await asyncio.gather(*(database.write(put, str(number)) for number in range(1_000)))
    writes = database.commits
    shares = await asyncio.gather(*(database.batch(count_items, number) for number in range(1_000)))

    assert writes == 1
    assert set(shares) == {1_000}
    assert len(await database.read(keys)) == 1_000


async def test_more_callers_than_a_commit_takes_go_into_the_next(database_url: str) -> None:
    database = await open_database(database_url, max_items=10)
    shares = await asyncio.gather(*(database.batch(count_items, number) for number in range(25)))
    await database.aclose()

    assert shares == [10] * 20 + [5] * 5
    assert database.commits == 3


async def test_too_many_callers_are_refused_and_the_others_served(database_url: str) -> None:
    database = await open_database(database_url, max_waiting=5)
    results = await asyncio.gather(
        *(database.write(put, str(number)) for number in range(8)),
        return_exceptions=True,
    )
    await database.aclose()

    assert [type(result) for result in results] == [str] * 5 + [Unavailable] * 3


async def test_closing_answers_everybody_and_then_refuses(database_url: str) -> None:
    database = await open_database(database_url)
    writes = [asyncio.ensure_future(database.write(put, str(number))) for number in range(10)]
    reads = [asyncio.ensure_future(database.read(get, "0")) for _ in range(10)]
    batch = database.batch(put_all, "x")
    await asyncio.sleep(0)

    await database.aclose()
    await database.aclose()

    assert [await write for write in writes] == [str(number) for number in range(10)]
    assert len([await read for read in reads]) == 10
    assert await batch == "done x"
    with pytest.raises(Unavailable):
        await database.write(put, "late")
    with pytest.raises(Unavailable):
        await database.read(keys)
    with pytest.raises(Unavailable):
        database.batch(put_all, "late")


async def test_what_a_cancelled_caller_asked_for_is_not_begun(database: Database) -> None:
    write = asyncio.ensure_future(database.write(put, "a"))
    await asyncio.sleep(0)  # It waits now, and is handed over in the loop's next turn.
    other = database.batch(put_all, "c")
    write.cancel()

    assert await other == "done c"
    assert await database.read(keys) == ["c"]


async def test_the_memo_lives_until_something_is_undone(database: Database) -> None:
    """It may hold what a transaction wrote, so it must go when that does not stay."""
    assert await database.write(put_in_memo, "k", False) is None
    assert await database.write(put_in_memo, "k", False) is True
    with pytest.raises(FailedPrecondition):
        await database.write(put_in_memo, "k", True)
    assert await database.write(put_in_memo, "k", False) is None

    await asyncio.gather(database.write(put_in_memo, "x", True), database.write(put, "a"), return_exceptions=True)
    assert await database.write(put_in_memo, "k", False) is None


@pytest.mark.parametrize("text", ["it's", "100%", "%s", ":key", "a::b", '"', "\\", "?", "ü\u2028😀", ""])
async def test_values_are_never_sql(database: Database, text: str) -> None:
    await database.write(put, "k", text)

    assert await database.read(get, "k") == text


async def test_large_integers_come_back_whole(database: Database) -> None:
    for value in (0, -1, 2**15, 2**31, 227654321098765432, 2**63 - 1, -(2**63)):
        assert await database.read(number, value) == value


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1])
async def test_integers_beyond_64_bits_are_refused(database: Database, value: int) -> None:
    with pytest.raises(InvalidArgument):
        await database.read(number, value)


async def test_a_lone_surrogate_is_refused(database: Database) -> None:
    with pytest.raises(InvalidArgument):
        await database.write(put, "k", "\ud800")


async def test_nul_in_text_is_kept_or_refused_but_no_fault(database: Database) -> None:
    """PostgreSQL cannot store it."""
    if database.dialect == "postgresql":
        with pytest.raises(InvalidArgument):
            await database.write(put, "k", "a\0b")
    else:
        await database.write(put, "k", "a\0b")
        assert await database.read(get, "k") == "a\0b"


async def test_an_error_that_a_function_swallows_hurts_nobody_else(database: Database) -> None:
    """In PostgreSQL a failed statement spoils its savepoint; saying nothing would report as stored what is not."""
    swallowed, *others = await asyncio.gather(
        *(database.write(swallow), database.write(put, "a"), database.write(put, "b")), return_exceptions=True
    )

    stored = await database.read(keys)
    assert others == ["a", "b"]
    assert ("swallowed" in stored) == (swallowed is None)
    with pytest.raises(ConstraintViolated):
        await database.write(put, "a")


async def test_an_exception_that_futures_refuse_reaches_its_caller(database: Database) -> None:
    with pytest.raises(RuntimeError, match="StopIteration"):
        await database.write(stop_iteration)
    with pytest.raises(RuntimeError, match="StopIteration"):
        await database.read(stop_iteration)


async def test_two_programs_write_to_one_database(database: Database, database_url: str) -> None:
    """A command-line tool works beside the running server."""
    other = await open_database(database_url)
    await asyncio.gather(
        *(one.write(put, f"{name}{i}") for i in range(20) for name, one in (("a", database), ("b", other)))
    )
    for turn in range(10):
        await asyncio.gather(database.write(put, f"c{turn}"), other.write(put, f"d{turn}"))
    await other.aclose()

    assert len(await database.read(keys)) == 60


async def test_the_number_of_changed_rows_is_told(database: Database) -> None:
    await database.write(put, "a")
    await database.write(put, "b")

    assert await database.write(count_changes) == [2, 0, 2, 2, 0, 0]


async def test_what_is_put_is_there_for_the_next_statement_and_stays(database: Database) -> None:
    many = [f"{n:04}" for n in range(1_200)]

    assert await database.write(put_later_and_look, "b", "a") == ["a", "b"]
    await database.write(put_later, *many)

    assert await database.read(keys) == [*many, "a", "b"]


async def test_what_is_put_and_refused_fails_its_own_call_alone(database: Database) -> None:
    await database.write(put, "taken")

    alone = await asyncio.gather(database.write(put_later, "x", "taken"), return_exceptions=True)
    shared = await asyncio.gather(
        database.write(put_later, "a"),
        database.write(put_later, "y", "taken"),
        database.write(put_and_fail, "z"),
        database.write(put_later_and_look, "b"),
        batched(database, put_all, "c"),
        return_exceptions=True,
    )

    assert [type(result) for result in (*alone, *shared)] == [
        ConstraintViolated, list, ConstraintViolated, FailedPrecondition, list, str,
    ]  # fmt: skip
    assert await database.read(keys) == ["a", "b", "c", "taken"]


async def test_more_statements_than_are_kept_prepared_are_answered(database: Database) -> None:
    for _ in range(2):
        assert await database.read(ask_differently, 600) == list(range(1, 601))


async def test_reads_of_one_turn_are_answered_each_for_itself(database: Database) -> None:
    await database.write(put, "a", "1")

    results = await asyncio.gather(
        database.read(get, "a"), database.read(put, "b"), database.read(get, "nobody"), database.read(get, "a"),
        return_exceptions=True,
    )  # fmt: skip

    assert [result for result in results if not isinstance(result, Exception)] == ["1", None, "1"]
    assert isinstance(results[1], Exception)
