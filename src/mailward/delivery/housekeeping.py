"""Housekeeping: what retention lets go, in small steps between everything else, as fast as new mail comes.

A step keeps the writer for some milliseconds; then it rests, the longer the busier the writer is and the less is
overdue. So mail does not feel it, and however much is accepted, what is overdue stays within hours.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from mailward import log, metrics
from mailward.db.database import Database
from mailward.delivery import nodes, retention
from mailward.delivery.idempotency import KEPT_US
from mailward.delivery.retention import Kind
from mailward.errors import MailwardError
from mailward.message import content

EVERY_S = 60.0
WHOLE_EVERY_S = 3600.0  #: how often a walk begins anew, for what was not finished when it came by
_DAY_US = 86_400_000_000
_UPLOAD_US = _DAY_US  # no door lets a submission take nearly as long

_STEP_S = 0.004  # of the writer's time, that a step should take
_MESSAGES = (20, 1_000)  # in one step: the fewest, and the most
_REST_S = 0.02  # the shortest
_SHARE = 20  # a step rests this many times as long as it took ...
_IN_TIME_S = 600.0  # ... when no more than this is overdue, and less the more is


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """How long what is finished is kept, in days since its submission; 0: for ever."""

    content_days: int
    message_days: int


def next_size(size: int, took_s: float) -> int:
    """Return how many messages to remove in the next step, when `size` of them took the writer `took_s`."""
    fewest, most = _MESSAGES
    return max(fewest, min(most, 2 * size, int(size * _STEP_S / max(took_s, 1e-6))))


def rest_s(took_s: float, overdue_s: float) -> float:
    """Return how long to rest after a step that took `took_s`, the wait for the writer included.

    `overdue_s`: for how long what it removed should have been gone.
    """
    return max(_REST_S, took_s * _SHARE * _IN_TIME_S / max(overdue_s, _IN_TIME_S))


class _Walk:
    """One kind's way through the ids."""

    def __init__(self, kind: Kind, keep_us: int) -> None:
        self.kind = kind
        self.keep_us = keep_us
        self.after = -1  #: the id behind which it goes on
        self.size = 200
        self.overdue = metrics.housekeeping_overdue_seconds.labels(kind)
        self.removed = metrics.housekeeping_removed.labels(kind)


class Housekeeper:
    """Belongs to one event loop: `start`, then `stop`. Of several nodes the first works, the others look on."""

    def __init__(
        self,
        database: Database,
        keep: Keep,
        now_us: Callable[[], int],
        *,
        rest: Callable[[float, float], float] = rest_s,
    ) -> None:
        self._database = database
        self._now_us = now_us
        self._rest = rest
        days = {Kind.MESSAGES: keep.message_days, Kind.CONTENTS: keep.content_days}
        self._walks = [_Walk(kind, days[kind] * _DAY_US) for kind in days if days[kind]]
        self._walks.append(_Walk(Kind.KEYS, KEPT_US))
        self._began_us = now_us()
        self._no_orphans_below = 0  # an id
        self._task: asyncio.Task[None] | None = None

    def start(self, node: Callable[[], int]) -> None:
        """`node`: the id of this one."""
        self._task = asyncio.get_running_loop().create_task(self._run(node), name="mailward-housekeeper")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def tidy(self) -> None:
        """Remove everything whose time has come."""
        now_us = self._now_us()
        if now_us - self._began_us >= WHOLE_EVERY_S * 1e6:
            self._began_us = now_us
            for walk in self._walks:
                walk.after = -1
        walks = self._walks
        while walks:  # In turns: one that is far behind holds up no other.
            walks = [walk for walk in walks if await self._step(walk, now_us - walk.keep_us)]
        await self._remove_orphans(retention.id_at(now_us - _UPLOAD_US))

    async def _step(self, walk: _Walk, before_us: int) -> bool:
        """Remove the next few; return whether there may be more."""
        before = retention.id_at(before_us)
        stretch = await self._database.read(retention.look, walk.kind, before, walk.after, walk.size)
        walk.after = stretch.last
        overdue_s = took_s = 0.0
        if stretch.ranges:
            began_s = time.monotonic()
            removed = await self._database.write(retention.remove, walk.kind, stretch.ranges)
            took_s = time.monotonic() - began_s
            overdue_s = (before_us - retention.drawn_at_us(stretch.last)) / 1e6
            walk.removed.inc(removed.messages)
            walk.size = next_size(walk.size, removed.took_s)
        walk.overdue.set(overdue_s if stretch.more else 0)
        if stretch.more:
            await asyncio.sleep(self._rest(took_s, overdue_s))
        return stretch.more

    async def _remove_orphans(self, before: int) -> None:
        for id in await self._database.read(content.orphans, self._no_orphans_below, before):
            await self._database.batch(content.discard, id)
            metrics.housekeeping_removed.labels("orphans").inc()
        self._no_orphans_below = before  # Pieces that have their message go with it.

    async def _run(self, node: Callable[[], int]) -> None:
        while True:
            await asyncio.sleep(EVERY_S)
            try:
                if await self._database.read(nodes.first) == node():
                    await self.tidy()
            except MailwardError as error:  # The store is away; it can wait.
                log.write("warning", "housekeeping.failed", error=str(error))
