"""The Batcher: collects, in the event loop, what callers wait for, and hands it to the writer a commit at a time."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from mailward.db.writer import Batch, Commit, Failed, Results, Write
from mailward.errors import Unavailable

#: Of a write one future, of a batch one for each item.
_Futures = asyncio.Future[Any] | list[asyncio.Future[Any]]


@dataclass(slots=True)
class _Waiting:
    items: list[Any] = field(default_factory=list)
    futures: list[asyncio.Future[Any]] = field(default_factory=list)


class Batcher:
    """Group commit: while one commit is with the writer the next one gathers; whoever is in it shares its fsync.

    No deliberate delay: with 50 callers commits of 18 form by themselves. Calls made in one turn of the loop go
    together.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        send: Callable[[Commit], None],
        *,
        max_items: int,
        max_waiting: int,
    ) -> None:
        """`max_items`: writes, or items of one batch, in a commit. `max_waiting`: calls that may wait at once."""
        self._loop = loop
        self._send = send
        self._max_items = max_items
        self._max_waiting = max_waiting
        self._batches: dict[Callable[..., Any], _Waiting] = {}
        self._writes = _Waiting()
        self._count = 0  # calls that wait for a commit to be in
        self._in_flight: list[_Futures] = []  # for each call of the commit that is with the writer
        self._scheduled = False
        self._over: Unavailable | None = None
        self._idle: asyncio.Future[None] | None = None
        #: Loop time at which the commit in flight was handed over; 0.0 when none is.
        self.sent_at = 0.0
        #: Commits handed over so far, for tests and metrics.
        self.commits = 0

    def write(self, function: Callable[..., Any], args: tuple[Any, ...]) -> asyncio.Future[Any]:
        """Return a future for the function's result. Raises Unavailable when too many wait, or when closed."""
        return self._join(self._writes, Write(function, args))

    def batch(self, function: Callable[..., list[Any]], item: Any) -> asyncio.Future[Any]:
        """Return a future for the result of `item`. Raises Unavailable when too many wait or the database is closed."""
        waiting = self._batches.get(function)
        if waiting is None:
            waiting = self._batches[function] = _Waiting()
        return self._join(waiting, item)

    def _join(self, waiting: _Waiting, item: Any) -> asyncio.Future[Any]:
        if self._over is not None:
            raise Unavailable(self._over.id, self._over.message)
        if self._count >= self._max_waiting:
            raise Unavailable("DB-aJ6m", "too many calls wait for the database")
        future = self._loop.create_future()
        waiting.items.append(item)
        waiting.futures.append(future)
        self._count += 1
        if not self._scheduled and not self._in_flight:
            self._scheduled = True
            self._loop.call_soon(self._hand_over)
        return future

    def _hand_over(self) -> None:
        self._scheduled = False
        commit: list[Write | Batch] = []
        for function, waiting in self._batches.items():
            items, futures = self._take(waiting)
            if items:
                commit.append(Batch(function, items))
                self._in_flight.append(futures)
        writes, futures = self._take(self._writes)
        commit.extend(writes)
        self._in_flight.extend(futures)
        if commit:
            self.commits += 1
            self.sent_at = self._loop.time()
            self._send(commit)
        elif self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    def _take(self, waiting: _Waiting) -> tuple[list[Any], list[asyncio.Future[Any]]]:
        items, futures = waiting.items, waiting.futures
        if len(items) <= self._max_items:
            waiting.items, waiting.futures = [], []
        else:
            waiting.items, waiting.futures = items[self._max_items :], futures[self._max_items :]
            del items[self._max_items :], futures[self._max_items :]
        self._count -= len(items)
        if any(map(asyncio.Future.cancelled, futures)):  # Nobody waits any more: do not do it.
            alive = [index for index, future in enumerate(futures) if not future.cancelled()]
            items, futures = [items[index] for index in alive], [futures[index] for index in alive]
        return items, futures

    def resolve(self, results: Results) -> None:
        """Give the commit in flight its results, and hand over the next one."""
        in_flight, self._in_flight = self._in_flight, []
        self.sent_at = 0.0
        for futures, result in zip(in_flight, results, strict=True):
            if isinstance(futures, list):
                for future, answer in zip(futures, result, strict=True):
                    _settle(future, answer)
            else:
                _settle(futures, result)
        self._hand_over()

    def end(self, error: Unavailable) -> None:
        """Fail everybody who waits, and refuse from now on."""
        self._over = self._over or error
        waiting = [*self._batches.values(), self._writes]
        everybody = [future for one in waiting for future in one.futures]
        for futures in self._in_flight:
            everybody.extend(futures if isinstance(futures, list) else [futures])
        self._batches, self._writes, self._in_flight, self._count = {}, _Waiting(), [], 0
        self.sent_at = 0.0
        for future in everybody:
            _settle(future, Failed(Unavailable(error.id, error.message)))
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    async def drain(self, error: Unavailable) -> None:
        """Refuse new calls with `error`, and return once everybody who waits has been answered."""
        self._over = error
        if self._count or self._in_flight:
            self._idle = self._loop.create_future()
            await self._idle


def _settle(future: asyncio.Future[Any], result: Any) -> None:
    if future.done():  # Cancelled: its caller does not wait any more, but what it asked for was done.
        return
    if isinstance(result, Failed):
        future.set_exception(result.error)
    else:
        future.set_result(result)
