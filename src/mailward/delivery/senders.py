"""The senders: one task for each connection that may be open, each sending one lease after the other."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from mailward import log, metrics
from mailward.db.database import Database
from mailward.delivery import lanes, queue
from mailward.delivery.attempt import conclude, stage_and_fault
from mailward.delivery.closer import Closer
from mailward.delivery.hold import Hold
from mailward.delivery.lease import LANE_NAMES, CloseAttempt, Lane, Lease, Mark, OpenAttempt, Phase
from mailward.delivery.queue import LeaseLost
from mailward.delivery.retry import RetryPolicy
from mailward.delivery.status import Status, is_final, status_after
from mailward.ids import AttemptId
from mailward.smtp.reply import Reply
from mailward.transport.base import ProviderSettings, Transport
from mailward.transport.outcome import Accepted, Deferred, Fault, Outcome, Stage, Uncertain


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """What the worker is given to send with; see Worker."""

    relay: Callable[[], ProviderSettings | None]
    transport: Callable[[ProviderSettings], Transport]
    ids: Callable[[], int]
    now_us: Callable[[], int]
    jitter: Callable[[], float]
    policy: RetryPolicy
    is_sure: Callable[[], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reports:
    """What the senders tell the worker."""

    store_failed: Callable[[Exception], None]
    freed: Callable[[], None]  #: a lease let its content go
    give_back: Callable[[Lease], None]  #: the provider went away before it was tried
    lost: Callable[[Lease], None]  #: another node took over


class Senders:
    """Sends what lies ready in the hold, up to `max_connections` of the relay at a time."""

    def __init__(self, database: Database, hold: Hold, closer: Closer, route: Route, reports: Reports) -> None:
        self._database = database
        self._hold = hold
        self._closer = closer
        self._route = route
        self._reports = reports
        self._tasks: set[asyncio.Task[None]] = set()  # senders, and transports being closed
        self._count = 0
        self._busy = [0 for _ in Lane]  # senders in a conversation, by lane
        self._idle: list[asyncio.Future[None]] = []
        self._coming = 0  # senders on their way to look at what is ready
        self._transport: tuple[ProviderSettings, Transport] | None = None
        self._paused = False
        self._stopping = False
        #: The last conversation got through to the provider, so what is accepted now leaves at once.
        self.flowing = False

    def dispatch(self) -> None:
        """See that what is ready finds senders."""
        if self._paused or not any(self._hold.ready):
            return
        relay = self._route.relay()
        ready = list(map(len, self._hold.ready))
        startable = sum(ready) if relay is None else lanes.startable(ready, self._busy, relay.max_connections)
        missing = startable - self._coming
        while missing > 0 and self._idle:
            self._idle.pop().set_result(None)  # The last one in has the freshest connection.
            self._coming += 1
            missing -= 1
        if missing > 0 and relay is not None:
            for _ in range(min(missing, relay.max_connections - self._count)):
                self._count += 1
                self._coming += 1
                self._own(self._work())

    def pause(self) -> None:
        """Send nothing more once what is under way has ended."""
        self._paused = True

    def resume(self) -> None:
        self._paused = False
        self.dispatch()

    def follow(self, relay: ProviderSettings | None) -> None:
        """Let go of the way to a provider that is no longer `relay`."""
        if self._transport is not None and self._transport[0] != relay:
            self._own(self._transport[1].aclose())
            self._transport = None
            self.flowing = False

    async def stop(self, deadline_s: float) -> None:
        """Pause, and cut what is still under way after `deadline_s`."""
        self.pause()
        self._stopping = True
        while self._idle:
            self._idle.pop().cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=deadline_s)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._transport is not None:
            await self._transport[1].aclose()
            self._transport = None

    def _own(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.write("error", "worker.fault", error=repr(error))

    async def _work(self) -> None:
        try:
            while True:
                self._coming -= 1
                while (lease := self._next()) is not None:
                    self._busy[lease.lane] += 1
                    try:
                        await self._send(lease)
                    finally:
                        self._busy[lease.lane] -= 1
                relay = self._route.relay()
                if self._stopping or relay is None or self._count > relay.max_connections:
                    return
                idle = asyncio.get_running_loop().create_future()
                self._idle.append(idle)
                await idle
        finally:
            self._count -= 1

    def _next(self) -> Lease | None:
        if self._paused or not any(self._hold.ready):
            return None
        relay = self._route.relay()
        total = sum(self._busy) + 1 if relay is None else relay.max_connections  # Without one, they are given back.
        lane = lanes.next_lane(list(map(len, self._hold.ready)), self._busy, total)
        return None if lane is None else self._hold.ready[lane].popleft()

    async def _send(self, lease: Lease) -> None:
        relay = self._route.relay()
        if relay is None or lease.expires_at_us <= self._route.now_us():
            self._reports.give_back(lease)  # The next claim expires it.
            return
        lease.phase = Phase.SENDING
        mark = Mark(lease.mark.attempt_id if lease.mark else AttemptId(self._route.ids()), relay.provider_id)
        lease.mark = mark
        opening = None if lease.opened else self._open(lease, mark)

        async def before_handover() -> None:
            # Cancelled here, nothing is handed over, and the mark may be cancelled with us: no shield is needed.
            if opening is not None and not await opening:
                raise LeaseLost(f"message {lease.message_id}")
            if not self._route.is_sure():
                raise LeaseLost(f"message {lease.message_id}: other nodes may take this one for dead")
            lease.phase = Phase.HANDED_OVER

        started_us = self._route.now_us()
        try:
            outcomes = await self._transport_to(relay).send(lease.envelope, lease.content, before_handover)
        except Exception as error:  # A fault of ours must not keep the lease for ever.
            log.write("error", "transport.fault", message_id=lease.message_id, error=repr(error))
            outcomes = [_fault(lease)] * len(lease.due)
        if opening is None or await self._is_open(lease, opening):
            self._close(lease, mark, outcomes, started_us)

    def _transport_to(self, relay: ProviderSettings) -> Transport:
        # The same settings are most often the same object; comparing them field by field costs as much as a log line.
        if self._transport is None or (self._transport[0] is not relay and self._transport[0] != relay):
            self.follow(relay)
            self._transport = (relay, self._route.transport(relay))
        return self._transport[1]

    def _open(self, lease: Lease, mark: Mark) -> asyncio.Future[bool]:
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

    async def _is_open(self, lease: Lease, opening: asyncio.Future[bool]) -> bool:
        """Tell whether the attempt counts. When not, nothing was handed over: keep the lease for later, or lose it."""
        try:
            lease.opened = await opening
        except Exception as error:
            lease.phase = Phase.READY
            self._hold.ready[lease.lane].appendleft(lease)
            self._reports.store_failed(error)
            return False
        if not lease.opened:
            metrics.leases_lost.inc()
            self._hold.remove(lease)
            self._reports.lost(lease)
        return lease.opened

    def _close(self, lease: Lease, mark: Mark, outcomes: Sequence[Outcome], started_us: int) -> None:
        now_us = self._route.now_us()
        close = conclude(lease, mark, outcomes, self._route.policy, now_us, self._route.jitter)
        self._hold.let_go(lease)
        self._closer.add(lease, close)
        self._reports.freed()
        self.flowing = _report(lease, outcomes, close, started_us)


def _fault(lease: Lease) -> Outcome:
    reply = Reply(451, "4.3.0", "internal fault")
    if lease.phase is Phase.HANDED_OVER:
        return Uncertain(reply)
    return Deferred(Stage.CONNECT, Fault.MESSAGE, reply)


def _look(future: "asyncio.Future[bool]") -> None:
    """Take note of an exception that nobody may be left to await."""
    if not future.cancelled():
        future.exception()


def _report(lease: Lease, outcomes: Sequence[Outcome], close: CloseAttempt, started_us: int) -> bool:
    """Log and count an attempt; return whether the provider did its part."""
    provider_id = close.mark.provider_id
    lane = LANE_NAMES[lease.lane]
    age_s = (close.at_us - lease.created_at_us) / 1e6
    well = True
    rows = zip(lease.envelope.recipients, lease.due, outcomes, close.ended, strict=True)
    for address, due, outcome, ended in rows:
        stage, fault = stage_and_fault(outcome)
        log.recipient_attempted(
            lease.message_id,
            address,
            provider_id=provider_id,
            state=ended.state,
            outcome=status_after(outcome).value,
            stage=stage.value,
            code=outcome.reply.code,
            enhanced=outcome.reply.enhanced,
            attempt=due.attempts + 1,
            lane=lane,
            final=is_final(Status(ended.state)),
            age_s=age_s,
        )
        if fault == Fault.PROVIDER.value and well:
            well = False
            reply = outcome.reply
            log.provider_failed(provider_id, stage=stage.value, code=f"{reply.code} {reply.enhanced}", text=reply.text)
        elif isinstance(outcome, Uncertain):
            well = False
    metrics.attempt_duration_seconds.labels(provider_id).observe((close.at_us - started_us) / 1e6)
    if well:
        metrics.provider_up.labels(provider_id).set(1)
    if any(isinstance(outcome, Accepted) for outcome in outcomes):
        metrics.provider_last_success.labels(provider_id).set(close.at_us / 1e6)
    return well
