"""Fresh, migrated databases for tests, made fast."""

import shutil
from collections.abc import Sequence
from itertools import count
from pathlib import Path

import psycopg
from psycopg import sql

from mailward.db import migrate
from mailward.db.connect import connector
from tests.support.postgres import PostgresServer

_numbers = count(1)


def new_postgres_url(server: PostgresServer, template: str = "template1") -> str:
    """Return the URL of a new database on `server`, a copy of `template` (empty unless named)."""
    name = f"test_{next(_numbers)}"
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute(
            # FILE_COPY is faster for a small template: no WAL for its pages.
            sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY").format(
                sql.Identifier(name), sql.Identifier(template)
            )
        )
    return server.url(name)


def drop_postgres(server: PostgresServer, url: str) -> None:
    """Drop the database of `url`, whoever is connected."""
    name = psycopg.conninfo.conninfo_to_dict(url)["dbname"]
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(str(name))))


def migrate_now(url: str | Path, migrations: Sequence[migrate.Migration] | None = None) -> None:
    """Apply the migrations of this program, or `migrations`, to the database at `url`."""
    connection = connector(url)(read_only=False)
    try:
        migrate.apply(connection, None if migrations is None else list(migrations))
    finally:
        connection.close()


class Templates:
    """Migrated databases that are copied for each test."""

    def __init__(self, folder: Path) -> None:
        self._sqlite = folder / "template.db"
        self._postgres: dict[int, str] = {}

    def new_sqlite(self, path: Path) -> Path:
        """Make a migrated SQLite database at `path`."""
        if not self._sqlite.exists():
            migrate_now(self._sqlite)
        shutil.copyfile(self._sqlite, path)
        return path

    def new_postgres(self, server: PostgresServer) -> str:
        """Return the URL of a new, migrated database on `server`."""
        template = self._postgres.get(id(server))
        if template is None:
            url = new_postgres_url(server)
            migrate_now(url)
            template = self._postgres[id(server)] = str(psycopg.conninfo.conninfo_to_dict(url)["dbname"])
        return new_postgres_url(server, template)
