"""The senders: what lies ready in the hold goes out, to each provider in as many conversations as it may have."""

import asyncio
from collections.abc import Coroutine, Sequence, Sized
from typing import Any

from mailward import log
from mailward.db.database import Database
from mailward.delivery import lanes
from mailward.delivery.closer import Closer
from mailward.delivery.hold import Hold
from mailward.delivery.lease import Lease
from mailward.delivery.outlet import Outlet, Standing
from mailward.delivery.outlets import Outlets, take_moved
from mailward.delivery.sending import Reports, Route, Sending, fault
from mailward.provider.routing import Hop, Plan
from mailward.transport.base import Gate, Transport
from mailward.transport.outcome import Outcome


class Senders:
    """Sends what lies ready in the hold. Belongs to one event loop."""

    def __init__(self, database: Database, hold: Hold, closer: Closer, route: Route, reports: Reports) -> None:
        self.database = database
        self.hold = hold
        self.closer = closer
        self.route = route
        self.reports = reports
        self._under_way: set[Sending] = set()
        self._tasks: set[asyncio.Task[None]] = set()  # probes, and transports being closed
        self._paused = False
        self._done: asyncio.Future[None] | None = None  # for the last that is under way
        self.outlets = Outlets(
            database,
            route.owner,
            self._make_transport,
            route.now_us,
            stir=reports.stir,
            recovered=reports.recovered,
            drop=self._drop,
            begin_probe=self._begin_probe,
        )

    def dispatch(self) -> None:
        """Begin to send what is ready, as far as there is room."""
        if self._paused:
            return
        outlets = self.outlets
        if outlets.current is not None and any(self.hold.ready):
            self._fill(outlets.current)
        if len(outlets.all) > 1:
            for outlet in outlets.all:
                if any(outlet.moved):
                    self._fill(outlet)

    def _fill(self, outlet: Outlet) -> None:
        if outlet.filling:  # What has ended at once makes room for the loop that began it.
            return
        outlet.filling = True
        try:
            while (lease := self._next(outlet)) is not None:
                if outlet.dropped or lease.expires_at_us <= self.route.now_us():
                    self.reports.give_back(lease)  # The next claim expires it.
                    outlet.done(tried=False)
                else:
                    outlet.busy[lease.lane] += 1
                    sending = Sending(self, outlet, lease)
                    self._under_way.add(sending)
                    sending.begin()
        finally:
            outlet.filling = False

    def pause(self) -> None:
        """Send nothing more once what is under way has ended."""
        self._paused = True

    def resume(self) -> None:
        self._paused = False
        self.dispatch()

    def follow(self, plan: Plan) -> None:
        """Send through the providers of `plan` from now on."""
        self.outlets.follow(plan)
        self._reroute()

    async def settle(self, wanting: int) -> None:
        """Bring what is known of the providers up to date; `wanting`: how much mail waits. Raises as the store does."""
        await self.outlets.settle(wanting)
        self._reroute()

    def take_ready(self) -> list[Lease]:
        """Return all that wait for a sender, and leave none."""
        return self.hold.take_ready() + [lease for outlet in self.outlets.all for lease in take_moved(outlet)]

    async def stop(self, deadline_s: float) -> None:
        """Pause, and cut what is still under way after `deadline_s`."""
        self.pause()
        ends: set[asyncio.Future[None]] = {*self._tasks}
        if self._under_way:
            self._done = asyncio.get_running_loop().create_future()
            ends.add(self._done)
        if ends:
            await asyncio.wait(ends, timeout=deadline_s)
        for outlet in {*self.outlets.all, *(sending.outlet for sending in self._under_way)}:
            outlet.transport.abort()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for outlet in self.outlets.all:
            await outlet.transport.aclose()

    def _own(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.write("error", "worker.fault", error=repr(error))

    # Outlets

    def _make_transport(self, hop: Hop, gate: Gate) -> Transport:
        return self.route.transport(hop.settings, gate)

    def _drop(self, outlet: Outlet) -> None:
        """Let go of a provider that mail no longer goes through, or not with these settings."""
        outlet.dropped = True
        for lease in take_moved(outlet):
            self.reports.give_back(lease)
        self._own(outlet.transport.aclose())

    def _begin_probe(self, outlet: Outlet) -> None:
        self._own(self._probe(outlet))

    async def _probe(self, outlet: Outlet) -> None:
        outcome: Outcome | None = fault(handed_over=False)
        try:
            outcome = await outlet.transport.probe()
        finally:
            outlet.probed(outcome)

    def _reroute(self) -> None:
        """Find another way for mail whose provider left rotation after it was meant to take over."""
        if len(self.outlets.all) < 2:
            return
        now_us = self.route.now_us()
        for outlet in self.outlets.all:
            if any(outlet.moved) and outlet.standing(now_us) is Standing.OUT:
                for lease in take_moved(outlet):
                    self.move(lease, self.outlets.after(lease.tried))

    def move(self, lease: Lease, outlet: Outlet | None) -> None:
        """See Dispatcher."""
        if outlet is None:
            self.reports.give_back(lease)
        else:
            outlet.moved[lease.lane].append(lease)

    # Attempts

    def look_again(self) -> None:
        """See Dispatcher."""
        self.outlets.refresh()
        self._reroute()
        self.dispatch()

    def follower(self, sending: Sending) -> Sending | None:
        """See Dispatcher. Its lane must have room once `sending` has ended."""
        outlet = sending.outlet
        if not outlet.is_plain:
            return None
        outlet.busy[sending.lease.lane] -= 1
        lease = self._next(outlet)
        outlet.busy[sending.lease.lane] += 1
        if lease is None:
            return None
        if lease.expires_at_us <= self.route.now_us():
            self.reports.give_back(lease)
            return None
        following = Sending(self, outlet, lease)
        following.has_place = False
        self._under_way.add(following)
        following.prepare()
        return following

    def finished(self, sending: Sending, *, tried: bool) -> None:
        """See Dispatcher."""
        outlet, follower = sending.outlet, sending.follower
        self._under_way.discard(sending)
        if sending.has_place:
            outlet.busy[sending.lease.lane] -= 1
            outlet.done(tried=tried)
        if follower is not None and not follower.is_over:
            outlet.busy[follower.lease.lane] += 1
            follower.take_place()
        if self._done is not None and not self._under_way and not self._done.done():
            self._done.set_result(None)
        self._fill(outlet)

    def _ready(self, outlet: Outlet) -> Sequence[Sized | int]:
        """Return what mail there is for `outlet`, or how much, by lane."""
        if len(self.outlets.all) < 2:
            return self.hold.ready
        own = list(map(len, outlet.moved))
        if outlet is not self.outlets.current:
            return own
        return [mine + shared for mine, shared in zip(own, map(len, self.hold.ready), strict=True)]

    def _next(self, outlet: Outlet) -> Lease | None:
        if self._paused or outlet.dropped:
            return None
        ready = self._ready(outlet)
        if not any(ready):
            return None
        lane = lanes.next_lane(ready, outlet.busy, outlet.total)
        if lane is None or not (outlet.is_plain or self._take(outlet)):
            return None
        return (outlet.moved[lane] or self.hold.ready[lane]).popleft()

    def _take(self, outlet: Outlet) -> bool:
        taken = outlet.take(self.route.now_us())
        if outlet.on_trial:
            self.outlets.refresh()  # Until that one is back, it is as good as out.
        return taken
