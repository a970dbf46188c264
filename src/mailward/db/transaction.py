"""What an engine offers: Transaction to the rooms above, Connection to the writer and the readers, and its failures."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

from mailward.errors import Unavailable

Row = tuple[Any, ...]
Dialect = Literal["sqlite", "postgresql"]


class Transaction(Protocol):
    """One open transaction. Valid only while the function that was given it runs.

    Values are int, str, bytes, float, bool (stored as 0 or 1 in both engines) and None; lists of them are arrays in
    PostgreSQL. Every method raises InvalidArgument for a value that the engine cannot store (NUL in text in PostgreSQL,
    a lone surrogate, an integer beyond 64 bits), ConstraintViolated, DeadlineExceeded for a statement that took too
    long, and StoreFailed, which no function should catch: the commit is lost.
    """

    @property
    def dialect(self) -> Dialect: ...

    #: Scratch that lives as long as the connection, e.g. a folded aggregate at its version. Emptied whenever a
    #: transaction or savepoint of it is rolled back, so that it never holds what was not stored.
    memo: dict[object, Any]

    #: What is locked, and what is known while it is, until the end of this transaction. Emptied at its begin, and with
    #: the memo: what a savepoint locked is free again when it is undone.
    held: dict[object, Any]

    def lock(self, name: str, /) -> None:
        """Let no other transaction that locks `name` go on before this one ends. SQLite: nothing, the writer is alone.

        What the next statement reads was committed by whoever held it before. `name` is a constant.
        """
        ...

    def put(self, sql: str, /, **values: Any) -> None:
        """Run one statement with ":name" parameters of which nothing is to be known but that it worked.

        PostgreSQL: it travels with the next one, or the commit, at no round trip of its own, so this may return before
        it fails. The transaction does not outlive that.
        """
        ...

    def execute(self, sql: str, /, **values: Any) -> int:
        """Run one statement with ":name" parameters and return the number of rows it changed."""
        ...

    def executemany(self, sql: str, rows: Sequence[Mapping[str, Any] | Sequence[Any]], /) -> int:
        """Run one statement once a row and return the number of rows changed.

        Mappings fill ":name" parameters; sequences fill the engine's own placeholders, as in `run`.
        """
        ...

    def fetch(self, sql: str, /, **values: Any) -> list[Row]:
        """Run one statement with ":name" parameters and return its rows."""
        ...

    def fetch_one(self, sql: str, /, **values: Any) -> Row | None:
        """Like `fetch`, but return the first row, or None."""
        ...

    def run(self, sql: str, values: Sequence[Any], /) -> list[Row]:
        """Hot path: run the engine's own SQL ("?" in SQLite, "%s" in PostgreSQL) and return its rows, [] if none."""
        ...


class Connection(Transaction, Protocol):
    """A connection of one engine, used by one thread at a time. It reconnects in `begin` when it was lost."""

    def begin(self) -> None:
        """Open a transaction; the writer's takes the write lock. Raises StoreFailed."""
        ...

    def commit(self) -> None:
        """Make it durable. Raises StoreFailed; then nothing is stored, or (connection lost meanwhile) nobody knows."""
        ...

    def rollback(self) -> None:
        """Undo everything since `begin` and empty the memo. Never raises; a connection that cannot is dropped."""
        ...

    def savepoint(self) -> None: ...

    def release(self) -> None:
        """Keep what was done since `savepoint`."""
        ...

    def rollback_to_savepoint(self) -> None:
        """Undo what was done since `savepoint` and empty the memo. Raises StoreFailed."""
        ...

    def idle(self) -> None:
        """Do housekeeping: nobody waits at the moment. Never raises."""
        ...

    def abort(self) -> None:
        """Make the statement that another thread is running on this connection fail. Safe from any thread."""
        ...

    def close(self) -> None: ...


class StoreFailed(Unavailable):
    """The storage failed (disk full, file locked, connection lost): the whole commit with everybody in it is lost."""


class Contended(StoreFailed):
    """A deadlock or lock timeout between two nodes; each call may succeed in a transaction of its own."""


class ConstraintViolated(Exception):
    """A UNIQUE, CHECK, NOT NULL or FOREIGN KEY constraint refused a row."""
