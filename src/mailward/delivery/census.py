"""How much waits, by lane and state: counted now and then, never on the way of a message (SQL).

No counter is kept: it would cost every message, and drift. Counting walks the small indexes of what waits, is leased
or is in doubt; finished mail costs nothing. With a million waiting it takes a second or two of one reader, so it is
repeated the more seldom the longer it takes: at most 1 % of the time.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from mailward import log, metrics
from mailward.db.database import Database, Transaction
from mailward.delivery import queue_postgres
from mailward.delivery.lease import LANE_NAMES, Lane
from mailward.errors import MailwardError
from mailward.ids import EPOCH_MS

EVERY_S = 15.0
_LONG_S = 1.0
_SHARE = 100
_STATES = ("queued", "sending", "deferred", "uncertain")


@dataclass(frozen=True, slots=True)
class Counted:
    """What there was at one moment."""

    at_us: int
    recipients: tuple[dict[str, int], ...]  #: by lane: state to number, without zeros
    oldest_at_us: tuple[int | None, ...]  #: by lane: when the oldest recipient without a final state was submitted
    held: int


_WAITING = """
    SELECT lane, state, count(*), min(message_id) FROM recipients
     WHERE next_attempt_at_us IS NOT NULL GROUP BY lane, state
"""

_LEASED = "SELECT lane, state, count(*), min(message_id) FROM recipients WHERE node IS NOT NULL GROUP BY lane, state"

_HELD = """
    SELECT lane, state, count(*), min(message_id) FROM recipients
     WHERE state = 'uncertain' AND next_attempt_at_us IS NULL GROUP BY lane, state
"""


def count(tx: Transaction, at_us: int) -> Counted:
    """Count what has no final state."""
    if tx.dialect == "postgresql":
        queue_postgres.plan_by_index(tx, local=True)
    recipients: tuple[dict[str, int], ...] = tuple({} for _ in Lane)
    oldest: list[int | None] = [None for _ in Lane]
    held = 0
    for sql in (_WAITING, _LEASED, _HELD):
        for lane, state, number, first in tx.fetch(sql):
            recipients[lane][state] = recipients[lane].get(state, 0) + number
            submitted_us = ((first >> 20) + EPOCH_MS) * 1_000
            oldest[lane] = submitted_us if (known := oldest[lane]) is None else min(known, submitted_us)
            held += number if sql is _HELD else 0
    return Counted(at_us, recipients, tuple(oldest), held)


class Census:
    """Counts while it runs, and sets the metrics. Belongs to one event loop: `start`, then `stop`."""

    def __init__(self, database: Database, now_us: Callable[[], int]) -> None:
        self._database = database
        self._now_us = now_us
        self._last: Counted | None = None
        self._took_s = 0.0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run(), name="mailward-census")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def recent(self) -> Counted:
        """Return a count of this moment; where counting takes seconds, one that may be ten times as old."""
        last = self._last
        if last is not None and self._took_s >= _LONG_S and self._now_us() - last.at_us < self._took_s * 10 * 1e6:
            return last
        return await self.take()

    async def take(self) -> Counted:
        """Count now, and set the metrics."""
        began_s = time.monotonic()
        counted = await self._database.read(count, self._now_us())
        self._took_s = time.monotonic() - began_s
        before = 0 if self._last is None else self._last.held
        self._last = counted
        for lane, recipients, oldest in zip(LANE_NAMES, counted.recipients, counted.oldest_at_us, strict=True):
            for state in _STATES:
                metrics.queue_recipients.labels(lane, state).set(recipients.get(state, 0))
            age_us = 0 if oldest is None else max(0, counted.at_us - oldest)
            metrics.queue_oldest_seconds.labels(lane).set(age_us / 1e6)
        metrics.recipients_held.set(counted.held)
        if counted.held > before:
            log.recipients_held(counted.held)
        return counted

    async def _run(self) -> None:
        while True:
            try:
                await self.take()
            except MailwardError as error:  # The store is away; who writes says so.
                log.write("warning", "census.failed", error=str(error))
            await asyncio.sleep(max(EVERY_S, self._took_s * _SHARE))
