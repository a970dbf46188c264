"""How often callers may be wrong: limits on failed sign-ins, by address, and by account."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_network
from math import ceil
from typing import Literal
from weakref import WeakValueDictionary

from mailward import log
from mailward.errors import MailwardError, TooManyFailures, Unavailable
from mailward.peer import IpAddress, IpNetwork, address_of, is_in

_REMEMBERED = 10_000  #: addresses, accounts, credentials; the least recently seen are forgotten first
_PER_PLACE = 10  #: failures for one account from one address, and as many again in an hour
_PER_ACCOUNT = 100  #: failures for one account from all addresses, and as many again in an hour
_RECORDS_AT_ONCE, _RECORD_EVERY_S = 5, 600.0  #: how many limited addresses are put on record
_PATIENCE_S = 10.0  #: how long a sign-in waits for those before it


Door = Literal["http", "grpc", "smtp"]


@dataclass(frozen=True, slots=True)
class SignIn:
    """Somebody at a door who offers credentials."""

    door: Door
    peer: str  #: "address:port" or the address alone
    credentials: str = ""  #: what is offered; kept as a digest, and only when it was right. "": nothing to know again
    account: str = ""  #: whom it is offered for, when it names somebody
    is_proven: Callable[[], bool] = bool  #: for what is another each time: is it by somebody who was right before?


class Leaky:
    """Failures by key, which drain away: a key is over the limit while more than `most` - 1 are left."""

    def __init__(self, most: int, drained_per_s: float) -> None:
        self._most = most
        self._drained_per_s = drained_per_s
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()  #: by key: failures left, and when
        self._lines: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def line(self, key: str) -> asyncio.Lock:
        """Return what whoever may fail by `key` holds meanwhile, so that nobody is looked at beyond the limit."""
        return self._lines.setdefault(key, asyncio.Lock())

    def wait_s(self, key: str, now_s: float) -> float:
        """Return the seconds until `key` is below the limit, 0 when it is."""
        over = self._level(key, now_s) - (self._most - 1)
        return max(0.0, over / self._drained_per_s)

    def add(self, key: str, now_s: float) -> bool:
        """Count a failure; return whether `key` reaches the limit by it."""
        before = self._level(key, now_s)
        self._levels[key] = (min(before + 1, self._most), now_s)
        self._levels.move_to_end(key)
        if len(self._levels) > _REMEMBERED:
            self._levels.popitem(last=False)
        return before <= self._most - 1 < before + 1

    def _level(self, key: str, now_s: float) -> float:
        level, at_s = self._levels.get(key, (0.0, now_s))
        return max(0.0, level - max(0.0, now_s - at_s) * self._drained_per_s)


class Guesses:
    """Asked for a turn before credentials are looked at, and told what came of them. Belongs to one event loop.

    Whoever offers what was right before at this node is never refused: an attacker behind the same address shuts out
    no program that works. Nor does one who guesses at an account from many addresses shut out the account's owner
    at an address where it was right before.
    """

    def __init__(
        self,
        per_minute: int,
        monotonic: Callable[[], float],
        record: Callable[[str, str], Awaitable[None]],
        unlimited: tuple[IpNetwork, ...] = (),
    ) -> None:
        """`per_minute`: failures of one address; 0: no limit. `record(network, door)` puts a limited one on record.

        `unlimited`: networks whose hosts are never refused.
        """
        self._limited = per_minute > 0
        self._monotonic = monotonic
        self._record = record
        self._unlimited = unlimited
        self._addresses = Leaky(max(1, per_minute), max(1, per_minute) / 60)
        self._places = Leaky(_PER_PLACE, _PER_PLACE / 3600)
        self._accounts = Leaky(_PER_ACCOUNT, _PER_ACCOUNT / 3600)
        self._records = Leaky(_RECORDS_AT_ONCE, 1 / _RECORD_EVERY_S)
        self._right: OrderedDict[str, None] = OrderedDict()  #: credentials of accounts, accounts at networks

    @asynccontextmanager
    async def turn(self, attempt: SignIn) -> AsyncIterator[None]:
        """Look at the credentials in the block, and say there by `right` or `wrong` what came of them.

        Unless they were right before, nobody else is looked at meanwhile who counts by the same key: of a thousand
        guesses at once only as many are looked at as the limit allows, and who is right waits a moment at most.

        Raises TooManyFailures when the credentials are not to be looked at, Unavailable when those before take long.
        """
        counts = self._counts(attempt)
        self._check(attempt, counts)
        async with AsyncExitStack() as held:
            if counts and not self._is_known(attempt):
                try:
                    async with asyncio.timeout(_PATIENCE_S):
                        for limit, key in counts:
                            await held.enter_async_context(limit.line(key))
                except TimeoutError:
                    raise Unavailable("ACCESS-Ln6Wt", "too many sign-ins from your address take too long") from None
                self._check(attempt, counts)
            yield

    def right(self, attempt: SignIn) -> None:
        """The credentials were good."""
        if attempt.credentials:
            self._remember(_secret(attempt))
        if attempt.account:
            self._remember(_place(attempt))

    async def wrong(self, attempt: SignIn, reason: str) -> None:
        """The credentials were not good. `reason`: for the log."""
        counts = self._counts(attempt)
        if self._wait_s(counts) > 0:
            log.sign_in_limited(door=attempt.door)  # It was right before, and was looked at; the log stays short.
            return
        log.authentication_failed(door=attempt.door, peer=attempt.peer, reason=reason)
        now_s = self._monotonic()
        reached = [limit for limit, key in counts if limit.add(key, now_s)]
        if self._accounts in reached:
            log.account_limited(attempt.account, door=attempt.door)
        if self._addresses not in reached and self._places not in reached:
            return
        network = network_of(address_of(attempt.peer))
        log.address_limited(network, door=attempt.door)
        if self._records.wait_s("", now_s) == 0:
            self._records.add("", now_s)
            with contextlib.suppress(MailwardError):  # The log has it.
                await self._record(network, attempt.door)

    def _counts(self, attempt: SignIn) -> list[tuple[Leaky, str]]:
        """Return by which limits and keys a failure would count; by none where there is no limit."""
        address = address_of(attempt.peer)
        if not self._limited or address is None or is_in(address, self._unlimited):
            return []
        counts = [(self._addresses, network_of(address))]
        if attempt.account:
            place = _place(attempt)
            counts.append((self._places, place))
            if place not in self._right:
                counts.append((self._accounts, _digest(attempt.account)))
        return counts

    def _check(self, attempt: SignIn, counts: list[tuple[Leaky, str]]) -> None:
        wait_s = ceil(self._wait_s(counts))
        if wait_s > 0 and not self._is_known(attempt):
            log.sign_in_limited(door=attempt.door)
            refusal = TooManyFailures("ACCESS-Gs5Lm", f"too many failed sign-ins: wait {wait_s} s")
            refusal.retry_after_s = wait_s
            raise refusal

    def _is_known(self, attempt: SignIn) -> bool:
        return _secret(attempt) in self._right or attempt.is_proven()

    def _wait_s(self, counts: list[tuple[Leaky, str]]) -> float:
        now_s = self._monotonic()
        return max((limit.wait_s(key, now_s) for limit, key in counts), default=0.0)

    def _remember(self, digest: str) -> None:
        self._right[digest] = None
        self._right.move_to_end(digest)
        if len(self._right) > _REMEMBERED:
            self._right.popitem(last=False)


def network_of(address: IpAddress | None) -> str:
    """Return what failures from `address` are counted by: an IPv4 address, the /64 of an IPv6 one; "" for none."""
    if isinstance(address, IPv6Address):
        return str(ip_network((address, 64), strict=False))
    return str(address or "")


def _secret(attempt: SignIn) -> str:
    return _digest("secret", attempt.account, attempt.credentials)


def _place(attempt: SignIn) -> str:
    return _digest("place", network_of(address_of(attempt.peer)), attempt.account)


def _digest(*said: str) -> str:
    return hashlib.sha256("\0".join(said).encode(errors="replace")).hexdigest()
