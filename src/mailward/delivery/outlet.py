"""The way out to one provider: its transport, its own slots, and whether it may be used now.

Nothing here is shared with another provider, so a slow or broken one holds up nobody else's mail.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from enum import IntEnum

from mailward import metrics
from mailward.delivery.breaker import Breaker, Entered, Event, Failed, Served, State, Throttled, after, renewed
from mailward.delivery.lease import Lane, Lease
from mailward.provider.routing import Hop
from mailward.smtp.reply import Reply
from mailward.transport.base import Gate, HTTPRelay, NotNow, Transport
from mailward.transport.outcome import Accepted, Deferred, Fault, Outcome, Stage, Uncertain
from mailward.transport.trouble import Trouble

MakeTransport = Callable[[Hop, Gate], Transport]

_ENTRY = frozenset({Stage.RESOLVE, Stage.CONNECT, Stage.TLS, Stage.BANNER, Stage.EHLO, Stage.AUTH})
_THROTTLED = frozenset({421, 429, 454})
_LEVEL = {State.CLOSED: 0, State.HALF_OPEN: 1, State.OPEN: 2}


class Standing(IntEnum):
    """What may be done with a provider now."""

    GO = 0
    WAIT = 1  #: for a moment, or for a slot of its limits: its mail stays with it
    OUT = 2  #: its mail goes to those behind it, or waits in the queue


class Outlet:
    """Belongs to one event loop."""

    def __init__(self, hop: Hop, make: MakeTransport, now_us: Callable[[], int], stir: Callable[[], None]) -> None:
        """`stir`: called when there is something for the feeder: a report, a slot to ask for."""
        self.hop = hop
        self.transport = make(hop, self)
        self.busy = [0 for _ in Lane]  #: attempts under way, by lane
        self.filling = False  #: attempts are being begun
        self.moved: tuple[deque[Lease], ...] = tuple(deque() for _ in Lane)  #: what others could not take, by lane
        #: The last conversation got through to the provider, so what is accepted now leaves at once.
        self.flowing = False
        self.breaker = Breaker(revision=hop.revision)  #: as far as this node knows, its own news included
        self.known = False  #: what the nodes share was read
        self.events: list[Event] = []  #: news that the others do not have yet
        self.trial = False  #: one message may show whether it works again
        self.on_trial = False  #: it is on its way
        self.probing = False
        self.dropped = False  #: no longer in the plan
        #: Nothing about it needs a look before each attempt: no limits, no trouble, no news.
        self.is_plain = False
        self.limited = hop.limits.any
        self.slots = 0  #: of the limits, for attempts to come
        self.flying = 0  #: attempts under way that have one
        self.used = 0  #: by attempts that ended and were not reported
        self.retry_at_us = 0  #: when there may be more slots
        self.window = ""  #: which limit it is that makes us wait; "" when none does
        self.taken_at_us = 0  #: when a slot was last taken
        self._now_us = now_us
        self._stir = stir
        self._is_http = isinstance(hop.settings, HTTPRelay)
        # Each POST is a login of its own, so few go out before one has worked; with SMTP the gate sees to that.
        self._ramp = 1 if self._is_http else hop.settings.max_connections
        has_login = not self._is_http and bool(getattr(hop.settings, "user", ""))
        self._login: asyncio.Lock | None = asyncio.Lock() if has_login else None  # one at a time: see breaker.FAILURES
        metrics.provider_breaker_state.labels(self.hop.id).set(0)

    @property
    def total(self) -> int:
        """How many conversations there may be at a time now."""
        return 1 if self.on_trial or self.trial else self._ramp

    def standing(self, now_us: int) -> Standing:
        """Return what may be done with the provider at `now_us`."""
        breaker = self.breaker
        if breaker.paused_until_us > now_us or (breaker.state is not State.CLOSED and not self.trial):
            return Standing.OUT
        if not self.known or (not self.trial and any(map(_concerns_all, self.events))):
            return Standing.WAIT  # The others' news come with the answer to ours.
        if self.limited and not self.slots and self.retry_at_us > now_us:
            return Standing.WAIT
        return Standing.GO

    def reason(self, now_us: int) -> str:
        """Return why mail for this provider waits, "" when it does not."""
        breaker = self.breaker
        if breaker.paused_until_us > now_us:
            return f"provider {self.hop.id}, which wants to be left alone: {breaker.reason}"
        if breaker.state is not State.CLOSED:
            return f"provider {self.hop.id} to recover, it is out of rotation: {breaker.reason}"
        if self.limited and not self.slots and self.window:
            limit = next((limit for name, _, limit in self.hop.limits.windows() if name == self.window), 0)
            return f"limit {limit}/{_SHORT[self.window]} of provider {self.hop.id}"
        return ""

    # Slots

    def take(self, now_us: int) -> bool:
        """Take what an attempt needs; False when it must wait. Not needed while `is_plain`."""
        if self.standing(now_us) is not Standing.GO:
            return False
        if self.limited:
            if not self.slots:
                self._stir()
                return False
            self.slots -= 1
            self.flying += 1
            self.taken_at_us = now_us
        if self.trial:
            self.trial, self.on_trial = False, True
        return True

    def done(self, *, tried: bool) -> None:
        """An attempt ended; not `tried`: nothing of it reached the provider."""
        if self.on_trial and not tried:
            self.trial, self.on_trial = True, False
        if self.limited:
            self.flying -= 1
            if tried:
                self.used += 1
            else:
                self.slots += 1
            if not self.flying or not self.slots:
                self._stir()

    # What is known of the provider

    def tell(self, event: Event) -> None:
        """Take in news, and have them told to the other nodes."""
        self.breaker = after(self.breaker, event)
        self.events.append(event)
        if isinstance(event, Throttled) or (self._is_http and isinstance(event, Failed)):
            self._ramp = 1
        if isinstance(event, Throttled):
            metrics.provider_throttled.labels(self.hop.id, "provider").inc()
        self._show()
        self._stir()

    def settle(self, shared: Breaker, told: int) -> None:
        """Take in what the nodes share, in which the first `told` of our news are."""
        del self.events[:told]
        self.known = True
        if shared.revision > self.hop.revision:
            return  # of settings that we are about to see
        breaker = renewed(shared, self.hop.revision)
        for event in self.events:
            breaker = after(breaker, event)
        self.breaker = breaker
        if breaker.state is State.CLOSED:
            self.trial = False
        self._show()

    def note(self, outcomes: Sequence[Outcome], started_us: int) -> None:
        """Learn from how an attempt ended."""
        now_us = self._now_us()
        trial, self.on_trial = self.on_trial, False
        for outcome in outcomes:
            if isinstance(outcome, Deferred) and outcome.fault is Fault.PROVIDER:
                if self._is_http or outcome.stage not in _ENTRY:  # Otherwise `left` has told.
                    self.tell(_news(outcome.stage, outcome.reply, outcome.wait_s, started_us, now_us))
                return
            if isinstance(outcome, Uncertain):
                self.tell(Failed(now_us, str(outcome.reply), entry=False))
                return
            if isinstance(outcome, Deferred) and outcome.fault is Fault.MESSAGE and outcome.stage is Stage.CONNECT:
                self.trial = trial  # a fault of ours: it says nothing
                return
        if self._ramp < self.hop.settings.max_connections:
            self._ramp += 1
        if not self.breaker.is_spotless:
            if self._is_http:
                self.tell(Entered(now_us))
            self.tell(Served(now_us))

    def probed(self, outcome: Outcome | None) -> None:
        """A probe ended; None: only a message can show whether the provider works."""
        self.probing = False
        now_us = self._now_us()
        if isinstance(outcome, Deferred):
            self.tell(_news(outcome.stage, outcome.reply, outcome.wait_s, now_us, now_us))
        elif isinstance(outcome, Accepted):
            self.tell(Entered(now_us))
        if self.breaker.state is State.HALF_OPEN:
            self.trial = True
            self._stir()

    # Gate: asked by the transport before it opens a connection

    async def enter(self) -> None:
        """See Gate. Logins come one after the other, and not while the last one's failure is news."""
        if self._login is not None:
            await self._login.acquire()
        breaker = self.breaker
        if (breaker.state is State.OPEN or self.events or breaker.paused_until_us > self._now_us()) and not (
            self.on_trial
        ):
            if self._login is not None:
                self._login.release()
            raise NotNow(f"provider {self.hop.id}: {breaker.reason}")

    def left(self, trouble: Trouble | None, *, opened: bool) -> None:
        """See Gate."""
        if self._login is not None:
            self._login.release()
        now_us = self._now_us()
        if trouble is not None and trouble.fault is Fault.PROVIDER:
            self.tell(_news(trouble.stage, trouble.reply, 0.0, now_us, now_us))
        elif opened and self.breaker.entries:
            self.tell(Entered(now_us))

    def _show(self) -> None:
        breaker = self.breaker
        self.is_plain = (
            self.known and not self.events and not self.limited and breaker.is_spotless and not breaker.paused_until_us
        )
        metrics.provider_breaker_state.labels(self.hop.id).set(_LEVEL[self.breaker.state])
        if self.breaker.state is not State.CLOSED:
            metrics.provider_up.labels(self.hop.id).set(0)


def _concerns_all(event: Event) -> bool:
    """Tell whether an attempt must wait until the other nodes know: a refusal in a conversation is counted only."""
    return not (isinstance(event, Served) or (isinstance(event, Failed) and not event.entry))


_SHORT = {"second": "s", "minute": "min", "day": "day"}


def _news(stage: Stage, reply: Reply, wait_s: float, started_us: int, now_us: int) -> Event:
    """Return what a refusal or failure means: 421, 454, 429 and Retry-After ask for patience, the rest is a fault."""
    if wait_s or reply.code == 429 or (reply.code in _THROTTLED and stage is not Stage.AUTH):
        return Throttled(now_us, str(reply), wait_s, started_us)
    return Failed(now_us, str(reply), entry=stage in _ENTRY)
