"""The Batcher: collects, in the event loop, what callers wait for, and hands it to the writer a commit at a time."""

import asyncio
from collections.abc import Callable, Generator
from typing import Any, Generic, TypeVar

from mailward.db.writer import Batch, Commit, Failed, Results, Write
from mailward.errors import Unavailable

R = TypeVar("R")

_UNKNOWN: Any = object()


class Pending(Generic[R]):
    """The result of one item of a batch, to be awaited or to be told; a future would cost a turn of the loop more."""

    __slots__ = ("_result", "_told")

    def __init__(self) -> None:
        self._result: R | Failed = _UNKNOWN
        self._told: Callable[[R | Failed], None] | None = None

    def then(self, told: Callable[[R | Failed], None]) -> None:
        """Have `told` called with the result, in the turn of the loop that brings it; at once when it is known."""
        if self._result is _UNKNOWN:
            self._told = told
        else:
            told(self._result)

    def settle(self, result: R | Failed) -> None:
        self._result = result
        if self._told is not None:
            self._told(result)

    def __await__(self) -> Generator[Any, None, R]:
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self.then(lambda result: _settle(future, result))
        return (yield from future.__await__())


class _Waiting:
    """What waits for a commit to be in: calls, and whom to tell of each."""

    __slots__ = ("answers", "items")

    def __init__(self) -> None:
        self.items: list[Any] = []
        self.answers: list[Any] = []  # futures of writes, or Pendings of one batch


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
        # For each call of the commit that is with the writer: a future, or a batch's Pendings.
        self._in_flight: list[asyncio.Future[Any] | list[Pending[Any]]] = []
        self._hands_over = False  # soon, or once the results that have come are told
        self._over: Unavailable | None = None
        self._idle: asyncio.Future[None] | None = None
        #: Loop time at which the commit in flight was handed over; 0.0 when none is.
        self.sent_at = 0.0
        #: Commits handed over so far, for tests and metrics.
        self.commits = 0

    def write(self, function: Callable[..., Any], args: tuple[Any, ...]) -> asyncio.Future[Any]:
        """Return a future for the function's result. Raises Unavailable when too many wait, or when closed."""
        future = self._loop.create_future()
        self._join(self._writes, Write(function, args), future)
        return future

    def batch(self, function: Callable[..., list[R]], item: Any) -> Pending[R]:
        """Return what will be told the result of `item`. Raises Unavailable when too many wait, or when closed."""
        waiting = self._batches.get(function)
        if waiting is None:
            waiting = self._batches[function] = _Waiting()
        pending: Pending[R] = Pending()
        self._join(waiting, item, pending)
        return pending

    def _join(self, waiting: _Waiting, item: Any, answer: Any) -> None:
        if self._over is not None:
            raise Unavailable(self._over.id, self._over.message)
        if self._count >= self._max_waiting:
            raise Unavailable("DB-aJ6m", "too many calls wait for the database")
        waiting.items.append(item)
        waiting.answers.append(answer)
        self._count += 1
        if not self._hands_over and not self._in_flight:
            self._hands_over = True
            self._loop.call_soon(self._hand_over)

    def _hand_over(self) -> None:
        self._hands_over = False
        commit: list[Write | Batch] = []
        for function, waiting in self._batches.items():
            items, answers = self._take(waiting)
            if items:
                commit.append(Batch(function, items))
                self._in_flight.append(answers)
        for write, future in zip(*self._take(self._writes), strict=True):
            if not future.cancelled():  # Otherwise nobody waits any more: do not do it.
                commit.append(write)
                self._in_flight.append(future)
        if commit:
            self.commits += 1
            self.sent_at = self._loop.time()
            self._send(commit)
        elif self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    def _take(self, waiting: _Waiting) -> tuple[list[Any], list[Any]]:
        items, answers = waiting.items, waiting.answers
        if len(items) <= self._max_items:
            waiting.items, waiting.answers = [], []
        else:
            waiting.items, waiting.answers = items[self._max_items :], answers[self._max_items :]
            del items[self._max_items :], answers[self._max_items :]
        self._count -= len(items)
        return items, answers

    def resolve(self, results: Results) -> None:
        """Give the commit in flight its results, then hand over the next one, with what they led to.

        A claim or a command takes the writer long, so a commit with one in it goes first: its while is for the results.
        """
        in_flight, self._in_flight = self._in_flight, []
        self.sent_at = 0.0
        if self._writes.items:
            self._hand_over()
        self._hands_over = True
        for waiting, result in zip(in_flight, results, strict=True):
            if isinstance(waiting, list):
                for pending, answer in zip(waiting, result, strict=True):
                    self._tell(pending, answer)
            else:
                _settle(waiting, result)
        self._hands_over = False
        if not self._in_flight:
            self._hand_over()

    def _tell(self, pending: Pending[Any], result: Any) -> None:
        try:
            pending.settle(result)
        except Exception as error:  # The others are told all the same.
            self._loop.call_exception_handler({"message": "the result of a commit was not taken", "exception": error})

    def end(self, error: Unavailable) -> None:
        """Fail everybody who waits, and refuse from now on."""
        self._over = self._over or error
        everybody = [answer for one in (*self._batches.values(), self._writes) for answer in one.answers]
        for waiting in self._in_flight:
            everybody.extend(waiting if isinstance(waiting, list) else [waiting])
        self._batches, self._writes, self._in_flight, self._count = {}, _Waiting(), [], 0
        self.sent_at = 0.0
        for answer in everybody:
            result = Failed(Unavailable(error.id, error.message))
            if isinstance(answer, Pending):
                self._tell(answer, result)
            else:
                _settle(answer, result)
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
