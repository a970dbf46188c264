"""The one way to the store: functions over a Transaction, run off the event loop; the same class for both engines."""

import asyncio
import contextlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar, cast

from mailward.db import migrate as migrations
from mailward.db.batch import Batcher, Pending
from mailward.db.connect import connector
from mailward.db.process import ProcessWriter
from mailward.db.readers import Readers
from mailward.db.transaction import Connection, Dialect, Row, Transaction
from mailward.db.writer import Results, ThreadWriter, Writer
from mailward.errors import Unavailable

__all__ = ["Database", "Row", "Transaction", "open_database"]

T = TypeVar("T")
I = TypeVar("I")  # noqa: E741 an item
R = TypeVar("R")
P = ParamSpec("P")

_WATCH_S = 1.0


class Database:
    """Made by `open_database`; belongs to the event loop in which it was opened.

    Functions given to it are module-level functions with picklable arguments, because the writer may be a process.
    They may run more than once for one result (writer.perform), so they do nothing but use their transaction.

    What callers may see: whatever their function raised; Unavailable when the storage failed, too many wait, or the
    database is closed. When the connection to PostgreSQL is lost during COMMIT, nobody knows whether it was stored, and
    callers get Unavailable too: what must not happen twice needs a key of its own to find out.
    """

    def __init__(
        self,
        writer: Writer,
        readers: list[Connection],
        *,
        call_limit_s: float,
        max_items: int,
        max_waiting: int,
    ) -> None:
        """`call_limit_s`: a commit or a read that has not come back by then is aborted."""
        self.dialect: Dialect = writer.dialect
        self._loop = asyncio.get_running_loop()
        self._call_limit_s = call_limit_s
        #: Set when the writer has ended without being asked to: nothing can be stored any more.
        self.lost = asyncio.Event()
        self._writer = writer
        writer.deliver = self._deliver
        self._batcher = Batcher(self._loop, self._writer.send, max_items=max_items, max_waiting=max_waiting)
        self._readers = Readers(self._loop, readers, max_waiting=max_waiting)
        self._watch = self._loop.call_later(_WATCH_S, self._look)
        self._closed: asyncio.Future[None] | None = None

    @property
    def commits(self) -> int:
        """Commits handed to the writer so far."""
        return self._batcher.commits

    async def read(self, f: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return f(tx, *args), run in a read transaction on a connection of its own. Sees every write that returned."""
        return cast(T, await self._readers.read(partial(f, **kwargs) if kwargs else f, args))

    async def write(self, f: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return f(tx, *args), run by the writer in a savepoint of a group commit, once the commit is durable.

        A caller that is cancelled after the commit was handed over does not undo it.
        """
        return cast(T, await self._batcher.write(partial(f, **kwargs) if kwargs else f, args))

    def batch(self, f: Callable[[Transaction, list[I]], list[R]], item: I) -> Pending[R]:
        """Return what will be told this item's result of f(tx, items), called once a commit with all that wait for f.

        Raises Unavailable at once when too many wait or the database is closed.
        """
        return self._batcher.batch(f, item)

    async def aclose(self) -> None:
        """Refuse new calls, finish what was handed in, then close. Idempotent."""
        if self._closed is None:
            self._closed = self._loop.create_task(self._close())
        await asyncio.shield(self._closed)

    async def _close(self) -> None:
        over = Unavailable("DB-Dn0h", "the database is closed")
        self._readers.end(over)
        await self._batcher.drain(over)
        await self._writer.aclose()
        await asyncio.to_thread(self._readers.close)
        self._readers.settle()
        self._watch.cancel()

    def _deliver(self, results: Results | None) -> None:
        if results is not None:
            self._batcher.resolve(results)
            return
        self._batcher.end(Unavailable("DB-yR3k", "the writer has ended"))
        if self._closed is None:
            self.lost.set()

    def _look(self) -> None:
        """End what takes longer than any deadline of the server's, e.g. because its machine has stopped answering."""
        self._watch = self._loop.call_later(_WATCH_S, self._look)
        if self._batcher.sent_at and self._loop.time() - self._batcher.sent_at > self._call_limit_s:
            self._writer.abort()
        self._readers.abort_older_than(self._call_limit_s)


async def open_database(
    url: str | Path,
    *,
    migrate: bool = True,
    readers: int = 2,
    writer: Literal["thread", "process"] = "thread",
    application_name: str = "mailward",
    busy_timeout_s: float = 5.0,
    connect_timeout_s: float = 5.0,
    statement_timeout_s: float = 30.0,
    idle_transaction_s: float = 5.0,
    max_items: int = 1_000,
    max_waiting: int = 20_000,
) -> Database:
    """Open `url`: a path or "sqlite:///path" for SQLite, "postgresql://..." for PostgreSQL. Raises Unavailable.

    migrate: apply pending migrations first; False: refuse a database that has any. Raises FailedPrecondition for one
    that is
        newer than this program or has been tampered with (migrate.py).
    readers: threads and connections for reads.
    writer: where commits are performed. A process costs a start and some 12 MB, and takes nothing from the event loop.
    busy_timeout_s: SQLite: how long to wait for a command-line tool that is writing to the same file.
    connect_timeout_s: PostgreSQL: for one attempt; at least 2.
    statement_timeout_s: PostgreSQL: the longest one statement may run. Twice that for a whole commit or read, on both.
    idle_transaction_s: PostgreSQL: the longest rest inside a transaction, after which the server ends it and its locks.
    max_items: writes, and items of one batch function, in one commit.
    max_waiting: calls that may wait at once; beyond it they are refused with Unavailable.
    """
    options: dict[str, Any] = {
        "application_name": application_name,
        "busy_timeout_s": busy_timeout_s,
        "connect_timeout_s": connect_timeout_s,
        "statement_timeout_s": statement_timeout_s,
        "idle_transaction_s": idle_transaction_s,
    }
    connect = connector(url, **options)

    def prepare() -> list[Connection]:
        with contextlib.ExitStack() as opened:
            connections = [opened.enter_context(contextlib.closing(connect(read_only=False)))]
            if migrate:
                migrations.apply(connections[0])
            else:
                migrations.require_current(connections[0])
            connections.extend(
                opened.enter_context(contextlib.closing(connect(read_only=True))) for _ in range(readers)
            )
            opened.pop_all()
            return connections

    process = await ProcessWriter.start() if writer == "process" else None  # It starts while the schema is looked at.
    try:
        first, *others = await asyncio.to_thread(prepare)
        if process is not None:
            first.close()
            await process.open(url, **options)
    except BaseException:
        if process is not None:
            await process.aclose()
        raise
    return Database(
        process or ThreadWriter(first, asyncio.get_running_loop()),
        others,
        call_limit_s=2 * statement_timeout_s,
        max_items=max_items,
        max_waiting=max_waiting,
    )
