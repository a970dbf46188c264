"""How often callers may be wrong, and who is let in all the same."""

from dataclasses import dataclass, field, replace

import pytest

from mailward.access.guesses import Guesses, SignIn, network_of
from mailward.errors import TooManyFailures

STRANGER = SignIn("http", "198.51.100.7:4711", "wrong")


@dataclass
class World:
    """A limit of 5 a minute, its clock, and what it put on record."""

    now_s: float = 1_000.0
    records: list[tuple[str, str]] = field(default_factory=list)
    per_minute: int = 5

    def __post_init__(self) -> None:
        self.guesses = Guesses(self.per_minute, lambda: self.now_s, self._record)

    async def _record(self, network: str, door: str) -> None:
        self.records.append((network, door))

    async def fails(self, attempt: SignIn, times: int) -> None:
        for _ in range(times):
            self.guesses.check(attempt)
            await self.guesses.wrong(attempt, "unknown token")

    def waits_s(self, attempt: SignIn) -> int:
        """Return the seconds that `attempt` is told to wait, 0 when it is looked at."""
        try:
            self.guesses.check(attempt)
        except TooManyFailures as refusal:
            return refusal.retry_after_s
        return 0


async def test_after_too_many_failures_an_address_waits_for_its_next_guess() -> None:
    world = World()
    await world.fails(STRANGER, 5)

    assert world.waits_s(STRANGER) == 12
    world.now_s += 12
    await world.fails(STRANGER, 1)
    assert world.waits_s(STRANGER) == 12


async def test_failures_are_forgotten_in_a_minute() -> None:
    world = World()
    await world.fails(STRANGER, 5)
    world.now_s += 60

    await world.fails(STRANGER, 5)

    assert world.waits_s(STRANGER) > 0


@pytest.mark.parametrize("peer", ["198.51.100.8:4711", "[2001:db8::1]:25", "127.0.0.1:4711"])
async def test_nobody_waits_for_the_failures_of_another_address(peer: str) -> None:
    world = World()
    await world.fails(STRANGER, 5)

    assert world.waits_s(replace(STRANGER, peer=peer)) == 0


async def test_what_was_right_before_is_let_in_from_the_address_of_an_attacker() -> None:
    """Behind a NAT an attacker and a program that works have one address."""
    world = World()
    known = replace(STRANGER, credentials="right")
    world.guesses.right(known)
    await world.fails(STRANGER, 5)

    assert world.waits_s(known) == 0
    assert world.waits_s(STRANGER) > 0


async def test_what_was_right_for_one_account_is_not_for_another() -> None:
    world = World()
    world.guesses.right(replace(STRANGER, account="ada", credentials="s"))
    await world.fails(STRANGER, 5)

    assert world.waits_s(replace(STRANGER, account="bob", credentials="s")) > 0


async def test_an_account_is_guessed_ten_times_an_hour_from_one_address() -> None:
    world = World(per_minute=100)
    guess = replace(STRANGER, account="ada")
    await world.fails(guess, 10)

    assert world.waits_s(guess) == 360
    assert world.waits_s(replace(guess, account="bob")) == 0
    assert world.waits_s(replace(guess, peer="198.51.100.8:1")) == 0, "nobody else may lock the account"


@pytest.mark.parametrize(("peer", "per_minute"), [("127.0.0.1:1", 5), ("[::1]:1", 5), ("198.51.100.7:1", 0)])
async def test_loopback_is_never_limited_and_nobody_is_without_a_limit(peer: str, per_minute: int) -> None:
    world = World(per_minute=per_minute)
    await world.fails(replace(STRANGER, peer=peer, account="ada"), 100)

    assert world.records == []


async def test_an_address_is_put_on_record_when_it_reaches_the_limit_and_a_crowd_does_not_flood_the_log() -> None:
    world = World()
    await world.fails(STRANGER, 5)
    for n in range(50):
        await world.fails(replace(STRANGER, peer=f"203.0.113.{n}:1"), 5)

    assert world.records[0] == ("198.51.100.7", "http")
    assert len(world.records) == 5
    world.now_s += 601
    await world.fails(replace(STRANGER, peer="203.0.113.99:1"), 5)
    assert len(world.records) == 6


async def test_what_is_remembered_is_bounded() -> None:
    world = World(per_minute=1)
    for n in range(10_100):
        await world.guesses.wrong(replace(STRANGER, peer=f"10.1.{n // 256}.{n % 256}"), "unknown token")

    assert world.waits_s(replace(STRANGER, peer="10.1.0.0")) == 0, "the first is forgotten"
    assert world.waits_s(replace(STRANGER, peer="10.1.39.115")) > 0, "the last is not"


@pytest.mark.parametrize(
    ("peer", "network"),
    [
        ("198.51.100.7:4711", "198.51.100.7"),
        ("198.51.100.7", "198.51.100.7"),
        ("[2001:db8:0:1:2::3]:4711", "2001:db8:0:1::/64"),
        ("2001:db8:0:1:ffff::9", "2001:db8:0:1::/64"),
        ("::ffff:198.51.100.7", "198.51.100.7"),
        ("fe80::1%eth0", "fe80::/64"),
        ("127.0.0.9:1", ""),
        ("::ffff:127.0.0.1", ""),
        ("[::1]:1", ""),
        ("", ""),
    ],
)
def test_failures_are_counted_by_address_and_by_network_of_ipv6(peer: str, network: str) -> None:
    assert network_of(peer) == network
