"""Migrations on real databases."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from mailward.db import migrate
from mailward.db.connect import connector
from mailward.db.database import open_database
from mailward.db.migrate import Migration
from mailward.db.transaction import Connection
from mailward.errors import FailedPrecondition
from tests.support.databases import drop_postgres, new_postgres_url

ONE = Migration(1, "one", "CREATE TABLE one (id INTEGER NOT NULL PRIMARY KEY, body BLOB NOT NULL);\n")
TWO = Migration(2, "two", "CREATE TABLE two (id INTEGER NOT NULL PRIMARY KEY);\nINSERT INTO two (id) VALUES (2);\n")
BROKEN = Migration(3, "broken", "CREATE TABLE three (id INTEGER NOT NULL PRIMARY KEY);\nCREATE TABEL typo;\n")


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield str(tmp_path / "x.db")
        return
    server = request.getfixturevalue("postgres_server")
    url = new_postgres_url(server)
    yield url
    drop_postgres(server, url)


@pytest.fixture
def connection(empty_url: str) -> Iterator[Connection]:
    with closing(connector(empty_url)(read_only=False)) as connection:
        yield connection


def test_pending_migrations_are_applied_once(connection: Connection) -> None:
    first = migrate.apply(connection, [ONE], now_us=lambda: 7)
    second = migrate.apply(connection, [ONE, TWO], now_us=lambda: 8)
    third = migrate.apply(connection, [ONE, TWO], now_us=lambda: 9)

    assert [(step.name, step.applied_at_us) for step in first + second + third] == [("one", 7), ("two", 8)]


def test_the_status_lists_what_is_applied_and_what_is_pending(connection: Connection) -> None:
    before = migrate.status(connection, [ONE])
    migrate.apply(connection, [ONE], now_us=lambda: 7)
    after = migrate.status(connection, [ONE, TWO])

    assert [step.applied_at_us for step in before] == [None]
    assert [(step.version, step.applied_at_us) for step in after] == [(1, 7), (2, None)]


def test_a_migration_that_fails_leaves_nothing_behind(connection: Connection) -> None:
    """Neither its first half nor the files before it: all pending ones are one transaction."""
    with pytest.raises(FailedPrecondition, match="0003 broken"):
        migrate.apply(connection, [ONE, TWO, BROKEN])

    assert migrate.apply(connection, [ONE], now_us=lambda: 7)[0].applied_at_us == 7


def test_a_database_newer_than_the_program_is_refused(connection: Connection) -> None:
    migrate.apply(connection, [ONE, TWO])

    for act in (migrate.apply, migrate.status, migrate.require_current):
        with pytest.raises(FailedPrecondition, match="0002 two, which this version of Mailward does not know"):
            act(connection, [ONE])


def test_a_released_migration_never_changes(connection: Connection) -> None:
    migrate.apply(connection, [ONE])

    with pytest.raises(FailedPrecondition, match="another text"):
        migrate.apply(connection, [Migration(1, "one", ONE.text + "-- a remark\n"), TWO])


async def test_a_server_may_refuse_to_migrate_by_itself(empty_url: str) -> None:
    with pytest.raises(FailedPrecondition, match="db migrate"):
        await open_database(empty_url, migrate=False)
    await (await open_database(empty_url)).aclose()
    await (await open_database(empty_url, migrate=False)).aclose()


def test_programs_that_start_at_once_migrate_once(empty_url: str) -> None:
    def start(number: int) -> int:
        with closing(connector(empty_url)(read_only=False)) as connection:
            return len(migrate.apply(connection, [ONE, TWO]))

    with ThreadPoolExecutor(4) as programs:
        applied = list(programs.map(start, range(4)))

    assert sorted(applied) == [0, 0, 0, 2]
