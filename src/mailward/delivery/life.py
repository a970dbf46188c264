"""The life of this node: its heartbeat, the recovery of nodes that died, and another life when it was thought dead.

Nothing here asks what time it is: waits are measured by a clock that only runs forward.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from mailward import log
from mailward.db.database import Database
from mailward.db.transaction import Contended
from mailward.delivery import nodes, succession
from mailward.delivery.lease import Owner
from mailward.delivery.nodes import Neighbour
from mailward.delivery.retry import RetryPolicy
from mailward.ids import EPOCH_MS, IdSource

# Ids drawn since the last heartbeat are known to nobody; only a clock that was set back can come to them again.
_UNKNOWN_IDS_MS = 60_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How often nodes show that they live, and how long one may stand still."""

    heartbeat_s: float = 2.0
    dead_after_s: float = 10.0

    @property
    def safe_s(self) -> float:
        """How long after a heartbeat a node may still begin what it could not do if others took it for dead."""
        return self.dead_after_s - self.heartbeat_s


class Watch:
    """Which neighbours stand still, and for how long we have been looking at them without a break."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._seen: dict[Neighbour, float] = {}  # when each was first seen as it still is
        self._looked_at = float("-inf")

    def dead(self, neighbours: Iterable[Neighbour], now: float) -> list[Neighbour]:
        """Return those that have not moved for `dead_after_s` (seconds of a monotonic clock).

        A gap between two looks begins everything anew: what kept us from looking may have kept them from moving.
        """
        if now - self._looked_at > 2 * self._pace.heartbeat_s:
            self._seen = {}
        self._looked_at = now
        self._seen = {neighbour: self._seen.get(neighbour, now) for neighbour in neighbours}
        return [neighbour for neighbour, since in self._seen.items() if now - since >= self._pace.dead_after_s]


class Life:
    """`begin`, then `start`, then `stop`. Every process that draws ids has one, whatever its role."""

    def __init__(
        self,
        database: Database,
        name: str,
        policy: RetryPolicy,
        *,
        now_us: Callable[[], int],
        monotonic: Callable[[], float],
        pace: Pace | None = None,
    ) -> None:
        """`name`: see nodes.register. `monotonic`: seconds, never backward. With SQLite there are no other nodes."""
        self._database = database
        self._name = name
        self._policy = policy
        self._now_us = now_us
        self._monotonic = monotonic
        self._pace = pace or Pace()
        self._watch = Watch(self._pace)
        self._alone = database.dialect == "sqlite"
        self._beat_at = float("-inf")
        self._stored_id = 0
        self._task: asyncio.Task[None] | None = None
        self._look = asyncio.Event()
        self.owner: Owner
        self.ids: IdSource

    async def begin(self) -> None:
        """Register this node and recover what its former life left behind; `owner` and `ids` are there afterwards."""
        self._beat_at = self._monotonic()
        self.owner, after = await self._database.write(succession.register, self._name, self._policy, self._now_us())
        self.ids = IdSource(self.owner.node, lambda: self._now_us() // 1_000)
        self._go_on(after)

    def start(self, reborn: Callable[[Owner], Awaitable[None]]) -> None:
        """Keep the heart beating. `reborn` is called with the next life after another node had ended this one."""
        self._task = asyncio.get_running_loop().create_task(self._live(reborn), name="mailward-life")

    async def stop(self) -> None:
        """End it in order. Idempotent."""
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        try:
            await self._database.write(nodes.leave, self.owner, self.ids.last)
        except Exception as error:  # Then others find out by themselves.
            log.write("warning", "node.left", error=str(error))

    def is_sure(self) -> bool:
        """Whether no other node can have ended this life by now: the time in which it may begin a hand-over."""
        return self._alone or self._monotonic() - self._beat_at < self._pace.safe_s

    def doubt(self) -> None:
        """Look now: the store refused a write of this life."""
        self._look.set()

    async def beat(self, reborn: Callable[[Owner], Awaitable[None]]) -> None:
        """Beat once, bury and recover whoever died, and begin again if that happened to us. Raises what the store does.

        With SQLite it only keeps count of the ids, and writes nothing when none was drawn.
        """
        last_id = self.ids.last
        if self._alone and last_id == self._stored_id:
            return
        at = self._monotonic()
        neighbours = await self._database.write(nodes.heartbeat, self.owner, self._now_us(), last_id)
        if neighbours is None:
            await self._begin_again()
            await reborn(self.owner)
            return
        self._beat_at = at
        self._stored_id = last_id
        for dead in self._watch.dead(neighbours, at):
            try:
                recovered = await self._database.write(succession.bury, dead, self._policy, self._now_us())
            except Contended:  # It froze inside a transaction: the next heartbeat tries again.
                continue
            if recovered is not None:
                log.node_buried(dead.node, dead.epoch, queued=recovered.queued, uncertain=recovered.uncertain)

    async def _live(self, reborn: Callable[[Owner], Awaitable[None]]) -> None:
        failing = False
        while True:
            self._look.clear()
            try:
                await self.beat(reborn)
                failing = False
            except Exception as error:
                if not failing:
                    log.write("warning", "node.heartbeat_failed", error=str(error))
                failing = True
            try:
                async with asyncio.timeout(self._pace.heartbeat_s):
                    await self._look.wait()
            except TimeoutError:
                pass

    async def _begin_again(self) -> None:
        at = self._monotonic()
        former = self.owner
        spare = f"{self._name}.{secrets.token_hex(4)}"
        self.owner, after, self._name = await self._database.write(
            succession.register_again, self._name, spare, former, self._policy, self._now_us()
        )
        self._beat_at = at
        self._go_on(after)
        log.node_reborn(former.node, former.epoch, self.owner.node, self.owner.epoch)

    def _go_on(self, after: int) -> None:
        """Never draw an id again that an earlier life drew."""
        if after >> 20 > self._now_us() // 1_000 - EPOCH_MS:
            after += _UNKNOWN_IDS_MS << 20
        self.ids.go_on(self.owner.node, after)
        self._stored_id = 0
