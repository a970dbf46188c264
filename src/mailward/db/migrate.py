"""Migrations: numbered SQL files, forward only, one file for both engines.

A file `migrations/NNNN_name.sql` holds statements that end in ";" at the end of a line. It is written for SQLite, and
read for each engine by three rules:

- Lines after "-- only sqlite" or "-- only postgresql" belong to that engine, until the next such line or "-- both".
- For PostgreSQL the words INTEGER and BLOB in capitals become BIGINT and BYTEA.
- For SQLite each CREATE TABLE whose last line is ");" becomes STRICT.

All pending files are applied in one transaction, behind a lock, so that two programs may start at once.
"""

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import resources
from time import time_ns

from mailward.db.transaction import Connection, Dialect, StoreFailed, Transaction
from mailward.errors import FailedPrecondition

_NAME = re.compile(r"(?P<version>\d{4})_(?P<name>\w+)\.sql")
_ONLY = re.compile(r"-- (?:only (?P<dialect>sqlite|postgresql)|both)\s*")

_CREATE = """
    CREATE TABLE IF NOT EXISTS schema_migrations (
        version       INTEGER NOT NULL PRIMARY KEY,
        name          TEXT NOT NULL,
        checksum      TEXT NOT NULL,
        applied_at_us INTEGER NOT NULL
    );
"""
_LOCK = "SELECT pg_advisory_xact_lock(hashtext('mailward schema_migrations'))"
_UNLIMITED = "SELECT set_config('statement_timeout', '0', true), set_config('lock_timeout', '0', true)"
_EXISTS = {
    "sqlite": "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'schema_migrations'",
    "postgresql": "SELECT 1 WHERE to_regclass('schema_migrations') IS NOT NULL",
}
_APPLIED = "SELECT version, name, checksum, applied_at_us FROM schema_migrations ORDER BY version"
_RECORD = """
    INSERT INTO schema_migrations (version, name, checksum, applied_at_us) VALUES (:version, :name, :checksum, :at_us)
"""


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered file."""

    version: int
    name: str
    text: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the text, in hexadecimal."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def statements(self, dialect: Dialect) -> list[str]:
        """Return the file's statements for `dialect`."""
        return statements(self.text, dialect)


@dataclass(frozen=True, slots=True)
class Step:
    """A migration and whether the database has it."""

    version: int
    name: str
    applied_at_us: int | None  #: None: pending


def shipped() -> list[Migration]:
    """Return the migrations of this program, in order. Raises ValueError when they are not numbered 1, 2, 3, ..."""
    found = [
        Migration(int(match["version"]), match["name"], file.read_text("utf-8"))
        for file in resources.files("mailward.db").joinpath("migrations").iterdir()
        if (match := _NAME.fullmatch(file.name))
    ]
    found.sort(key=lambda migration: migration.version)
    if [migration.version for migration in found] != list(range(1, len(found) + 1)):
        raise ValueError(f"migrations must be numbered from 0001 without gaps: {[one.name for one in found]}")
    return found


def status(connection: Connection, migrations: list[Migration] | None = None) -> list[Step]:
    """Return every migration, applied ones first. Raises FailedPrecondition as `apply` does, and StoreFailed."""
    return _in_transaction(connection, lambda: _status(connection, shipped() if migrations is None else migrations))


def require_current(connection: Connection, migrations: list[Migration] | None = None) -> None:
    """Raise FailedPrecondition unless the database has exactly the migrations of this program."""
    pending = [step for step in status(connection, migrations) if step.applied_at_us is None]
    if pending:
        raise FailedPrecondition(
            "DB-7sMt",
            f"the database lacks {len(pending)} migration(s), the first is {pending[0].version:04} {pending[0].name}; "
            "run `mailward db migrate`",
        )


def apply(
    connection: Connection,
    migrations: list[Migration] | None = None,
    *,
    now_us: Callable[[], int] = lambda: time_ns() // 1_000,
) -> list[Step]:
    """Apply what is pending, all or nothing, and return it.

    Raises FailedPrecondition when the database is newer than this program, or an applied file has been changed since;
    and StoreFailed when the storage fails.
    """
    known = shipped() if migrations is None else migrations

    def work() -> list[Step]:
        if connection.dialect == "postgresql":
            connection.fetch(_UNLIMITED)  # Another node may be at it, and large tables take their time.
            connection.fetch(_LOCK)
        if not _has_table(connection):
            for statement in statements(_CREATE, connection.dialect):
                connection.execute(statement)
        applied = []
        for step, migration in zip(_status(connection, known), known, strict=True):
            if step.applied_at_us is None:
                at_us = now_us()
                _apply_one(connection, migration, at_us)
                applied.append(Step(step.version, step.name, at_us))
        return applied

    return _in_transaction(connection, work)


def statements(text: str, dialect: Dialect) -> list[str]:
    """Return the statements of a migration file for `dialect`, by the rules above."""
    found = []
    for statement in re.split(r";[ \t]*(?:--[^\n]*)?(?:\n|$)", "".join(_lines(text, dialect))):
        words = re.sub(r"--[^\n]*", "", statement).strip()
        if not words:
            continue
        if dialect == "postgresql":
            words = re.sub(r"\bINTEGER\b", "BIGINT", words)
            words = re.sub(r"\bBLOB\b", "BYTEA", words)
        elif words.startswith("CREATE TABLE") and words.endswith(")"):
            words += " STRICT"
        found.append(words)
    return found


def _lines(text: str, dialect: Dialect) -> Iterator[str]:
    mine = True
    for line in text.splitlines(keepends=True):
        if marker := _ONLY.fullmatch(line):
            mine = marker["dialect"] in (None, dialect)
        elif mine:
            yield line


def _has_table(tx: Transaction) -> bool:
    return tx.fetch_one(_EXISTS[tx.dialect]) is not None


def _status(tx: Transaction, known: list[Migration]) -> list[Step]:
    rows = tx.fetch(_APPLIED) if _has_table(tx) else []
    if len(rows) > len(known):
        raise FailedPrecondition(
            "DB-fB2y",
            f"the database has migration {rows[-1][0]:04} {rows[-1][1]}, which this version of Mailward does not know: "
            "run the version that made it, or a newer one",
        )
    for migration, (version, name, checksum, _) in zip(known, rows, strict=False):
        if (version, checksum) != (migration.version, migration.checksum):
            raise FailedPrecondition(
                "DB-wT6d",
                f"migration {version:04} {name} was applied with another text than this version of Mailward has: "
                "a released migration never changes; use the official build, or restore a backup",
            )
    times = [row[3] for row in rows] + [None] * (len(known) - len(rows))
    return [Step(one.version, one.name, at_us) for one, at_us in zip(known, times, strict=True)]


def _apply_one(connection: Connection, migration: Migration, at_us: int) -> None:
    for statement in migration.statements(connection.dialect):
        try:
            connection.run(statement, ())
        except StoreFailed:
            raise
        except Exception as error:
            raise FailedPrecondition(
                "DB-Qk9z", f"migration {migration.version:04} {migration.name} cannot be applied: {error}"
            ) from error
    connection.execute(
        _RECORD, version=migration.version, name=migration.name, checksum=migration.checksum, at_us=at_us
    )


def _in_transaction(connection: Connection, work: Callable[[], list[Step]]) -> list[Step]:
    try:
        connection.begin()
        steps = work()
        connection.commit()
        return steps
    except BaseException:
        connection.rollback()
        raise
