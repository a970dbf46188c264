"""Records how attempts ended. Nobody waits: a close rides on the next commit, or on its own 5 ms later."""

import asyncio
from collections.abc import Callable
from functools import partial

from mailward.db.database import Database
from mailward.db.writer import Failed
from mailward.delivery import queue
from mailward.delivery.lease import CloseAttempt, Lease

_RIDE_WITHIN_S = 0.005

Closed = Callable[[Lease, CloseAttempt, bool], None]


class Closer:
    """Keeps every close until it is durable, however often the store fails."""

    def __init__(self, database: Database, closed: Closed, failed: Callable[[Exception], None]) -> None:
        """`closed` gets True after the commit, or False when the lease was lost; `failed` is for a failing store."""
        self._database = database
        self._on_closed = closed
        self._on_failed = failed
        self._waiting: list[tuple[Lease, CloseAttempt]] = []  # for a commit to ride on
        self._failed: list[tuple[Lease, CloseAttempt]] = []  # for the store to work again
        self._storing = 0
        self._timer: asyncio.TimerHandle | None = None
        self._done: asyncio.Future[None] | None = None

    def add(self, lease: Lease, close: CloseAttempt) -> None:
        """Record `close` soon."""
        self._waiting.append((lease, close))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_RIDE_WITHIN_S, self._end_of_wait)

    def _end_of_wait(self) -> None:
        self._timer = None
        self.ride()

    def ride(self) -> None:
        """Join the commit that is being gathered. Called by whoever brings something to it."""
        # The timer stays: under load nearly every close finds a ride, and a timer for each costs more than a vain one.
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            for lease, close in waiting:
                self._store(lease, close, again=False)

    def retry(self) -> None:
        """Try again what failed."""
        failed, self._failed = self._failed, []
        for lease, close in failed:
            self._store(lease, close, again=True)

    async def flush(self) -> None:
        """Return once everything is durable or has failed."""
        self.ride()
        if self._storing:
            self._done = asyncio.get_running_loop().create_future()
            await self._done

    def _store(self, lease: Lease, close: CloseAttempt, *, again: bool) -> None:
        try:
            pending = self._database.batch(queue.close_attempts, close)
        except Exception as error:  # Too many wait, or it is closed.
            self._failed.append((lease, close))
            self._on_failed(error)
            return
        self._storing += 1
        pending.then(partial(self._stored, lease, close, again))

    def _stored(self, lease: Lease, close: CloseAttempt, again: bool, closed: bool | Failed) -> None:
        self._storing -= 1
        if isinstance(closed, Failed):
            self._failed.append((lease, close))
            self._on_failed(closed.error)
        else:
            # The failed commit may have been stored after all; then the attempt is closed already.
            self._on_closed(lease, close, closed or again)
        if not self._storing and self._done is not None and not self._done.done():
            self._done.set_result(None)
