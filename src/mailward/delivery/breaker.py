"""The circuit breaker of one provider: what its faults do to it, and when it may be tried again (pure).

Only the provider's own faults come here: trouble with connection, TLS and login, and refusals that are about itself.
Nodes share the state: each reports what it saw, and all act on what came of it.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, assert_never

FAILURES: Final = 3  #: in a row that open it; with one login under way in each of three nodes, five attempts at most
_SECOND_US = 1_000_000
_OPEN_S = (5, 10, 20, 30)  # how long it stays open, the first time, the second ...
_PROBE_S = 45  # what a probe may take; then another node may try
_PAUSE_FIRST_S = 5
_PAUSE_LIMIT_S = 300


class State(StrEnum):
    """Whether a provider takes part."""

    CLOSED = "closed"  #: in rotation
    OPEN = "open"  #: out of rotation until `try_at_us`
    HALF_OPEN = "half-open"  #: one node is trying it


@dataclass(frozen=True, slots=True, kw_only=True)
class Breaker:
    """What is known of a provider, for one revision of its settings."""

    revision: int = 0  #: of the settings; a later one begins anew
    state: State = State.CLOSED
    entries: int = 0  #: failures in a row on the way in: connect, TLS, login
    talks: int = 0  #: failures in a row after it
    rounds: int = 0  #: how often it opened without having closed
    try_at_us: int = 0  #: OPEN, HALF_OPEN: when a probe may begin
    reason: str = ""  #: what the provider said last when it failed
    pauses: int = 0  #: times in a row that it asked to be left alone
    paused_at_us: int = 0
    paused_until_us: int = 0  #: no attempt before

    @property
    def is_spotless(self) -> bool:
        """Whether a success would change nothing."""
        return not (self.entries or self.talks or self.pauses) and self.state is State.CLOSED


@dataclass(frozen=True, slots=True)
class Failed:
    """A conversation failed by the provider's fault. `entry`: on the way in."""

    at_us: int
    reason: str
    entry: bool


@dataclass(frozen=True, slots=True)
class Throttled:
    """The provider asked to be left alone, `wait_s` seconds when above 0."""

    at_us: int
    reason: str
    wait_s: float
    started_us: int  #: when the attempt began


@dataclass(frozen=True, slots=True)
class Entered:
    """A connection was opened, and the login, if any, was taken."""

    at_us: int


@dataclass(frozen=True, slots=True)
class Served:
    """The provider took a message, or refused it for a reason that lies in the message."""

    at_us: int


@dataclass(frozen=True, slots=True)
class Probing:
    """A node begins to try."""

    at_us: int


Event = Failed | Throttled | Entered | Served | Probing


def after(breaker: Breaker, event: Event) -> Breaker:
    """Return what `event` makes of `breaker`."""
    match event:
        case Failed():
            return _failed(breaker, event)
        case Throttled():
            return _throttled(breaker, event)
        case Entered():
            if breaker.state is State.OPEN:  # A late word from before it opened.
                return breaker
            if breaker.talks >= FAILURES:  # A login was not what failed: it takes a message to show more.
                return replace(breaker, entries=0)
            return replace(
                _closed(breaker),
                talks=breaker.talks,
                pauses=breaker.pauses,
                paused_until_us=breaker.paused_until_us,
            )
        case Served():
            if breaker.state is State.OPEN:
                return breaker
            # A kept session says nothing about the login.
            entries = breaker.entries if breaker.state is State.CLOSED else 0
            if breaker.paused_until_us > event.at_us:  # It began before the pause.
                return replace(breaker, talks=0)
            return replace(_closed(breaker), entries=entries)
        case Probing():
            return replace(breaker, state=State.HALF_OPEN, try_at_us=event.at_us + _PROBE_S * _SECOND_US)
        case _:
            assert_never(event)


def may_probe(breaker: Breaker, now_us: int) -> bool:
    """Tell whether it is time to try a provider that is out of rotation."""
    return breaker.state is not State.CLOSED and now_us >= breaker.try_at_us


def set_back(breaker: Breaker, now_us: int) -> Breaker:
    """Return the breaker after the clock was set back to `now_us`: what began later begins now."""
    try_at_us = min(breaker.try_at_us, now_us + max(*_OPEN_S, _PROBE_S) * _SECOND_US)
    by_us = max(0, breaker.paused_at_us - now_us)
    return replace(
        breaker,
        try_at_us=try_at_us,
        paused_at_us=breaker.paused_at_us - by_us,
        paused_until_us=max(0, breaker.paused_until_us - by_us),
    )


def renewed(breaker: Breaker, revision: int) -> Breaker:
    """Return the breaker for `revision` of the settings: after a change the provider may show itself anew at once."""
    return breaker if breaker.revision >= revision else Breaker(revision=revision)


def _closed(breaker: Breaker) -> Breaker:
    return replace(breaker, state=State.CLOSED, entries=0, talks=0, rounds=0, try_at_us=0, pauses=0, paused_until_us=0)


def _failed(breaker: Breaker, event: Failed) -> Breaker:
    breaker = replace(
        breaker,
        entries=breaker.entries + event.entry,
        talks=breaker.talks + (not event.entry),
        reason=event.reason,
    )
    if breaker.state is State.OPEN or (
        breaker.state is State.CLOSED and max(breaker.entries, breaker.talks) < FAILURES
    ):
        return breaker
    open_s = _OPEN_S[min(breaker.rounds, len(_OPEN_S) - 1)]
    return replace(breaker, state=State.OPEN, rounds=breaker.rounds + 1, try_at_us=event.at_us + open_s * _SECOND_US)


def _throttled(breaker: Breaker, event: Throttled) -> Breaker:
    """Those who were on their way when the pause began say what is known already; but a longer wait counts."""
    known = event.started_us <= breaker.paused_at_us
    pauses = breaker.pauses if known else breaker.pauses + 1
    wait_s = event.wait_s or (0 if known else min(_PAUSE_FIRST_S * 2 ** min(pauses - 1, 10), _PAUSE_LIMIT_S))
    until_us = max(breaker.paused_until_us, event.at_us + int(wait_s * _SECOND_US))
    breaker = replace(
        breaker,
        pauses=pauses,
        paused_at_us=breaker.paused_at_us if known else event.at_us,
        paused_until_us=until_us,
        reason=event.reason,
    )
    if breaker.state is State.HALF_OPEN:  # It talks to us again; the pause does the rest.
        return replace(breaker, state=State.CLOSED, entries=0, talks=0, rounds=0, try_at_us=0)
    return breaker
