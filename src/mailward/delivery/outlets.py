"""The ways out of a node, in the order of the plan: which one is used now, and what nodes tell each other."""

from collections.abc import Callable, Iterator

from mailward import log, metrics
from mailward.db.database import Database
from mailward.delivery import health
from mailward.delivery.breaker import State, may_probe
from mailward.delivery.lease import Lane, Lease, Owner
from mailward.delivery.limits import Exchange
from mailward.delivery.outlet import MakeTransport, Outlet, Standing
from mailward.ids import ProviderId
from mailward.provider.routing import Plan

_READ_EVERY_US = 2_000_000  # how old the news of other nodes may be
_KEEP_UNUSED_US = 1_000_000  # then slots go back, for other nodes
_LONG_US = 2_000_000


class Outlets:
    """Belongs to one event loop. `current` takes new mail; None: all mail waits in the queue."""

    def __init__(
        self,
        database: Database,
        owner: Callable[[], Owner],
        make: MakeTransport,
        now_us: Callable[[], int],
        *,
        stir: Callable[[], None],
        recovered: Callable[[], None],
        drop: Callable[[Outlet], None],
        begin_probe: Callable[[Outlet], None],
    ) -> None:
        """`stir` wakes whoever calls `settle`. `drop` gets an outlet that is no longer in the plan.

        `recovered`: called when one is back in rotation.
        """
        self._database = database
        self._owner = owner
        self._make = make
        self._now_us = now_us
        self._stir = stir
        self._recovered = recovered
        self._drop = drop
        self._begin_probe = begin_probe
        self._read_at_us = 0
        self._broken: set[ProviderId] = set()  # those that were out of rotation at the last look
        self._plan: Plan = ()
        self.all: list[Outlet] = []
        self.current: Outlet | None = None

    def follow(self, plan: Plan) -> None:
        """Have an outlet for each hop of `plan`; one whose settings stayed is kept with its connections."""
        if plan is self._plan or plan == self._plan:  # Comparing settings is dear, and most often not needed.
            return
        self._plan = plan
        old = {outlet.hop.id: outlet for outlet in self.all}
        self.all = []
        for hop in plan:
            outlet = old.pop(hop.id, None)
            if outlet is not None and outlet.hop != hop:
                self._drop(outlet)
                outlet = None
            self.all.append(outlet or Outlet(hop, self._make, self._now_us, self._stir))
        for outlet in old.values():
            self._drop(outlet)
        self.refresh()

    def begin_anew(self) -> None:
        """Forget the slots of a life that is over: they count as used."""
        for outlet in self.all:
            outlet.slots = outlet.used = 0

    def look_anew(self) -> None:
        """The clock was set back, and what the nodes share was mended."""
        for outlet in self.all:
            outlet.known = False
            outlet.retry_at_us = outlet.taken_at_us = 0

    def refresh(self) -> None:
        """See again who may be used: something happened, or time passed."""
        now_us = self._now_us()
        before = self.current
        standings = [outlet.standing(now_us) for outlet in self.all]
        broken = {outlet.hop.id for outlet in self.all if outlet.breaker.state is not State.CLOSED}
        repaired = any(outlet.hop.id in self._broken - broken for outlet in self.all)
        self._broken = broken
        if repaired:
            self._recovered()
        self.current = next(
            (outlet for outlet, standing in zip(self.all, standings, strict=True) if standing is not Standing.OUT), None
        )
        if before is not None and before is not self.current and before in self.all:
            log.write(
                "warning", "provider.left", provider_id=before.hop.id, reason=before.breaker.reason,
                next=None if self.current is None else self.current.hop.id,
            )  # fmt: skip

    def after(self, tried: tuple[ProviderId, ...]) -> Outlet | None:
        """Return the first that may be used and is not among `tried`."""
        now_us = self._now_us()
        for outlet in self.all:
            if outlet.hop.id not in tried and outlet.standing(now_us) is not Standing.OUT:
                return outlet
        return None

    def could_send(self) -> bool:
        """Tell whether mail that is due would leave now."""
        return self.current is not None and self.current.standing(self._now_us()) is Standing.GO

    def may_take(self, now_us: int) -> int | None:
        """Return how many messages the current provider would take at once, None when any number."""
        outlet = self.current
        if outlet is None:
            return 0
        if outlet.is_plain:
            return None
        if outlet.standing(now_us) is not Standing.GO:
            return 0
        if outlet.trial:
            return 1
        return outlet.slots if outlet.limited else None

    def fitting(self, rooms: dict[Lane, tuple[int, int]], ready: int) -> dict[Lane, tuple[int, int]]:
        """Return what of `rooms`, messages and bytes by lane, the current provider can take beside what is ready."""
        most = self.may_take(self._now_us())
        if most is None:
            return rooms
        most -= ready
        return {lane: (min(messages, most), size) for lane, (messages, size) in rooms.items() if most > 0}

    def waits_long(self, now_us: int) -> bool:
        """Tell whether mail had better wait in the queue than in memory."""
        outlet = self.current
        return outlet is None or (outlet.limited and not outlet.slots and outlet.retry_at_us - now_us > _LONG_US)

    def why_not_first(self) -> str:
        """Return why mail goes to another provider than the active one."""
        first = self.all[0]
        return f"failover: {first.reason(self._now_us()) or f'provider {first.hop.id} was out of rotation'}"

    def reason(self) -> str:
        """Return why mail waits, "" when it does not."""
        now_us = self._now_us()
        if self.current is not None:
            return self.current.reason(now_us)
        return self.all[0].reason(now_us) if self.all else ""

    def due_at_us(self) -> Iterator[int]:
        """Yield moments at which `settle` will have something to do; those in the past are of no interest."""
        for outlet in self.all:
            yield outlet.breaker.paused_until_us
            if outlet.breaker.state is not State.CLOSED:
                yield outlet.breaker.try_at_us
            if outlet.limited:
                yield outlet.retry_at_us if outlet.window else 0
                yield outlet.taken_at_us + _KEEP_UNUSED_US if outlet.slots else 0
        if self._database.dialect != "sqlite" and self.all:
            yield self._read_at_us + _READ_EVERY_US

    async def settle(self, wanting: int) -> None:
        """Tell the other nodes what is new, hear theirs, and get slots for `wanting` messages."""
        await self._read()
        for outlet in self.all:
            if outlet.events:
                told = len(outlet.events)
                shared = await self._database.write(
                    health.report, outlet.hop.id, outlet.hop.revision, outlet.events[:told]
                )
                outlet.settle(shared, told)
            if may_probe(outlet.breaker, self._now_us()) and not outlet.probing:
                await self._probe(outlet)
            if outlet.limited:
                await self._trade(outlet, wanting if outlet is self.current else sum(map(len, outlet.moved)))
        self.refresh()

    async def hand_back(self) -> None:
        """Return the slots that were not used. For the end; until then, see `settle`."""
        for outlet in self.all:
            if outlet.limited and (outlet.slots or outlet.used):
                owner = self._owner()
                ask = Exchange(owner.node, owner.epoch, outlet.used, outlet.slots, 0, self._now_us())
                outlet.slots = outlet.used = 0
                await self._database.write(health.trade, outlet.hop.id, outlet.hop.limits, ask)

    async def _read(self) -> None:
        """Only what others wrote must be read: with SQLite there are none, but there is the past."""
        now_us = self._now_us()
        new = any(not outlet.known for outlet in self.all)
        stale = self._database.dialect != "sqlite" and not 0 <= now_us - self._read_at_us < _READ_EVERY_US
        if not new and not stale:
            return
        self._read_at_us = now_us
        found = await self._database.read(health.breakers)
        for outlet in self.all:
            breaker = found.get(outlet.hop.id)
            if breaker is not None or not outlet.known:
                outlet.settle(breaker or outlet.breaker, 0)

    async def _probe(self, outlet: Outlet) -> None:
        shared, mine = await self._database.write(health.take_probe, outlet.hop.id, outlet.hop.revision, self._now_us())
        outlet.settle(shared, 0)
        if mine:
            outlet.trial = False
            outlet.probing = True
            self._begin_probe(outlet)

    async def _trade(self, outlet: Outlet, wanting: int) -> None:
        now_us = self._now_us()
        unused = outlet.slots if not wanting and now_us - outlet.taken_at_us >= _KEEP_UNUSED_US else 0
        want = wanting if not outlet.slots and now_us >= outlet.retry_at_us else 0
        report = outlet.used if not outlet.flying or not outlet.slots else 0
        if not (unused or want or report):
            return
        outlet.slots -= unused
        used, outlet.used = outlet.used, 0
        owner = self._owner()
        ask = Exchange(owner.node, owner.epoch, used, unused, want, now_us)
        try:
            grant = await self._database.write(health.trade, outlet.hop.id, outlet.hop.limits, ask)
        except BaseException:
            outlet.used += used + unused  # Nobody knows whether it was stored: the safe side.
            raise
        outlet.slots += grant.slots
        if grant.slots:
            outlet.taken_at_us = now_us
        if want:
            outlet.retry_at_us = grant.retry_at_us
            outlet.window = grant.window
            if not grant.slots:
                metrics.provider_throttled.labels(outlet.hop.id, grant.window).inc()


def take_moved(outlet: Outlet) -> list[Lease]:
    """Return the mail that waits for this outlet alone, and leave none."""
    leases = [lease for waiting in outlet.moved for lease in waiting]
    for waiting in outlet.moved:
        waiting.clear()
    return leases
