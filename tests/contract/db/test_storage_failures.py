"""What callers see while the storage fails, and that all is well afterwards."""

import asyncio
import os
import signal
import sqlite3
from pathlib import Path
from time import monotonic

import pytest

from mailward.db.database import Database, Transaction, open_database
from mailward.db.transaction import StoreFailed
from mailward.errors import Unavailable
from tests.support.databases import Templates, new_postgres_url
from tests.support.postgres import PostgresServer
from tests.support.postgres import postgres_server as running_postgres
from tests.support.waiting import PATIENCE_S


def put(tx: Transaction, key: str, value: str = "") -> str:
    tx.execute("INSERT INTO meta (key, value) VALUES (:key, :value)", key=key, value=value)
    return key


def put_all(tx: Transaction, items: list[str]) -> list[str]:
    return [put(tx, item) for item in items]


def put_after_lock(tx: Transaction, first: str, second: str) -> None:
    """Change two rows in an order that another node changes the other way round."""
    for key in (first, second):
        tx.execute("UPDATE meta SET value = value || '.' WHERE key = :key", key=key)
        tx.fetch("SELECT pg_sleep(0.05)")


def limit_pages(tx: Transaction, more: int | None) -> None:
    (used,) = tx.run("PRAGMA page_count", ())[0]
    tx.run(f"PRAGMA max_page_count = {used + more if more is not None else 1_000_000}", ())


def keys(tx: Transaction) -> list[str]:
    return [row[0] for row in tx.fetch("SELECT key FROM meta ORDER BY key")]


def put_and_sleep(tx: Transaction, seconds: float) -> None:
    put(tx, "slow")
    sleep(tx, seconds)


def sleep(tx: Transaction, seconds: float) -> None:
    tx.fetch("SELECT pg_sleep(:seconds)", seconds=seconds)


def is_asleep(tx: Transaction) -> bool:
    """Return whether another connection is in `sleep`."""
    return bool(tx.run("SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'", ()))


def backend(tx: Transaction) -> int:
    """Return the process id of the server's side of the connection."""
    return int(tx.run("SELECT pg_backend_pid()", ())[0][0])


async def batched(database: Database, key: str) -> str:
    """Put `key` by `batch`, in the same turn of the loop as the writes beside it."""
    return await database.batch(put_all, key)


async def until_available(database: Database, key: str) -> None:
    """Write `key` as soon as the database takes it."""
    end = monotonic() + PATIENCE_S
    while True:
        try:
            await database.write(put, key)
            return
        except Unavailable:
            assert monotonic() < end
            await asyncio.sleep(0.02)  # The real server decides when it is back.


async def test_a_full_disk_fails_the_whole_commit_and_is_over_when_there_is_room(
    templates: Templates, tmp_path: Path
) -> None:
    database = await open_database(templates.new_sqlite(tmp_path / "x.db"))
    await database.write(put, "before")
    await database.write(limit_pages, 2)
    results = await asyncio.gather(
        database.write(put, "small"),
        batched(database, "batched"),
        database.write(put, "large", "x" * 100_000),
        return_exceptions=True,
    )

    assert [type(result) for result in results] == [StoreFailed] * 3
    assert "disk is full" in str(results[0])
    assert await database.read(keys) == ["before"]

    await database.write(limit_pages, None)
    await database.write(put, "after", "x" * 100_000)

    assert await database.read(keys) == ["after", "before"]
    await database.aclose()


async def test_a_lock_that_another_process_holds_too_long_is_unavailable(templates: Templates, tmp_path: Path) -> None:
    path = templates.new_sqlite(tmp_path / "x.db")
    database = await open_database(path, busy_timeout_s=0.05)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable, match="another process"):
        await database.write(put, "a")
    assert await database.read(keys) == []
    other.execute("COMMIT")
    other.close()

    assert await database.write(put, "b") == "b"
    await database.aclose()


@pytest.mark.parametrize(
    "content", [b"not a database, whatever its name says" * 100, b"SQLite format 3\0" + b"\xff" * 8192]
)
async def test_a_file_that_is_no_database_is_told(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    path.write_bytes(content)

    with pytest.raises(Unavailable, match="damaged"):
        await open_database(path)


async def test_a_torn_file_is_told(templates: Templates, tmp_path: Path) -> None:
    """A copy that stopped half way."""
    path = templates.new_sqlite(tmp_path / "x.db")
    path.write_bytes(path.read_bytes()[:4096] + b"\xa5" * 4096)

    with pytest.raises(Unavailable, match="damaged"):
        await open_database(path)


async def test_a_missing_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="cannot open"):
        await open_database(tmp_path / "no" / "x.db")


async def test_a_lost_server_is_unavailable_until_it_is_back() -> None:
    with running_postgres() as server:
        database = await open_database(server.url(), connect_timeout_s=2)
        await database.write(put, "before")
        server.kill()

        for _ in range(3):
            results = await asyncio.gather(
                database.write(put, "a"),
                batched(database, "b"),
                database.read(keys),
                return_exceptions=True,
            )
            assert [type(result) for result in results] == [StoreFailed] * 3, results

        server.start()
        await until_available(database, "after")
        assert (await database.read(keys)) == ["after", "before"]
        await database.aclose()


async def test_a_connection_that_died_while_idle_is_replaced_unnoticed(postgres_server: PostgresServer) -> None:
    database = await open_database(new_postgres_url(postgres_server))
    await database.write(put, "a")
    await database.read(keys)
    postgres_server.terminate_backends()

    assert await database.write(put, "b") == "b"
    assert await database.read(keys) == ["a", "b"]
    await database.aclose()


async def test_a_connection_cut_in_the_middle_fails_its_commit(postgres_server: PostgresServer) -> None:
    database = await open_database(new_postgres_url(postgres_server))
    slow = asyncio.ensure_future(database.write(put_and_sleep, 30.0))
    beside = asyncio.ensure_future(database.write(put, "a"))
    async with asyncio.timeout(PATIENCE_S):
        while not await database.read(is_asleep):
            pass
    await asyncio.to_thread(postgres_server.terminate_backends)

    results = await asyncio.gather(slow, beside, return_exceptions=True)

    assert [isinstance(result, Unavailable) for result in results] == [True, True]
    await until_available(database, "b")
    assert await database.read(keys) == ["b"]
    await database.aclose()


async def test_a_server_that_cannot_be_reached_is_told(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="cannot be reached"):
        await open_database(f"postgresql://postgres:hush@/x?host={tmp_path}")


async def test_a_statement_has_a_deadline(postgres_server: PostgresServer) -> None:
    database = await open_database(new_postgres_url(postgres_server), statement_timeout_s=3.0)
    results = await asyncio.gather(
        database.write(sleep, 60.0), database.write(put, "a"), database.read(sleep, 60.0), return_exceptions=True
    )

    assert ["took too long" in str(result) for result in results] == [True, False, True]
    assert await database.read(keys) == ["a"]
    await database.aclose()


async def test_a_connection_that_stops_answering_is_replaced(postgres_server: PostgresServer) -> None:
    """Its kernel still answers keepalives, so only a clock of our own can tell."""
    database = await open_database(new_postgres_url(postgres_server), statement_timeout_s=2.0)
    frozen = [await database.write(backend), await database.read(backend)]
    for pid in frozen:
        os.kill(pid, signal.SIGSTOP)
    async with asyncio.timeout(PATIENCE_S):
        await database.write(put, "a")
        assert [await database.read(keys) for _ in range(4)] == [["a"]] * 4
    for pid in frozen:
        os.kill(pid, signal.SIGCONT)

    await database.aclose()


async def test_two_nodes_that_wait_for_each_other_both_get_through(postgres_server: PostgresServer) -> None:
    """Calls that share a commit hold each other's rows; after a deadlock each is run alone."""
    url = new_postgres_url(postgres_server)
    one, other = await open_database(url), await open_database(url)
    await one.write(put, "a")
    await one.write(put, "b")

    await asyncio.gather(
        *(one.write(put_after_lock, "a", "a") for _ in range(2)),
        one.write(put_after_lock, "b", "b"),
        *(other.write(put_after_lock, "b", "b") for _ in range(2)),
        other.write(put_after_lock, "a", "a"),
    )

    await one.aclose()
    await other.aclose()
