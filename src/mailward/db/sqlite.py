"""SQLite: one file, WAL, every commit fsynced."""

import contextlib
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from mailward.db.checkpoints import Checkpoints
from mailward.db.transaction import ConstraintViolated, Row, StoreFailed
from mailward.errors import DeadlineExceeded, InvalidArgument

# Measured with 400,000 rows, 20 callers, 2 KiB a row: a tenth to a third less CPU than with the default of 4 KiB.
_PAGE_BYTES = 8192

# Checkpoints copy the WAL back into the file while a commit waits. Same measurement, in pages (WAL of 8, 32, 128 MiB):
#  1,000  p99 15 to 27 ms, worst 26 to 42 ms
#  4,000  p99 10 to 13 ms, worst 55 to 63 ms
# 16,000  p99 12 to 15 ms, worst 200 to 222 ms
# So a thread copies it meanwhile (checkpoints.py), and this is for what it cannot keep up with. In quiet moments `idle`
# copies the rest, and nobody waits.
_CHECKPOINT_PAGES = 8_000
_IDLE_CHECKPOINT_COMMITS = 50  # fewer are not worth an fsync of the file

_CACHED_STATEMENTS = 512
_CACHE_KIB = 32_768
_READER_CACHE_KIB = 4_096  # of which there are several; a content that is read would fill it and is wanted once

#: What failed, by SQLite's primary result code, when it is the storage and not the statement.
_STORAGE = {
    sqlite3.SQLITE_BUSY: "another process holds the database's write lock",
    sqlite3.SQLITE_LOCKED: "another process holds the database's write lock",
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_IOERR: "the disk reported an error",
    sqlite3.SQLITE_READONLY: "the file or its directory is read-only",
    sqlite3.SQLITE_CANTOPEN: "the file cannot be opened",
    sqlite3.SQLITE_PERM: "access is denied",
    sqlite3.SQLITE_NOMEM: "memory is exhausted",
    sqlite3.SQLITE_PROTOCOL: "the file's locks do not work (is it on a network file system?)",
    sqlite3.SQLITE_CORRUPT: "the file is damaged; stop Mailward and restore the latest backup",
    sqlite3.SQLITE_NOTADB: "the file is damaged or not a SQLite database; check the path, or restore the latest backup",
}


class SqliteConnection:
    """A transaction.Connection. The thread that uses it may change; two may not use it at once."""

    dialect: Literal["sqlite"] = "sqlite"

    def __init__(self, path: Path, *, read_only: bool = False, busy_timeout_s: float = 5.0) -> None:
        """Open `path`, made if missing unless `read_only`. Raises StoreFailed.

        `busy_timeout_s`: how long to wait for another process (a command-line tool) that holds the write lock.
        """
        self.memo: dict[object, Any] = {}
        self.held: dict[object, Any] = {}
        self._path = path
        self._read_only = read_only
        self._busy_timeout_s = busy_timeout_s
        self._commits = 0  # since the last checkpoint of ours
        self._begin = "BEGIN" if read_only else "BEGIN IMMEDIATE"
        self._connection = self._open()
        self._checkpoints = Checkpoints(self._open)
        self._run = self._connection.execute

    def _open(self) -> sqlite3.Connection:
        connection = None
        try:
            if not self._read_only:
                # Mail and sealed secrets: for the owner only. SQLite gives the WAL the same mode.
                os.close(os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
            connection = sqlite3.connect(
                f"{self._path.absolute().as_uri()}?mode=rw",
                uri=True,
                timeout=self._busy_timeout_s,
                isolation_level=None,
                check_same_thread=False,
                cached_statements=_CACHED_STATEMENTS,
            )
            for pragma in self._pragmas():
                connection.execute(f"PRAGMA {pragma}").fetchall()
            return connection
        except OSError as error:
            raise StoreFailed("DB-0Wp7", f"cannot open {self._path}: {error.strerror}") from error
        except sqlite3.Error as error:
            if connection is not None:
                connection.close()
            raise self._translate(error) from error

    def _pragmas(self) -> Iterator[str]:
        yield f"page_size = {_PAGE_BYTES}"
        yield f"cache_size = -{_READER_CACHE_KIB if self._read_only else _CACHE_KIB}"
        yield "foreign_keys = ON"
        yield "temp_store = MEMORY"
        if self._read_only:
            yield "query_only = ON"
            yield "schema_version"  # Reads the file, so that a damaged one is noticed here.
        else:
            yield "journal_mode = WAL"
            yield "synchronous = FULL"
            yield "secure_delete = ON"  # Mail that was removed is overwritten, whatever SQLite's build thinks of it.
            yield f"wal_autocheckpoint = {_CHECKPOINT_PAGES}"

    # Transaction

    def lock(self, name: str, /) -> None:
        pass

    def put(self, sql: str, /, **values: Any) -> None:
        self.execute(sql, **values)

    def execute(self, sql: str, /, **values: Any) -> int:
        try:
            return max(0, self._run(sql, values).rowcount)  # -1 for what changes no rows.
        except Exception as error:
            raise self._translate(error) from error

    def executemany(self, sql: str, rows: Sequence[Mapping[str, Any] | Sequence[Any]], /) -> int:
        try:
            return max(0, self._connection.executemany(sql, rows).rowcount)
        except Exception as error:
            raise self._translate(error) from error

    def fetch(self, sql: str, /, **values: Any) -> list[Row]:
        try:
            return self._run(sql, values).fetchall()
        except Exception as error:
            raise self._translate(error) from error

    def fetch_one(self, sql: str, /, **values: Any) -> Row | None:
        try:
            cursor = self._run(sql, values)
            row: Row | None = cursor.fetchone()
            cursor.close()  # A half-read statement would keep the transaction open.
            return row
        except Exception as error:
            raise self._translate(error) from error

    def run(self, sql: str, values: Sequence[Any], /) -> list[Row]:
        try:
            return self._run(sql, values).fetchall()
        except Exception as error:
            raise self._translate(error) from error

    # Connection

    def begin(self) -> None:
        self.held.clear()
        self.run(self._begin, ())

    def commit(self) -> None:
        self.run("COMMIT", ())
        self._commits += 1
        if not self._read_only:
            self._checkpoints.committed()

    def rollback(self) -> None:
        self.memo.clear()
        self.held.clear()
        with contextlib.suppress(sqlite3.Error):  # A full disk may have rolled back already.
            self._connection.rollback()

    def savepoint(self) -> None:
        self.run("SAVEPOINT call", ())

    def release(self) -> None:
        self.run("RELEASE call", ())

    def rollback_to_savepoint(self) -> None:
        self.memo.clear()
        self.held.clear()
        self.run("ROLLBACK TO call", ())
        self.run("RELEASE call", ())

    def idle(self) -> None:
        if self._commits >= _IDLE_CHECKPOINT_COMMITS:
            self._commits = 0
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").close()

    def abort(self) -> None:
        self._connection.interrupt()

    def close(self) -> None:
        self._checkpoints.close()
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()

    def _translate(self, error: Exception) -> Exception:
        """Return what to raise for `error`; the error itself when it is a mistake in our SQL."""
        match error:
            case UnicodeEncodeError() | OverflowError() | sqlite3.DataError():
                return InvalidArgument("DB-4kTz", f"a value cannot be stored: {error}")
            case sqlite3.IntegrityError():
                return ConstraintViolated(str(error))
            case sqlite3.Error():
                code = getattr(error, "sqlite_errorcode", 0) & 0xFF
                if code in _STORAGE:
                    return StoreFailed("DB-r2Vd", f"{self._path}: {_STORAGE[code]} ({error})")
                if code == sqlite3.SQLITE_INTERRUPT and self._read_only:
                    return DeadlineExceeded("DB-Ye61", "the query took too long")
                if code == sqlite3.SQLITE_INTERRUPT:  # SQLite has rolled back the whole transaction.
                    return StoreFailed("DB-uM3g", "the commit took too long")
        return error
