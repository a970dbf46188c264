"""One attempt: a lease is marked open, given to a transport, judged and recorded. Callbacks drive it, no task."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from mailward import log, metrics
from mailward.db.database import Database
from mailward.db.writer import Failed
from mailward.delivery import queue
from mailward.delivery.attempt import conclude
from mailward.delivery.closer import Closer
from mailward.delivery.hold import Hold
from mailward.delivery.lease import Lease, Mark, OpenAttempt, Owner, Phase, onward
from mailward.delivery.outlet import Outlet
from mailward.delivery.outlets import Outlets
from mailward.delivery.queue import LeaseLost
from mailward.delivery.report import report
from mailward.delivery.retry import RetryPolicy
from mailward.ids import AttemptId
from mailward.smtp.reply import Reply
from mailward.transport.base import Gate, Go, ProviderSettings, Transport
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
    recovered: Callable[[], None]  #: a provider that was out of rotation works again


class Dispatcher(Protocol):
    """The senders, as an attempt sees them."""

    database: Database
    hold: Hold
    closer: Closer
    route: Route
    reports: Reports
    outlets: Outlets

    def move(self, lease: Lease, outlet: Outlet | None) -> None:
        """Send `lease` through `outlet`; None: give it back."""
        ...

    def look_again(self) -> None:
        """Who may be used has perhaps changed."""
        ...

    def follower(self, sending: "Sending") -> "Sending | None":
        """Return the next that may go out on the connection of `sending`, opened."""
        ...

    def finished(self, sending: "Sending", *, tried: bool) -> None:
        """An attempt is over; `tried`: the provider can have seen something of it."""
        ...


class Sending:
    """A Delivery (transport/base.py). `begin` it once."""

    __slots__ = (
        "_by", "_failure", "_go", "_is_canceled", "_is_opening", "_is_over", "_outcomes", "_started_us",
        "content", "envelope", "follower", "has_place", "lease", "outlet",
    )  # fmt: skip

    def __init__(self, by: Dispatcher, outlet: Outlet, lease: Lease) -> None:
        self.outlet = outlet
        self.lease = lease
        self.has_place = True  #: it counts among the outlet's conversations; False: it follows another
        self.follower: Sending | None = None
        self.envelope = lease.envelope
        self.content = lease.content
        self._by = by
        self._started_us = 0
        self._is_opening = False  # the mark is on its way to the disk
        self._failure: Exception | None = None  # why it did not get there
        self._is_canceled = False  # instead, an operator took a recipient away
        self._go: Go | None = None  # who waits for it
        self._is_over = False  # the transport has said how it ended
        self._outcomes: Sequence[Outcome] | None = None  # None then: nothing was begun

    def begin(self) -> None:
        """Open the attempt, and have the transport send it."""
        self.prepare()
        try:
            self.outlet.transport.send(self)
        except Exception as error:
            self.broke(error)

    def prepare(self) -> None:
        """Open the attempt."""
        by, lease, outlet = self._by, self.lease, self.outlet
        lease.phase = Phase.SENDING
        lease.mark = Mark(lease.mark.attempt_id if lease.mark else AttemptId(by.route.ids()), outlet.hop.id)
        if outlet is not by.outlets.all[0] and not lease.route:
            lease.route = by.outlets.why_not_first()
        self._started_us = by.route.now_us()
        if not lease.opened:
            self._open(lease, lease.mark)

    def take_place(self) -> None:
        """Go on where the one before it ended."""
        self.has_place = True
        self._started_us = self._by.route.now_us()

    @property
    def is_over(self) -> bool:
        return self._is_over

    def _open(self, lease: Lease, mark: Mark) -> None:
        """Begin to store the mark, so that it is durable by the time DATA has been answered."""
        self._is_opening = True
        self._by.closer.ride()
        ns = tuple([due.n for due in lease.due])
        item = OpenAttempt(lease.message_id, *mark, *lease.owner, ns, self._started_us)
        try:
            self._by.database.batch(queue.open_attempts, item).then(self._opened)
        except Exception as error:  # Too many wait, or it is closed.
            self._opened(Failed(error))

    def _opened(self, result: bool | Failed | None) -> None:
        self._is_opening = False
        if isinstance(result, Failed):
            self._failure = result.error
        else:
            self.lease.opened, self._is_canceled = bool(result), result is None
        if self._is_over:
            self._settle()
        elif self._go is not None:
            self._let_go(self._go)

    # From the transport

    def before_handover(self, go: Go) -> None:
        """See Handover: the mark must be durable, and this life not over."""
        if self._is_opening:
            self._go = go
        else:
            self._let_go(go)

    def _let_go(self, go: Go) -> None:
        lease = self.lease
        if self._failure is not None:
            go(self._failure)
        elif not lease.opened:
            go(LeaseLost(f"message {lease.message_id}"))
        elif not self._by.route.is_sure():
            go(LeaseLost(f"message {lease.message_id}: other nodes may take this one for dead"))
        else:
            lease.phase = Phase.HANDED_OVER
            go(None)

    def ended(self, outcomes: Sequence[Outcome]) -> None:
        """See Delivery."""
        self.outlet.note(outcomes, self._started_us)
        self._outcomes, self._is_over = outcomes, True
        if not self._is_opening:
            self._settle()

    def follow(self) -> "Sending | None":
        """See Handover."""
        self.follower = self._by.follower(self)
        return self.follower

    def not_now(self) -> None:
        """See Handover."""
        self._is_over = True
        if not self._is_opening:
            self._settle()

    def broke(self, error: Exception) -> None:
        """See Delivery: a fault of ours must not keep the lease for ever."""
        log.write("error", "transport.fault", message_id=self.lease.message_id, error=repr(error))
        self.ended([fault(handed_over=self.lease.phase is Phase.HANDED_OVER)] * len(self.lease.due))

    # Its end

    def _settle(self) -> None:
        """It is over, and whether the mark is durable is known; when it is not, nothing was handed over."""
        by, lease = self._by, self.lease
        try:
            if self._failure is not None:
                self._keep()
                by.reports.store_failed(self._failure)
            elif self._is_canceled:
                by.reports.canceled(lease)
            elif not lease.opened:
                metrics.leases_lost.inc()
                by.hold.remove(lease)
                by.reports.lost(lease)
            elif self._outcomes is None:
                self._keep()
            else:
                self._close(self._outcomes)
        except Exception as error:
            log.write("error", "worker.fault", error=repr(error))
        finally:
            by.finished(self, tried=self._outcomes is not None)

    def _keep(self) -> None:
        """Put back a lease of which nothing was tried."""
        by, lease, outlet = self._by, self.lease, self.outlet
        lease.phase = Phase.READY
        if not lease.tried:
            by.hold.ready[lease.lane].appendleft(lease)
        elif outlet.dropped:
            by.reports.give_back(lease)
        else:
            outlet.moved[lease.lane].appendleft(lease)
        by.reports.stir()

    def _close(self, outcomes: Sequence[Outcome]) -> None:
        by, lease, outlet = self._by, self.lease, self.outlet
        assert lease.mark is not None
        to, rest = self._failover(outcomes)
        close = conclude(
            lease,
            lease.mark,
            outcomes,
            by.route.policy,
            by.route.now_us(),
            by.route.jitter,
            uncertain_retries=outlet.hop.uncertain_retries,
            moved=() if rest is None else rest.due,
            is_outdated=outlet.dropped,
        )
        by.hold.let_go(lease)
        if rest is not None:
            by.hold.add(rest)
            by.move(rest, to)
        by.closer.add(lease, close)
        by.reports.freed()
        outlet.flowing = report(lease, outcomes, close, self._started_us)
        if rest is not None or not outlet.is_plain:
            by.look_again()

    def _failover(self, outcomes: Sequence[Outcome]) -> tuple[Outlet | None, Lease | None]:
        """Return who takes over, and a lease on the recipients that this provider could not take by its own fault.

        Never anything that it may have taken: that would be an Uncertain, which only the policy for doubts tries again.
        """
        outlets = self._by.outlets
        if len(outlets.all) < 2:
            return None, None
        failed = [
            (n, outcome)
            for n, outcome in enumerate(outcomes)
            if isinstance(outcome, Deferred) and outcome.fault is Fault.PROVIDER
        ]
        if not failed:
            return None, None
        tried = (*self.lease.tried, self.outlet.hop.id)
        to = outlets.after(tried)
        if to is None:
            return None, None
        why = f"failover: provider {self.outlet.hop.id} could not: {failed[0][1].reply}"
        return to, onward(self.lease, [n for n, _ in failed], tried=tried, route=why)


def fault(*, handed_over: bool) -> Outcome:
    """Return the outcome of what failed by a fault of ours."""
    reply = Reply(451, "4.3.0", "internal fault")
    if handed_over:
        return Uncertain(reply)
    return Deferred(Stage.CONNECT, Fault.MESSAGE, reply)
