"""The writer: the one that owns the write connection, and what it does with a commit."""

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from mailward.db.transaction import Connection, Contended, Dialect, StoreFailed
from mailward.errors import DeadlineExceeded, MailwardError, Unavailable

_IDLE_S = 1.0


@dataclass(frozen=True, slots=True)
class Write:
    """One function to call once, in a savepoint of its own."""

    function: Callable[..., Any]
    args: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Batch:
    """One function to call once for many items; result i belongs to item i."""

    function: Callable[..., list[Any]]
    items: list[Any]


@dataclass(frozen=True, slots=True)
class Failed:
    """In place of a result."""

    error: Exception


def failed(error: BaseException) -> Failed:
    """Return `error` in place of a result, wrapped when a future or the loop could not bear it."""
    # A future refuses StopIteration, and KeyboardInterrupt in it would stop the loop.
    if isinstance(error, StopIteration) or not isinstance(error, Exception):
        wrapped = RuntimeError(f"the function raised {error!r}")
        wrapped.__cause__ = error
        return Failed(wrapped)
    return Failed(error)


#: One plain value goes to the writer a commit, and one comes back: for each Write its result, for each Batch its
#: results.
Commit = Sequence[Write | Batch]
Results = list[Any]


def perform(connection: Connection, commit: Commit) -> Results:
    """Do `commit` in one transaction and return the results once they are durable. Raises nothing.

    Batches run first, in their order, then the writes in theirs. A write that raises fails alone. When a batch raises,
    all is rolled back and done again with that batch's items one by one, each in its own savepoint: a poisoned item
    costs one repetition, and the usual case costs no savepoint. So a function may run more than once for one result,
    and must do nothing but use its transaction. When the storage fails, everybody gets a StoreFailed.
    """
    try:
        return _transact(connection, commit)
    except BaseException as error:
        connection.rollback()
        if len(commit) == 1 or (isinstance(error, StoreFailed) and not isinstance(error, Contended)):
            return refused(commit, error)
    # A deadlock with another node, or a constraint that is checked at commit: alone, each call answers only for itself.
    return [result for call in commit for result in perform(connection, [call])]


def refused(commit: Commit, error: BaseException) -> Results:
    """Return `error` as everybody's result, each with an exception of its own (raising one adds to its traceback)."""

    def one() -> Failed:
        own: Exception
        if isinstance(error, MailwardError):
            own = type(error)(error.id, error.message, pointer=error.pointer)
        else:
            own = Unavailable("DB-Pw5x", "the transaction failed")
        own.__cause__ = error
        return Failed(own)

    if _counts_one(commit):
        return [failed(error) if isinstance(commit[0], Write) else [failed(error)]]
    return [one() if isinstance(call, Write) else [one() for _ in call.items] for call in commit]


def _counts_one(commit: Commit) -> bool:
    """Return whether there is one caller, who needs neither savepoint nor protection from others."""
    return len(commit) == 1 and (isinstance(commit[0], Write) or len(commit[0].items) == 1)


def _transact(connection: Connection, commit: Commit) -> Results:
    results: Results = [None] * len(commit)
    poisoned: set[int] = set()
    while not _run_batches(connection, commit, results, poisoned):
        connection.rollback()
    for index, call in enumerate(commit):
        if isinstance(call, Write):
            if len(commit) == 1:
                results[index] = call.function(connection, *call.args)
            else:
                results[index] = _in_savepoint(connection, call.function, call.args)
    connection.commit()
    return results


def _run_batches(connection: Connection, commit: Commit, results: Results, poisoned: set[int]) -> bool:
    """Begin, and run the batches into `results`. False: one raised, is `poisoned` now, and all must be done again."""
    connection.begin()
    for index, call in enumerate(commit):
        if isinstance(call, Write):
            continue
        if index in poisoned:
            results[index] = [_one(connection, call, item) for item in call.items]
            continue
        try:
            results[index] = _answers(connection, call)
        except StoreFailed:
            raise
        except DeadlineExceeded as error:  # One by one, each item could take as long again.
            raise StoreFailed("DB-cG9i", "the commit took too long") from error
        except Exception:
            if _counts_one(commit):
                raise
            poisoned.add(index)
            return False
    return True


def _answers(connection: Connection, call: Batch) -> list[Any]:
    answers = call.function(connection, call.items)
    if len(answers) != len(call.items):
        raise RuntimeError(f"{call.function.__qualname__} gave {len(answers)} results for {len(call.items)} items")
    return answers


def _one(connection: Connection, call: Batch, item: Any) -> Any:
    answers = _in_savepoint(connection, _answers, (Batch(call.function, [item]),))
    return answers if isinstance(answers, Failed) else answers[0]


def _in_savepoint(connection: Connection, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    """Return the function's result, or Failed with everything undone that it did. Raises StoreFailed."""
    connection.savepoint()
    try:
        result = function(connection, *args)
        connection.release()
        return result
    except StoreFailed:
        raise
    except Exception as error:
        connection.rollback_to_savepoint()
        return failed(error)


class Writer(Protocol):
    """Whoever performs commits, one after the other. Belongs to an event loop."""

    dialect: Dialect
    #: Called in the loop: with the results of each commit, in order; with None when there will be no more.
    deliver: Callable[[Results | None], None]

    def send(self, commit: Commit) -> None:
        """Hand over the next commit."""
        ...

    def abort(self) -> None:
        """Make the commit in hand fail."""
        ...

    async def aclose(self) -> None:
        """Finish what was sent, and end."""
        ...


class ThreadWriter:
    """A Writer that runs `perform` in a thread of its own."""

    def __init__(self, connection: Connection, loop: asyncio.AbstractEventLoop) -> None:
        self.dialect: Dialect = connection.dialect
        self.deliver: Callable[[Results | None], None] = _forget
        self._connection = connection
        self._loop = loop
        self._commits: queue.SimpleQueue[Commit | None] = queue.SimpleQueue()
        # A daemon: a program that ends without closing its database ends, and what was not answered was not promised.
        self._thread = threading.Thread(target=self._work, name="mailward-writer", daemon=True)
        self._thread.start()

    def send(self, commit: Commit) -> None:
        self._commits.put(commit)

    def abort(self) -> None:
        self._connection.abort()

    async def aclose(self) -> None:
        self._commits.put(None)
        await asyncio.to_thread(self._thread.join)

    def _work(self) -> None:
        try:
            while (commit := self._next()) is not None:
                self._tell(perform(self._connection, commit))
        finally:
            self._connection.close()
            self._tell(None)

    def _tell(self, results: Results | None) -> None:
        with contextlib.suppress(RuntimeError):  # The loop is closed, and with it everybody who waited.
            self._loop.call_soon_threadsafe(self.deliver, results)

    def _next(self) -> Commit | None:
        try:
            return self._commits.get(timeout=_IDLE_S)
        except queue.Empty:
            self._connection.idle()
            return self._commits.get()


def _forget(results: Results | None) -> None:
    """Stand in for `deliver` until there is somebody to deliver to."""
