"""The senders: one task for each connection that may be open, each sending one lease after the other."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from mailward import log, metrics
from mailward.db.database import Database
from mailward.delivery import lanes, queue
from mailward.delivery.attempt import conclude
from mailward.delivery.closer import Closer
from mailward.delivery.hold import Hold
from mailward.delivery.lease import Lease, Mark, OpenAttempt, Owner, Phase, onward
from mailward.delivery.outlet import Outlet, Standing
from mailward.delivery.outlets import Outlets, take_moved
from mailward.delivery.queue import LeaseLost
from mailward.delivery.report import report
from mailward.delivery.retry import RetryPolicy
from mailward.ids import AttemptId
from mailward.provider.routing import Hop, Plan
from mailward.smtp.reply import Reply
from mailward.transport.base import Gate, NotNow, ProviderSettings, Transport
from mailward.transport.outcome import Deferred, Fault, Outcome, Stage, Uncertain


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """What the worker is given to send with; see Worker."""

    transport: Callable[[ProviderSettings, Gate], Transport]
    ids: Callable[[], int]
    now_us: Callable[[], int]
    jitter: Callable[[], float]
    policy: RetryPolicy
    owner: Callable[[], Owner]
    is_sure: Callable[[], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reports:
    """What the senders tell the worker."""

    store_failed: Callable[[Exception], None]
    freed: Callable[[], None]  #: a lease let its content go
    give_back: Callable[[Lease], None]  #: the provider went away before it was tried
    canceled: Callable[[Lease], None]  #: an operator canceled a recipient of it before it was handed over
    lost: Callable[[Lease], None]  #: another node took over
    stir: Callable[[], None]  #: there is something to settle with the other nodes


class Senders:
    """Sends what lies ready in the hold, each provider's share by senders of its own."""

    def __init__(self, database: Database, hold: Hold, closer: Closer, route: Route, reports: Reports) -> None:
        self._database = database
        self._hold = hold
        self._closer = closer
        self._route = route
        self._reports = reports
        self._tasks: set[asyncio.Task[None]] = set()  # senders, probes, and transports being closed
        self._paused = False
        self._stopping = False
        self.outlets = Outlets(
            database,
            route.owner,
            self._make_transport,
            route.now_us,
            stir=reports.stir,
            drop=self._drop,
            begin_probe=self._begin_probe,
        )

    def dispatch(self) -> None:
        """See that what is ready finds senders."""
        if self._paused:
            return
        outlets = self.outlets
        if outlets.current is not None and any(self._hold.ready):
            self._wake(outlets.current)
        if len(outlets.all) > 1:
            for outlet in outlets.all:
                if any(outlet.moved):
                    self._wake(outlet)

    def _wake(self, outlet: Outlet) -> None:
        total = outlet.total
        missing = lanes.startable(self._ready(outlet), outlet.busy, total) - outlet.coming
        while missing > 0 and outlet.idle:
            outlet.idle.pop().set_result(None)  # The last one in has the freshest connection.
            outlet.coming += 1
            missing -= 1
        if missing > 0:
            for _ in range(min(missing, total - outlet.count)):
                outlet.count += 1
                outlet.coming += 1
                self._own(self._work(outlet))

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
        return self._hold.take_ready() + [lease for outlet in self.outlets.all for lease in take_moved(outlet)]

    async def stop(self, deadline_s: float) -> None:
        """Pause, and cut what is still under way after `deadline_s`."""
        self.pause()
        self._stopping = True
        for outlet in self.outlets.all:
            while outlet.idle:
                outlet.idle.pop().cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=deadline_s)
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
        return self._route.transport(hop.settings, gate)

    def _drop(self, outlet: Outlet) -> None:
        """Let go of a provider that mail no longer goes through, or not with these settings."""
        outlet.dropped = True
        while outlet.idle:
            outlet.idle.pop().cancel()
        for lease in take_moved(outlet):
            self._reports.give_back(lease)
        self._own(outlet.transport.aclose())

    def _begin_probe(self, outlet: Outlet) -> None:
        self._own(self._probe(outlet))

    async def _probe(self, outlet: Outlet) -> None:
        outcome: Outcome | None = _fault(handed_over=False)
        try:
            outcome = await outlet.transport.probe()
        finally:
            outlet.probed(outcome)

    def _reroute(self) -> None:
        """Find another way for mail whose provider left rotation after it was meant to take over."""
        if len(self.outlets.all) < 2:
            return
        now_us = self._route.now_us()
        for outlet in self.outlets.all:
            if any(outlet.moved) and outlet.standing(now_us) is Standing.OUT:
                for lease in take_moved(outlet):
                    self._move(lease, self.outlets.after(lease.tried))

    def _move(self, lease: Lease, outlet: Outlet | None) -> None:
        if outlet is None:
            self._reports.give_back(lease)
        else:
            outlet.moved[lease.lane].append(lease)

    # One sender

    async def _work(self, outlet: Outlet) -> None:
        try:
            while True:
                outlet.coming -= 1
                while (lease := self._next(outlet)) is not None:
                    outlet.busy[lease.lane] += 1
                    try:
                        await self._send(outlet, lease)
                    finally:
                        outlet.busy[lease.lane] -= 1
                if self._stopping or outlet.dropped or outlet.count > outlet.total:
                    return
                idle = asyncio.get_running_loop().create_future()
                outlet.idle.append(idle)
                await idle
        finally:
            outlet.count -= 1

    def _ready(self, outlet: Outlet) -> list[int]:
        """Return how much mail there is for `outlet`, by lane."""
        if len(self.outlets.all) < 2:
            return list(map(len, self._hold.ready))
        own = list(map(len, outlet.moved))
        if outlet is not self.outlets.current:
            return own
        return [mine + shared for mine, shared in zip(own, map(len, self._hold.ready), strict=True)]

    def _next(self, outlet: Outlet) -> Lease | None:
        if self._paused or outlet.dropped:
            return None
        ready = self._ready(outlet)
        if not any(ready):
            return None
        lane = lanes.next_lane(ready, outlet.busy, outlet.total)
        if lane is None or not (outlet.is_plain or self._take(outlet)):
            return None
        return (outlet.moved[lane] or self._hold.ready[lane]).popleft()

    def _take(self, outlet: Outlet) -> bool:
        taken = outlet.take(self._route.now_us())
        if outlet.on_trial:
            self.outlets.refresh()  # Until that one is back, it is as good as out.
        return taken

    async def _send(self, outlet: Outlet, lease: Lease) -> None:
        tried = False
        try:
            if outlet.dropped or lease.expires_at_us <= self._route.now_us():
                self._reports.give_back(lease)  # The next claim expires it.
            else:
                tried = await self._try(outlet, lease)
        finally:
            outlet.done(tried=tried)

    async def _try(self, outlet: Outlet, lease: Lease) -> bool:
        """Try once; return whether the provider can have seen anything of it."""
        lease.phase = Phase.SENDING
        mark = Mark(lease.mark.attempt_id if lease.mark else AttemptId(self._route.ids()), outlet.hop.id)
        lease.mark = mark
        opening = None if lease.opened else self._open(lease, mark)
        if outlet is not self.outlets.all[0] and not lease.route:
            lease.route = self.outlets.why_not_first()

        async def before_handover() -> None:
            # Cancelled here, nothing is handed over, and the mark may be cancelled with us: no shield is needed.
            if opening is not None and not await opening:
                raise LeaseLost(f"message {lease.message_id}")
            if not self._route.is_sure():
                raise LeaseLost(f"message {lease.message_id}: other nodes may take this one for dead")
            lease.phase = Phase.HANDED_OVER

        started_us = self._route.now_us()
        try:
            outcomes = await outlet.transport.send(lease.envelope, lease.content, before_handover)
        except NotNow:
            if opening is None or await self._is_open(outlet, lease, opening):
                self._keep(outlet, lease)
            return False
        except Exception as error:  # A fault of ours must not keep the lease for ever.
            log.write("error", "transport.fault", message_id=lease.message_id, error=repr(error))
            outcomes = [_fault(handed_over=lease.phase is Phase.HANDED_OVER)] * len(lease.due)
        outlet.note(outcomes, started_us)
        if opening is None or await self._is_open(outlet, lease, opening):
            self._close(outlet, lease, mark, outcomes, started_us)
        return True

    def _open(self, lease: Lease, mark: Mark) -> asyncio.Future[bool | None]:
        """Begin to store the mark, so that it is durable by the time DATA has been answered."""
        self._closer.ride()
        ns = tuple([due.n for due in lease.due])
        try:
            future = self._database.batch(
                queue.open_attempts, OpenAttempt(lease.message_id, mark, lease.owner, ns, self._route.now_us())
            )
        except Exception as error:  # Too many wait, or it is closed.
            future = asyncio.get_running_loop().create_future()
            future.set_exception(error)
        future.add_done_callback(_look)
        return future

    async def _is_open(self, outlet: Outlet, lease: Lease, opening: asyncio.Future[bool | None]) -> bool:
        """Tell whether the attempt counts. When not, nothing was handed over: keep the lease for later, or lose it."""
        try:
            opened = await opening
        except Exception as error:
            self._keep(outlet, lease)
            self._reports.store_failed(error)
            return False
        lease.opened = bool(opened)
        if opened is None:
            self._reports.canceled(lease)
        elif not opened:
            metrics.leases_lost.inc()
            self._hold.remove(lease)
            self._reports.lost(lease)
        return lease.opened

    def _keep(self, outlet: Outlet, lease: Lease) -> None:
        """Put back a lease of which nothing was tried."""
        lease.phase = Phase.READY
        if not lease.tried:
            self._hold.ready[lease.lane].appendleft(lease)
        elif outlet.dropped:
            self._reports.give_back(lease)
        else:
            outlet.moved[lease.lane].appendleft(lease)
        self._reports.stir()

    def _close(self, outlet: Outlet, lease: Lease, mark: Mark, outcomes: Sequence[Outcome], started_us: int) -> None:
        now_us = self._route.now_us()
        to, rest = self._failover(outlet, lease, outcomes)
        moved = () if rest is None else rest.due
        close = conclude(
            lease,
            mark,
            outcomes,
            self._route.policy,
            now_us,
            self._route.jitter,
            uncertain_retries=outlet.hop.uncertain_retries,
            moved=moved,
        )
        self._hold.let_go(lease)
        if rest is not None:
            self._hold.add(rest)
            self._move(rest, to)
        self._closer.add(lease, close)
        self._reports.freed()
        outlet.flowing = report(lease, outcomes, close, started_us)
        if rest is not None or not outlet.is_plain:
            self.outlets.refresh()
            self._reroute()
            self.dispatch()

    def _failover(
        self, outlet: Outlet, lease: Lease, outcomes: Sequence[Outcome]
    ) -> tuple[Outlet | None, Lease | None]:
        """Return who takes over, and a lease on the recipients that this provider could not take by its own fault.

        Never anything that it may have taken: that would be an Uncertain, which only the policy for doubts tries again.
        """
        if len(self.outlets.all) < 2:
            return None, None
        failed = [
            (n, outcome)
            for n, outcome in enumerate(outcomes)
            if isinstance(outcome, Deferred) and outcome.fault is Fault.PROVIDER
        ]
        if not failed:
            return None, None
        tried = (*lease.tried, outlet.hop.id)
        to = self.outlets.after(tried)
        if to is None:
            return None, None
        why = f"failover: provider {outlet.hop.id} could not: {failed[0][1].reply}"
        return to, onward(lease, [n for n, _ in failed], tried=tried, route=why)


def _fault(*, handed_over: bool) -> Outcome:
    reply = Reply(451, "4.3.0", "internal fault")
    if handed_over:
        return Uncertain(reply)
    return Deferred(Stage.CONNECT, Fault.MESSAGE, reply)


def _look(future: "asyncio.Future[bool | None]") -> None:
    """Take note of an exception that nobody may be left to await."""
    if not future.cancelled():
        future.exception()
