"""How often callers may be wrong, and who is let in all the same."""

import asyncio
from dataclasses import dataclass, field, replace

import pytest

from mailward.access import guesses
from mailward.access.guesses import Guesses, SignIn, network_of
from mailward.errors import TooManyFailures, Unavailable
from mailward.peer import address_of, networks

STRANGER = SignIn("http", "198.51.100.7:4711", "wrong")


@dataclass
class World:
    """A limit of 5 a minute, its clock, and what it put on record."""

    now_s: float = 1_000.0
    records: list[tuple[str, str]] = field(default_factory=list)
    per_minute: int = 5
    unlimited: tuple[str, ...] = ("127.0.0.0/8", "::1/128")
    looked_at: int = 0  #: how many credentials

    def __post_init__(self) -> None:
        unlimited = networks(self.unlimited)
        self.guesses = Guesses(self.per_minute, lambda: self.now_s, self._record, unlimited)

    async def _record(self, network: str, door: str) -> None:
        self.records.append((network, door))

    async def fails(self, attempt: SignIn, times: int = 1) -> None:
        for _ in range(times):
            async with self.guesses.turn(attempt):
                await self.look()
                await self.guesses.wrong(attempt, "unknown token")

    async def succeeds(self, attempt: SignIn) -> None:
        async with self.guesses.turn(attempt):
            await self.look()
            self.guesses.right(attempt)

    async def look(self) -> None:
        """Take a while, as the store does."""
        self.looked_at += 1
        for _ in range(3):
            await asyncio.sleep(0)

    async def waits_s(self, attempt: SignIn) -> int:
        """Return the seconds that `attempt` is told to wait, 0 when it is looked at."""
        try:
            async with self.guesses.turn(attempt):
                return 0
        except TooManyFailures as refusal:
            return refusal.retry_after_s


async def test_after_too_many_failures_an_address_waits_for_its_next_guess() -> None:
    world = World()
    await world.fails(STRANGER, 5)

    assert await world.waits_s(STRANGER) == 12
    world.now_s += 12
    await world.fails(STRANGER, 1)
    assert await world.waits_s(STRANGER) == 12


async def test_failures_are_forgotten_in_a_minute() -> None:
    world = World()
    await world.fails(STRANGER, 5)
    world.now_s += 60

    await world.fails(STRANGER, 5)

    assert await world.waits_s(STRANGER) > 0


@pytest.mark.parametrize("peer", ["198.51.100.8:4711", "[2001:db8::1]:25", "127.0.0.1:4711"])
async def test_nobody_waits_for_the_failures_of_another_address(peer: str) -> None:
    world = World()
    await world.fails(STRANGER, 5)

    assert await world.waits_s(replace(STRANGER, peer=peer)) == 0


async def test_what_was_right_before_is_let_in_from_the_address_of_an_attacker() -> None:
    """Behind a NAT an attacker and a program that works have one address."""
    world = World()
    known = replace(STRANGER, credentials="right")
    world.guesses.right(known)
    await world.fails(STRANGER, 5)

    assert await world.waits_s(known) == 0
    assert await world.waits_s(STRANGER) > 0


async def test_what_was_right_for_one_account_is_not_for_another() -> None:
    world = World()
    world.guesses.right(replace(STRANGER, account="ada", credentials="s"))
    await world.fails(STRANGER, 5)

    assert await world.waits_s(replace(STRANGER, account="bob", credentials="s")) > 0


async def test_an_account_is_guessed_ten_times_an_hour_from_one_address() -> None:
    world = World(per_minute=100)
    guess = replace(STRANGER, account="ada")
    await world.fails(guess, 10)

    assert await world.waits_s(guess) == 360
    assert await world.waits_s(replace(guess, account="bob")) == 0
    assert await world.waits_s(replace(guess, peer="198.51.100.8:1")) == 0, "nobody else may lock the account"


async def test_an_account_is_guessed_a_hundred_times_an_hour_from_all_addresses_together() -> None:
    world = World()
    await spray(world, "ada")

    assert await world.waits_s(replace(STRANGER, account="ada")) == 36
    assert await world.waits_s(replace(STRANGER, account="bob")) == 0
    world.now_s += 36
    await world.fails(replace(STRANGER, account="ada"))
    assert await world.waits_s(replace(STRANGER, peer="198.51.100.8:1", account="ada")) == 36


async def test_strangers_do_not_lock_an_account_where_it_was_right_before() -> None:
    world = World(per_minute=100)
    home = replace(STRANGER, peer="192.0.2.1:1", account="ada")
    await world.succeeds(replace(home, credentials="old secret"))
    await spray(world, "ada")

    assert await world.waits_s(replace(home, credentials="new secret")) == 0
    assert await world.waits_s(replace(home, peer="127.0.0.1:1")) == 0
    assert await world.waits_s(replace(STRANGER, account="ada", credentials="old secret")) == 0
    await world.fails(home, 10)
    assert await world.waits_s(home) == 360, "its own allowance is that of one address"


async def test_what_is_wrong_at_home_counts_for_nobody_else() -> None:
    world = World(per_minute=100)
    await world.succeeds(replace(STRANGER, peer="192.0.2.1:1", account="ada", credentials="secret"))
    await spray(world, "ada", 99)
    await world.fails(replace(STRANGER, peer="192.0.2.1:1", account="ada"))

    assert await world.waits_s(replace(STRANGER, account="ada")) == 0


async def spray(world: World, account: str, times: int = 100) -> None:
    for n in range(times):
        await world.fails(replace(STRANGER, peer=f"203.0.113.{n}:1", account=account))


@pytest.mark.parametrize("account", ["", "ada"])
@pytest.mark.parametrize("addresses", [1, 500])
async def test_of_five_hundred_guesses_at_once_as_many_are_looked_at_as_the_limit_allows(
    account: str, addresses: int
) -> None:
    world = World(per_minute=5 if addresses == 1 else 1)
    crowd = [
        replace(STRANGER, peer=f"10.0.{n % addresses // 256}.{n % addresses % 256}:1", account=account)
        for n in range(500)
    ]

    results = await asyncio.gather(*map(world.fails, crowd), return_exceptions=True)

    refused = sum(isinstance(result, TooManyFailures) for result in results)
    assert world.looked_at == {(1, ""): 5, (1, "ada"): 5, (500, ""): 500, (500, "ada"): 100}[addresses, account]
    assert refused == 500 - world.looked_at


@pytest.mark.parametrize("tokens", [1, 500])
async def test_of_five_hundred_at_once_who_are_right_nobody_is_refused(tokens: int) -> None:
    """After a restart nobody is known yet, and all programs behind one NAT come back."""
    world = World()

    await asyncio.gather(*[world.succeeds(replace(STRANGER, credentials=str(n % tokens))) for n in range(500)])

    assert world.looked_at == 500


async def test_who_gives_up_or_meets_a_store_that_fails_leaves_the_line_to_the_next() -> None:
    world = World()
    async with world.guesses.turn(STRANGER):
        waiting = asyncio.create_task(world.succeeds(STRANGER))
        await asyncio.sleep(0)
        waiting.cancel()
    with pytest.raises(RuntimeError):
        async with world.guesses.turn(STRANGER):
            raise RuntimeError

    await world.succeeds(STRANGER)


async def test_nobody_waits_for_ever_for_those_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guesses, "_PATIENCE_S", 0.01)
    world = World()
    async with world.guesses.turn(STRANGER):
        with pytest.raises(Unavailable):
            await world.succeeds(replace(STRANGER, credentials="right"))


async def test_what_proves_itself_is_looked_at_from_the_address_of_an_attacker() -> None:
    world = World()
    await world.fails(STRANGER, 5)

    assert await world.waits_s(replace(STRANGER, credentials="", is_proven=lambda: True)) == 0
    world.guesses.right(replace(STRANGER, credentials=""))
    assert await world.waits_s(replace(STRANGER, credentials="")) > 0, "nothing is nobody's proof"


@pytest.mark.parametrize(("peer", "per_minute"), [("127.0.0.1:1", 5), ("[::1]:1", 5), ("198.51.100.7:1", 0)])
async def test_loopback_is_not_limited_and_nobody_is_without_a_limit(peer: str, per_minute: int) -> None:
    world = World(per_minute=per_minute)
    await world.fails(replace(STRANGER, peer=peer, account="ada"), 100)

    assert world.records == []


@pytest.mark.parametrize(("unlimited", "peer"), [((), "127.0.0.1:1"), (("198.51.100.0/24",), "[::1]:1")])
async def test_which_networks_have_no_limit_can_be_said(unlimited: tuple[str, ...], peer: str) -> None:
    world = World(unlimited=unlimited)
    await world.fails(replace(STRANGER, peer=peer), 5)

    assert await world.waits_s(replace(STRANGER, peer=peer)) > 0
    if unlimited:
        await world.fails(STRANGER, 6)


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

    assert await world.waits_s(replace(STRANGER, peer="10.1.0.0")) == 0, "the first is forgotten"
    assert await world.waits_s(replace(STRANGER, peer="10.1.39.115")) > 0, "the last is not"


@pytest.mark.parametrize(
    ("peer", "network"),
    [
        ("198.51.100.7:4711", "198.51.100.7"),
        ("198.51.100.7", "198.51.100.7"),
        ("[2001:db8:0:1:2::3]:4711", "2001:db8:0:1::/64"),
        ("2001:db8:0:1:ffff::9", "2001:db8:0:1::/64"),
        ("::ffff:198.51.100.7", "198.51.100.7"),
        ("fe80::1%eth0", "fe80::/64"),
        ("127.0.0.9:1", "127.0.0.9"),
        ("", ""),
        ("unix", ""),
    ],
)
def test_failures_are_counted_by_address_and_by_network_of_ipv6(peer: str, network: str) -> None:
    assert network_of(address_of(peer)) == network
