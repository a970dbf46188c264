"""The worker: takes messages from memory after their commit, or by claim; has them sent; records what came of it."""

import asyncio
import random
from collections.abc import Callable, Sequence
from contextlib import suppress

from mailward import log, metrics
from mailward.db.database import Database
from mailward.delivery import clock, queue
from mailward.delivery.claimed import leases_of
from mailward.delivery.closer import Closer
from mailward.delivery.hold import Hold, HoldLimits
from mailward.delivery.lanes import Backlog, slots
from mailward.delivery.lease import CloseAttempt, Lane, Lease, Mark, Owner, Phase, given_back, reserved
from mailward.delivery.queue import LeaseLost
from mailward.delivery.repair import Repair
from mailward.delivery.report import report_expired
from mailward.delivery.retry import RetryPolicy
from mailward.delivery.senders import Senders
from mailward.delivery.sending import Reports, Route
from mailward.ids import AttemptId, MessageId
from mailward.message.content import Content, held_bytes
from mailward.message.envelope import Envelope
from mailward.provider.routing import Plan
from mailward.transport.base import Gate, ProviderSettings, Transport

# Our own mail wakes us; this is for what others put into the queue: commands, and with PostgreSQL other nodes.
_POLL_S = {"sqlite": 5.0, "postgresql": 0.5}
_BACK_OFF_S = (0.1, 2.0)  # the first, the longest
_EXPIRE_EVERY_US = 60_000_000
_EXPIRE_AT_ONCE = 1_000
_MANY = 1_000  # how much mail a backlog is taken for
_RECORD_S = 5.0  # what a stop allows the store beyond its deadline


class Worker:
    """Belongs to one event loop. `start`, then `stop`. While the store fails it sends nothing and loses nothing."""

    def __init__(
        self,
        database: Database,
        owner: Owner,
        ids: Callable[[], int],
        *,
        plan: Callable[[], Plan],
        transport: Callable[[ProviderSettings, Gate], Transport],
        now_us: Callable[[], int],
        policy: RetryPolicy,
        limits: HoldLimits | None = None,
        jitter: Callable[[], float] = random.random,
        is_sure: Callable[[], bool] = lambda: True,
        doubt: Callable[[], None] = lambda: None,
    ) -> None:
        """`owner`: from `nodes.register`, after `queue.recover`. `jitter`: from 0 up to 1.

        `is_sure`: whether this life cannot be over; nothing is handed over otherwise. `doubt`: called when it is over.
        `plan`: the providers that mail may go through now; none: mail waits. After a change call `relay_changed`.
        `transport`: makes the way out for one value of the settings; it is used until they change.
        """
        self._database = database
        self._owner = owner
        self._ids = ids
        self._plan = plan
        self._now_us = now_us
        self._doubt = doubt
        self._step_back = clock.StepBack(now_us)
        self._poll_s = _POLL_S[database.dialect]
        self._hold = Hold(limits or HoldLimits())
        self._closer = Closer(database, self._closed, self._store_failed)
        route = Route(
            transport=transport, ids=ids, now_us=now_us, jitter=jitter, policy=policy, is_sure=is_sure,
            owner=lambda: self._owner,
        )  # fmt: skip
        reports = Reports(
            store_failed=self._store_failed, freed=self._freed, give_back=self._give_back,
            canceled=self._canceled, lost=self._lose, stir=self._stir, recovered=self._recovered,
        )  # fmt: skip
        self._senders = Senders(database, self._hold, self._closer, route, reports)
        self._feeder: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._quiet = asyncio.Event()
        self._resting = False
        self._claiming = False  # the feeder looks for room by itself
        self._backlog = Backlog()
        self._expired_at_us = 0  # when `queue.expire` last ran
        self._returning: list[Lease] = []  # for the feeder to give back
        self._repair = Repair(database, now_us)
        self._back_off_s = 0.0  # above 0 while the store fails
        self._stopping = False
        #: Set while this life is over, because another node took it for dead and recovered what it held.
        self.lost = asyncio.Event()

    # For the composition root

    def start(self) -> None:
        """Begin to work, with what lies in the queue."""
        self._feeder = asyncio.get_running_loop().create_task(self._feed(), name="mailward-feeder")

    async def live_again(self, owner: Owner) -> None:
        """Begin another life as `owner`. What is still on the wire belongs to the former one, and is void."""
        self._lose_all()
        if self._feeder is not None:
            await self._feeder
        while self._returning:
            self._forget(self._returning.pop())
        self._owner = owner
        self._senders.outlets.begin_anew()
        self._back_off_s = 0.0
        self.lost.clear()
        if not self._stopping:
            self._senders.resume()
            self.start()
            self.wake()

    def wake(self) -> None:
        """Look at the queue now: something was put into it, or time has passed."""
        self._backlog.add_all()
        self._stir()

    def relay_changed(self) -> None:
        """A provider was changed, activated or deactivated."""
        self._senders.follow(self._plan())
        self._repair.begin()
        self.wake()

    def waits_for(self) -> str:
        """Return what keeps mail from leaving through the providers, "" when nothing does."""
        return self._senders.outlets.reason()

    async def settled(self) -> None:
        """Return once nothing is held and nothing is due that could be sent."""
        while not self._is_quiet():
            self._quiet.clear()
            await self._quiet.wait()

    async def stop(self, deadline_s: float) -> None:
        """Start nothing new, let what is on the wire finish until the deadline, give the rest back, record everything.

        What is cut after its final dot stays open, and the next life finds it uncertain.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + deadline_s
        self._stopping = True
        self._senders.pause()
        self._stir()
        if self._feeder is not None:
            await self._feeder
        with suppress(TimeoutError):
            async with asyncio.timeout_at(deadline):
                while any(lease.phase is Phase.RESERVED for lease in self._hold.leases):
                    self._quiet.clear()
                    await self._quiet.wait()
        await self._senders.stop(max(0.0, deadline - loop.time()))
        try:
            async with asyncio.timeout(_RECORD_S):
                await self._return([*self._hold.untouched(), *self._returning])
                await self._closer.flush()
                await self._senders.outlets.hand_back()
        except Exception as error:  # The next life recovers what it finds.
            log.write("error", "worker.stopped", error=repr(error), unrecorded=len(self._hold.leases))

    # For Submissions

    def reserve(
        self,
        message_id: MessageId,
        lane: Lane,
        envelope: Envelope,
        content: Content,
        created_at_us: int,
        expires_at_us: int,
        uncertain_retries: int | None,
    ) -> Lease | None:
        """Return a lease on a message that is about to be committed, or None when it must wait in the queue.

        Answer with `take` once it is committed as leased, with `drop` otherwise. When it will be on the wire at once,
        the same commit opens its attempt: a commit less for a lone message, and after a crash those few are in doubt.
        """
        self._closer.ride()
        outlet = self._senders.outlets.current
        if self._stopping or self._back_off_s or outlet is None or self.lost.is_set():
            return None
        is_held_up = not outlet.is_plain and self._senders.outlets.may_take(self._now_us()) == 0
        if is_held_up or not self._hold.has_room(held_bytes(len(content)), lane, backlog=lane in self._backlog.lanes):
            return None
        times = (created_at_us, expires_at_us, uncertain_retries)
        lease = reserved(message_id, self._owner, lane, envelope, content, *times)
        if outlet.flowing and len(self._hold.leases) < slots(lane, outlet.total):
            lease.mark = Mark(AttemptId(self._ids()), outlet.hop.id)
        self._hold.add(lease)
        return lease

    def take(self, lease: Lease) -> None:
        """Send a message whose lease is committed."""
        lease.phase = Phase.READY
        lease.opened = lease.mark is not None
        self._hold.ready[lease.lane].append(lease)
        if self._stopping:
            self._quiet.set()
        else:
            self._senders.dispatch()

    def drop(self, lane: Lane, lease: Lease | None, error: Exception | None) -> None:
        """A message was queued without a lease; or, with `error`, it was not stored, as far as anybody knows."""
        if lease is not None:
            self._forget(lease)
        if error is not None:
            self._store_failed(error)
        elif lane not in self._backlog.lanes:
            self._backlog.lanes.add(lane)
            self._freed()

    def forget(self, lease: Lease | None) -> None:
        """Nothing was stored: the message was there already."""
        if lease is not None:
            self._forget(lease)
            self._freed()

    # The feeder: everything that is not about one message

    async def _feed(self) -> None:
        while not self._stopping and not self.lost.is_set():
            self._wake.clear()
            self._resting = False
            try:
                await self._tend()
            except LeaseLost:
                self._lose_all()
            except Exception as error:
                self._store_failed(error)
                self._back_off_s = min(self._back_off_s * 2, _BACK_OFF_S[1])
            self._resting = True
            self._check_quiet()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._rest_s()):
                    await self._wake.wait()

    def _rest_s(self) -> float:
        if self._stopping:
            return 0.0
        if self._back_off_s:
            # Everybody who meets the failing store stirs the feeder; that must not become a loop without pause.
            self._wake.clear()
            return self._back_off_s
        now_us, moments = self._now_us(), [self._backlog.next_due_at_us or 0, *self._senders.outlets.due_at_us()]
        return min([self._poll_s, *((at_us - now_us) / 1e6 for at_us in moments if at_us > now_us)])

    async def _tend(self) -> None:
        if self._back_off_s:
            await self._reconcile()
        if self._step_back.seen():
            await self._database.write(clock.mend, self._now_us())
            self._backlog.add_all()
            self._senders.outlets.look_anew()
            self._step_back.mended()
        if self._returning:
            returning, self._returning = self._returning, []
            await self._return(returning)
        if self._repair.is_under_way:
            self._closer.ride()
            if await self._repair.step():
                self._backlog.add_all()
            self._stir()
        outlets = self._senders.outlets
        self._senders.follow(self._plan())
        waiting = sum(map(len, self._hold.ready)) + (_MANY if self._backlog.lanes else 0)
        await self._senders.settle(waiting)
        if outlets.waits_long(self._now_us()):
            await self._return(self._senders.take_ready())
            await self._expire()
            return
        if not self._backlog.lanes & self._hold.rooms().keys():
            due = await self._database.read(queue.next_due)
            self._backlog.learn(set(Lane) - self._backlog.lanes, due, self._now_us())
        self._claiming = True
        while not self._stopping and outlets.current is not None:
            rooms = outlets.fitting(self._hold.rooms(), sum(map(len, self._hold.ready)))
            if not self._backlog.lanes & rooms.keys():
                break  # When there is room again, `_freed` calls.
            await self._claim(rooms)
        self._claiming = False
        self._senders.dispatch()

    async def _claim(self, rooms: dict[Lane, tuple[int, int]]) -> None:
        asked = self._backlog.lanes & rooms.keys()
        self._backlog.lanes.difference_update(asked)  # Whoever queues something from now on adds its lane again.
        request = queue.ClaimRequest(
            owner=self._owner,
            now_us=self._now_us(),
            messages=max(messages for messages, _ in rooms.values()),
            content_bytes=max(content_bytes for _, content_bytes in rooms.values()),
            rooms=rooms,
        )
        try:
            claim = await self._database.write(queue.claim, request)
        except BaseException:
            self._backlog.lanes.update(asked)
            raise
        report_expired(claim.expired)
        self._hold.add_ready(await leases_of(claim, self._database))
        self._backlog.learn(set(Lane) - claim.more - self._backlog.lanes, claim.next_due_at_us, self._now_us())
        self._backlog.lanes.update(claim.more)
        self._senders.dispatch()

    async def _expire(self) -> None:
        if abs((now_us := self._now_us()) - self._expired_at_us) >= _EXPIRE_EVERY_US:
            self._expired_at_us = now_us
            report_expired(await self._database.write(queue.expire, now_us, _EXPIRE_AT_ONCE))

    async def _return(self, leases: Sequence[Lease]) -> None:
        """Give back leases that were not tried. If that fails, `_reconcile` finds them in the store."""
        now_us = self._now_us()
        items = [given_back(lease, now_us) for lease in leases]
        if not items:
            return
        for lease in leases:
            self._forget(lease)
        await self._database.write(queue.give_back, items)
        self._backlog.lanes.update(lease.lane for lease in leases)

    async def _reconcile(self) -> None:
        """See whether the store works again, and give back what a failed commit may have leased to us all the same."""
        # While the store fails `reserve` leases nothing, and a claim is for this task to make.
        lost = await self._database.write(queue.reconcile, self._owner, self._hold.keys(), self._now_us())
        log.write("warning", "store.works", given_back=lost)
        self._back_off_s = 0.0
        self._backlog.add_all()
        self._closer.retry()
        if not (self._back_off_s or self._stopping):
            self._senders.resume()

    # What senders, closer and store report

    def _store_failed(self, error: Exception) -> None:
        if not self._back_off_s:
            log.write("error", "store.failed", error=str(error))
            self._back_off_s = _BACK_OFF_S[0]
            self._senders.pause()
            self._stir()

    def _closed(self, lease: Lease, close: CloseAttempt, recorded: bool) -> None:
        self._forget(lease)
        if not recorded:
            metrics.leases_lost.inc()
            log.write("error", "lease.lost", message_id=lease.message_id)
            return
        for _, _, at_us, _ in close.ended:
            if at_us is not None and self._backlog.expect(lease.lane, at_us):
                self._stir()

    def _freed(self) -> None:
        if self._backlog.lanes and not self._claiming and self._backlog.lanes & self._hold.rooms().keys():
            self._stir()

    def _give_back(self, lease: Lease) -> None:
        self._returning.append(lease)
        self._stir()

    def _canceled(self, lease: Lease) -> None:
        """An operator is at work: what waits in memory may be canceled too, and a claim brings only what is not."""
        self._returning += [lease, *self._senders.take_ready()]
        self._stir()

    def _recovered(self) -> None:
        self._repair.begin()
        self._stir()

    def _lose(self, lease: Lease) -> None:
        """A write of the life that holds `lease` was refused."""
        if lease.owner == self._owner:
            self._lose_all()

    def _lose_all(self) -> None:
        """Another node took over: what is not on the wire is no longer ours."""
        if not self.lost.is_set():
            log.node_lost(self._owner.node, self._owner.epoch)
            self.lost.set()
            self._doubt()
            self._senders.pause()
            for lease in self._senders.take_ready():
                self._forget(lease)
            self._stir()

    def _forget(self, lease: Lease) -> None:
        self._hold.remove(lease)
        self._check_quiet()

    def _stir(self) -> None:
        self._resting = False
        self._wake.set()

    def _is_quiet(self) -> bool:
        held = self._hold.leases or self._returning or self._repair.is_under_way
        idle = self._resting and not held and not self._back_off_s
        return self.lost.is_set() or (idle and not (self._backlog.lanes and self._senders.outlets.could_send()))

    def _check_quiet(self) -> None:
        if self._stopping or (not self._hold.leases and self._is_quiet()):
            self._quiet.set()
