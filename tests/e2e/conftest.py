"""What the tests of the built program share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.databases import drop_postgres, new_postgres_url
from tests.support.postgres import PostgresServer
from tests.support.program import Program
from tests.support.sink import Sink


@pytest.fixture(params=["sqlite", "postgresql"])
def store_flags(request: pytest.FixtureRequest) -> Iterator[list[str]]:
    """Flags that choose a fresh store, once for each engine."""
    if request.param == "sqlite":
        yield []
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    url = new_postgres_url(server)
    yield ["--database", url]
    drop_postgres(server, url)


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    """A running gateway on SQLite."""
    with Program(tmp_path / "data") as program:
        yield program


@pytest.fixture
def program_on(tmp_path: Path, store_flags: list[str]) -> Iterator[Program]:
    """A running gateway, once on each engine."""
    with Program(tmp_path / "data", *store_flags) as program:
        yield program


@pytest.fixture
def sink() -> Iterator[Sink]:
    """An independent mail server."""
    with Sink() as sink:
        yield sink
