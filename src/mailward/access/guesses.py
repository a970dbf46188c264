"""How often callers may be wrong: limits on failed sign-ins, by address, and by account from one address."""

from __future__ import annotations

import contextlib
import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_network
from math import ceil
from typing import Literal

from mailward import log
from mailward.errors import MailwardError, TooManyFailures

_REMEMBERED = 10_000  #: addresses, accounts, credentials; the least recently seen are forgotten first
_PER_ACCOUNT = 10  #: failures for one account from one address, and as many again in an hour
_RECORDS_AT_ONCE, _RECORD_EVERY_S = 5, 600.0  #: how many limited addresses are put on record


Door = Literal["http", "grpc", "smtp"]


@dataclass(frozen=True, slots=True)
class SignIn:
    """Somebody at a door who offers credentials."""

    door: Door
    peer: str  #: "address:port" or the address alone
    credentials: str  #: what is offered; kept as a digest, and only when it was right
    account: str = ""  #: whom it is offered for, when it names somebody


class Leaky:
    """Failures by key, which drain away: a key is over the limit while more than `most` - 1 are left."""

    def __init__(self, most: int, drained_per_s: float) -> None:
        self._most = most
        self._drained_per_s = drained_per_s
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()  #: by key: failures left, and when

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
    """Asked before credentials are looked at, and told what came of them. Belongs to one event loop.

    Whoever offers what was right before at this node is never refused: an attacker behind the same address shuts out
    no program that works. Nor is loopback, where proxies and the operator are.
    """

    def __init__(
        self,
        per_minute: int,
        monotonic: Callable[[], float],
        record: Callable[[str, str], Awaitable[None]],
    ) -> None:
        """`per_minute`: failures of one address; 0: no limit. `record(network, door)` puts a limited one on record."""
        self._limited = per_minute > 0
        self._monotonic = monotonic
        self._record = record
        self._addresses = Leaky(max(1, per_minute), max(1, per_minute) / 60)
        self._accounts = Leaky(_PER_ACCOUNT, _PER_ACCOUNT / 3600)
        self._records = Leaky(_RECORDS_AT_ONCE, 1 / _RECORD_EVERY_S)
        self._right: OrderedDict[bytes, None] = OrderedDict()

    def check(self, attempt: SignIn) -> None:
        """Raise TooManyFailures when the credentials are not to be looked at."""
        network = network_of(attempt.peer) if self._limited else ""
        if not network:
            return
        wait_s = self._wait_s(network, attempt)
        if wait_s > 0 and _digest(attempt) not in self._right:
            log.sign_in_limited(door=attempt.door)
            refusal = TooManyFailures("ACCESS-Gs5Lm", f"too many failed sign-ins: wait {ceil(wait_s)} s")
            refusal.retry_after_s = ceil(wait_s)
            raise refusal

    def right(self, attempt: SignIn) -> None:
        """The credentials were good."""
        digest = _digest(attempt)
        self._right[digest] = None
        self._right.move_to_end(digest)
        if len(self._right) > _REMEMBERED:
            self._right.popitem(last=False)

    async def wrong(self, attempt: SignIn, reason: str) -> None:
        """The credentials were not good. `reason`: for the log."""
        network = network_of(attempt.peer) if self._limited else ""
        if network and self._wait_s(network, attempt) > 0:
            log.sign_in_limited(door=attempt.door)  # It was right before, and was looked at; the log stays short.
            return
        log.authentication_failed(door=attempt.door, peer=attempt.peer, reason=reason)
        if not network:
            return
        now_s = self._monotonic()
        reached = self._addresses.add(network, now_s)
        if attempt.account:
            reached = self._accounts.add(f"{network} {attempt.account}", now_s) or reached
        if not reached:
            return
        log.address_limited(network, door=attempt.door)
        if self._records.wait_s("", now_s) == 0:
            self._records.add("", now_s)
            with contextlib.suppress(MailwardError):  # The log has it.
                await self._record(network, attempt.door)

    def _wait_s(self, network: str, attempt: SignIn) -> float:
        now_s = self._monotonic()
        wait_s = self._addresses.wait_s(network, now_s)
        if attempt.account:
            wait_s = max(wait_s, self._accounts.wait_s(f"{network} {attempt.account}", now_s))
        return wait_s


def network_of(peer: str) -> str:
    """Return what failures of `peer` are counted by: an IPv4 address, the /64 of an IPv6 one; "" for nothing.

    Loopback is not counted: behind a proxy on the machine everybody comes from there.
    """
    host = peer[1:].partition("]")[0] if peer.startswith("[") else peer
    if host.count(":") == 1:
        host = host.partition(":")[0]
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return ""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is None:
            return "" if address.is_loopback else str(ip_network((address, 64), strict=False))
        address = address.ipv4_mapped
    return "" if address.is_loopback else str(address)


def _digest(attempt: SignIn) -> bytes:
    return hashlib.sha256(f"{attempt.account}\0{attempt.credentials}".encode(errors="replace")).digest()
