"""Fixtures for things that must be closed: the PostgreSQL server and databases on both engines."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from mailward.db.database import Database, open_database
from tests.support.databases import Templates, drop_postgres
from tests.support.postgres import PostgresServer
from tests.support.postgres import postgres_server as running_postgres

# How long an example takes says something about the machine, not about the code.
settings.register_profile("mailward", deadline=None)
settings.load_profile("mailward")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A running PostgreSQL, one for each test process. Leave it running: tests that stop it start their own."""
    with running_postgres(fsync=False) as server:
        yield server


@pytest.fixture(scope="session")
def templates(tmp_path_factory: pytest.TempPathFactory) -> Templates:
    """Migrated databases to copy."""
    return Templates(tmp_path_factory.mktemp("templates"))


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, templates: Templates, tmp_path: Path) -> Iterator[str]:
    """The URL of a fresh, migrated database, once for each engine."""
    if request.param == "sqlite":
        yield f"sqlite:///{templates.new_sqlite(tmp_path / 'mailward.db')}"
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    url = templates.new_postgres(server)
    yield url
    drop_postgres(server, url)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A fresh, migrated, open Database, once for each engine."""
    database = await open_database(database_url)
    yield database
    await database.aclose()
