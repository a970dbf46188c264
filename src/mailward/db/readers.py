"""The readers: a few threads, each with a read connection of its own."""

import asyncio
import contextlib
import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any

from mailward.db.transaction import Connection
from mailward.db.writer import Failed, failed
from mailward.errors import Unavailable

_TOGETHER = 8  #: reads in one transaction at the most, so that a slow one keeps few others waiting

_Job = tuple[Callable[..., Any], tuple[Any, ...], asyncio.Future[Any]]


class Readers:
    """Runs read functions, first come, first served.

    Those that are asked for in one turn of the loop go to one thread and share a transaction: a hand-over costs both
    threads more than most reads. The loop is woken once for all results that are ready.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, connections: Sequence[Connection], *, max_waiting: int) -> None:
        """One thread for each of `connections`. `max_waiting`: reads that may wait or run at once."""
        self._loop = loop
        self._max_waiting = max_waiting
        self._gathered: list[_Job] = []  # in this turn
        self._jobs: queue.SimpleQueue[list[_Job] | None] = queue.SimpleQueue()
        self._done: deque[tuple[asyncio.Future[Any], Any]] = deque()
        self._woken = False
        self._waiting: set[asyncio.Future[Any]] = set()
        self._over: Unavailable | None = None
        self._started: dict[int, tuple[Connection, float]] = {}  # by thread: what runs, and since when (monotonic)
        self._threads = [
            threading.Thread(target=self._work, args=(connection,), name=f"mailward-reader-{number}", daemon=True)
            for number, connection in enumerate(connections)
        ]
        for thread in self._threads:
            thread.start()

    def read(self, function: Callable[..., Any], args: tuple[Any, ...]) -> asyncio.Future[Any]:
        """Return a future for function(tx, *args). Raises Unavailable when too many wait or the database is closed."""
        if self._over is not None:
            raise Unavailable(self._over.id, self._over.message)
        if len(self._waiting) >= self._max_waiting:
            raise Unavailable("DB-eV9c", "too many reads wait for the database")
        future = self._loop.create_future()
        self._waiting.add(future)
        if not self._gathered:
            self._loop.call_soon(self._hand_over)
        self._gathered.append((function, args, future))
        return future

    def _hand_over(self) -> None:
        gathered, self._gathered = self._gathered, []
        for start in range(0, len(gathered), _TOGETHER):
            self._jobs.put(gathered[start : start + _TOGETHER])

    def abort_older_than(self, seconds: float) -> None:
        """Make the reads fail that have been running for longer."""
        now = monotonic()
        for connection, since in list(self._started.values()):
            if now - since > seconds:
                connection.abort()

    def end(self, error: Unavailable) -> None:
        """Refuse new reads with `error`."""
        self._over = error
        self._hand_over()

    def close(self) -> None:
        """Let the threads finish what waits, and end. Blocks."""
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()

    def settle(self) -> None:
        """Give every result that is ready to its caller."""
        self._woken = False  # First: a result that comes after the last look below wakes the loop again.
        while self._done:
            future, result = self._done.popleft()
            self._waiting.discard(future)
            if future.done():
                continue
            if isinstance(result, Failed):
                future.set_exception(result.error)
            else:
                future.set_result(result)

    def _next(self) -> list[_Job] | None:
        """Return what waits, a few at a time; None when there will be no more."""
        jobs = self._jobs.get()
        while jobs is not None and len(jobs) < _TOGETHER:
            try:
                more = self._jobs.get_nowait()
            except queue.Empty:
                break
            if more is None:
                self._jobs.put(None)  # For whoever comes next.
                break
            jobs = jobs + more
        return jobs

    def _work(self, connection: Connection) -> None:
        me = threading.get_ident()
        while (jobs := self._next()) is not None:
            self._started[me] = (connection, monotonic())
            results = _read(connection, jobs)
            del self._started[me]
            self._done.extend(zip((future for _, _, future in jobs), results, strict=True))
            if not self._woken:
                self._woken = True
                with contextlib.suppress(RuntimeError):  # The loop is closed, and with it everybody who waited.
                    self._loop.call_soon_threadsafe(self.settle)
        connection.close()


def _read(connection: Connection, jobs: list[_Job]) -> list[Any]:
    """Return the results of `jobs` from one transaction, or, when one of them fails, each from one of its own."""
    try:
        connection.begin()
        results = [None if future.cancelled() else function(connection, *args) for function, args, future in jobs]
        connection.commit()
        return results
    except BaseException as error:
        connection.rollback()
        if len(jobs) == 1:
            return [failed(error)]
    return [result for job in jobs for result in _read(connection, [job])]
