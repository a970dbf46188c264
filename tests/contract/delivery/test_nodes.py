"""Nodes on both engines: who lives, who has died, who recovers what it held; and clocks that jump."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import psycopg
import pytest

from mailward.db.database import Database, Row, Transaction, open_database
from mailward.db.transaction import Contended
from mailward.delivery import nodes, queue
from mailward.delivery.lease import Mark, NewMessage, Owner
from mailward.delivery.life import Life, Pace, Watch
from mailward.delivery.nodes import Neighbour
from mailward.delivery.queue import ClaimRequest
from mailward.delivery.retry import RetryPolicy
from mailward.errors import ResourceExhausted
from mailward.ids import COMMAND_NODES
from tests.support.queued import HOUR, NOW, SECOND, closing, mark, new_message, opening
from tests.support.waiting import PATIENCE_S

PACE = Pace(heartbeat_s=2.0, dead_after_s=10.0)
POLICY = RetryPolicy(uncertain_retries=0)


@dataclass
class Clock:
    """Two clocks: one that people set, and one that only runs forward."""

    now_us: int = NOW
    monotonic: float = 1000.0

    def run(self, seconds: float) -> None:
        self.now_us += int(seconds * SECOND)
        self.monotonic += seconds


@dataclass
class Node:
    """A life and what it was told about its next ones."""

    life: Life
    clock: Clock
    reborn: list[Owner] = field(default_factory=list)

    @property
    def owner(self) -> Owner:
        return self.life.owner

    async def beat(self) -> None:
        async def reborn(owner: Owner) -> None:
            self.reborn.append(owner)

        await self.life.beat(reborn)


async def new_node(database: Database, name: str, clock: Clock | None = None) -> Node:
    clock = clock or Clock()
    life = Life(
        database, name, POLICY, now_us=lambda: clock.now_us, monotonic=lambda: clock.monotonic, pace=PACE
    )  # fmt: skip
    await life.begin()
    return Node(life, clock)


async def pass_beats(clock: Clock, seconds: float, *nodes: Node) -> None:
    """Let `seconds` pass, in which `nodes` live and beat, and nobody else does."""
    for _ in range(round(seconds / PACE.heartbeat_s)):
        clock.run(PACE.heartbeat_s)
        for node in nodes:
            await node.beat()


def _recipients(tx: Transaction, message_id: int) -> list[Row]:
    return tx.fetch("SELECT state, node, epoch FROM recipients WHERE message_id = :id ORDER BY n", id=message_id)


def _is_buried(tx: Transaction, node: int) -> bool:
    return tx.fetch("SELECT living FROM nodes WHERE id = :id", id=node) == [(0,)]


# -- names, ids, epochs -----------------------------------------------------------------------------------------------


async def test_each_node_has_an_id_of_its_own_and_each_life_an_epoch(database: Database) -> None:
    a, b = [await database.write(nodes.register, name, NOW) for name in "ab"]
    again = await database.write(nodes.register, "a", NOW)

    assert a.node != b.node
    assert again == Owner(a.node, a.epoch + 1)
    assert await database.write(nodes.heartbeat, a, NOW, 1) is None
    assert await database.write(nodes.heartbeat, again, NOW, 1) == [Neighbour(b.node, b.epoch, 0)]


async def test_a_gateway_never_gets_the_number_of_a_command_and_the_row_of_one_that_left_is_used_again(
    database: Database,
) -> None:
    owners = [await database.write(nodes.register, f"node {n}", NOW) for n in range(COMMAND_NODES)]
    assert {owner.node for owner in owners} == set(range(COMMAND_NODES))
    with pytest.raises(ResourceExhausted):
        await database.write(nodes.register, "one too many", NOW)

    await database.write(nodes.leave, owners[7], 0)
    newcomer = await database.write(nodes.register, "newcomer", NOW)

    # The epochs go on: what the former holder of the number still tries to write stays void.
    assert newcomer == Owner(owners[7].node, owners[7].epoch + 1)


async def test_a_node_that_leaves_while_it_holds_something_is_left_for_recovery(database: Database) -> None:
    a, b = await new_node(database, "a"), await new_node(database, "b")
    message = new_message(owner=a.owner)
    await database.batch(queue.submit, message)

    await database.write(nodes.leave, a.owner, 0)
    await pass_beats(b.clock, 14, b)

    if database.dialect == "postgresql":
        assert await database.read(_recipients, message.id) == [("queued", None, None)]


async def test_of_two_processes_under_one_name_the_earlier_one_takes_another(database: Database) -> None:
    """A copied data dir must not make two nodes end each other's lives for ever."""
    first = await new_node(database, "twin")
    second = await new_node(database, "twin")
    first.life.ids()

    for _ in range(3):
        await first.beat()
        await second.beat()

    assert len(first.reborn) == 1
    assert second.reborn == []
    assert first.owner.node != second.owner.node


# -- death and recovery -----------------------------------------------------------------------------------------------


async def test_a_dead_nodes_leases_are_recovered_by_exactly_one_of_the_living(database: Database) -> None:
    """Untouched mail is queued; handed-over mail is in doubt, and with uncertain_retries = 0 held."""
    clock = Clock()
    dead, b, c = [await new_node(database, name, clock) for name in ("dead", "b", "c")]
    queued, doubtful = new_message(owner=dead.owner), new_message(owner=dead.owner, mark=mark())
    for message in (queued, doubtful):
        await database.batch(queue.submit, message)

    await pass_beats(clock, 8, b, c)
    early = await database.read(_recipients, queued.id)
    await pass_beats(clock, 6, b, c)

    assert early == [("sending", *dead.owner)]
    if database.dialect == "sqlite":  # One process owns the file: nobody else is there to bury anybody.
        return
    assert await database.read(_recipients, queued.id) == [("queued", None, None)]
    assert await database.read(_recipients, doubtful.id) == [("uncertain", None, None)]
    assert b.reborn == c.reborn == []


async def test_a_node_thought_dead_cannot_write_and_begins_another_life(database: Database) -> None:
    if database.dialect == "sqlite":
        return
    clock = Clock()
    frozen, b = await new_node(database, "frozen", clock), await new_node(database, "b", clock)
    former = frozen.owner
    message, attempt = new_message(owner=former), mark()
    await database.batch(queue.submit, message)
    await pass_beats(clock, 14, b)

    assert not frozen.life.is_sure()
    assert not await database.batch(queue.open_attempts, opening(message, attempt, former))
    assert not await database.batch(queue.close_attempts, closing(message, attempt, former))
    assert not await database.batch(queue.submit, new_message(owner=former))
    with pytest.raises(queue.LeaseLost):
        await database.write(queue.claim, ClaimRequest(owner=former, now_us=NOW, messages=1, content_bytes=1 << 20))

    await frozen.beat()

    assert frozen.reborn == [frozen.owner]
    assert frozen.owner > former
    assert frozen.life.is_sure()
    request = ClaimRequest(owner=frozen.owner, now_us=clock.now_us + SECOND, messages=9, content_bytes=1 << 20)
    assert len((await database.write(queue.claim, request)).messages) == 2


async def test_an_outcome_that_arrives_before_the_burial_counts_and_one_after_it_does_not(database_url: str) -> None:
    """Whoever locks a recipient first decides; never both. The server may break a deadlock: then it is tried again."""
    if database_url.startswith("sqlite"):
        return
    database, other = [await open_database(database_url) for _ in range(2)]
    clock = Clock()
    frozen, b = await new_node(database, "frozen", clock), await new_node(other, "b", clock)
    pairs = [(new_message(owner=frozen.owner, mark=attempt), attempt) for attempt in [mark() for _ in range(40)]]
    await asyncio.gather(*[database.batch(queue.submit, message) for message, _ in pairs])
    await pass_beats(clock, 10, b)

    clock.run(PACE.heartbeat_s)

    async def close(message: NewMessage, attempt: Mark) -> bool:
        while True:
            with suppress(Contended):
                return await database.batch(queue.close_attempts, closing(message, attempt, frozen.owner))

    async def bury() -> None:
        while not await other.read(_is_buried, frozen.owner.node):
            with suppress(Contended):
                await b.beat()

    _, *closed = await asyncio.gather(bury(), *[close(message, attempt) for message, attempt in pairs])

    for (message, _), is_closed in zip(pairs, closed, strict=True):
        state = "accepted" if is_closed else "uncertain"
        assert await other.read(_recipients, message.id) == [(state, None, None)]
    await database.aclose()
    await other.aclose()


async def test_the_locks_of_a_node_frozen_inside_a_transaction_hold_up_nobody_elses_mail(database_url: str) -> None:
    if database_url.startswith("sqlite"):
        return
    database = await open_database(database_url, statement_timeout_s=120)
    clock = Clock()
    frozen, b = await new_node(database, "frozen", clock), await new_node(database, "b", clock)
    await pass_beats(clock, 10, b)
    with psycopg.connect(database_url) as inside:
        inside.execute("SELECT 1 FROM nodes WHERE id = %s FOR SHARE", (frozen.owner.node,))
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(pass_beats(clock, 2, b), database.batch(queue.submit, new_message()))
        assert not await database.read(_is_buried, frozen.owner.node)

    await pass_beats(clock, 2, b)

    assert await database.read(_is_buried, frozen.owner.node)
    await database.aclose()


# -- the watch --------------------------------------------------------------------------------------------------------


def watched(*beats: int) -> Callable[[Watch, float], list[list[int]]]:
    """Let a watch look every 2 s at one neighbour with these beats."""

    def look(watch: Watch, start: float) -> list[list[int]]:
        return [
            [dead.beat for dead in watch.dead([Neighbour(1, 1, beat)], start + 2 * turn)]
            for turn, beat in enumerate(beats)
        ]

    return look


def test_a_neighbour_is_dead_once_it_was_seen_to_stand_still_for_long_enough() -> None:
    assert watched(5, 6, 6, 6, 6, 6, 6, 6)(Watch(PACE), 0.0) == [[], [], [], [], [], [], [6], [6]]


def test_a_neighbour_that_moves_now_and_then_lives() -> None:
    assert watched(1, 1, 1, 2, 2, 2, 3, 3, 3)(Watch(PACE), 0.0) == [[]] * 9


def test_after_a_gap_in_its_own_sight_a_watch_begins_anew() -> None:
    """The database was gone for a minute: nobody could beat, so nobody is dead."""
    watch = Watch(PACE)
    watched(1, 1, 1, 1)(watch, 0.0)

    assert watched(1, 1, 1, 1)(watch, 66.0) == [[]] * 4


# -- clocks that jump -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("jump_s", [3600, -3600])
async def test_a_jump_of_the_clock_kills_nobody(database: Database, jump_s: int) -> None:
    clocks = Clock(), Clock()
    a, b = [await new_node(database, name, clock) for name, clock in zip("ab", clocks, strict=True)]
    message = new_message(owner=a.owner)
    await database.batch(queue.submit, message)

    for turn in range(12):
        for node in (a, b):
            node.clock.run(2.0)
            if turn == 4:
                node.clock.now_us += (1 if node is a else -1) * jump_s * SECOND
            node.life.ids()
            await node.beat()

    assert a.reborn == b.reborn == []
    assert await database.read(_recipients, message.id) == [("sending", *a.owner)]


async def test_ids_never_repeat_over_a_restart_with_the_clock_set_back(database: Database) -> None:
    clock = Clock()
    first = await new_node(database, "a", clock)
    drawn = {first.life.ids() for _ in range(5000)}
    await first.beat()
    clock.run(1.0)
    drawn |= {first.life.ids() for _ in range(5000)}  # No heartbeat tells of these.

    clock.now_us -= HOUR
    second = await new_node(database, "a", clock)
    ids = [second.life.ids() for _ in range(5000)]

    assert drawn.isdisjoint(ids)
    assert min(ids) > max(drawn)


async def test_ids_go_on_above_the_newest_message_whoever_stored_it(database: Database) -> None:
    message = new_message(id=(1 << 62) + 5)
    await database.batch(queue.submit, message)

    node = await new_node(database, "a")

    assert node.life.ids() > message.id


async def test_a_lone_node_that_does_nothing_writes_nothing(database: Database) -> None:
    if database.dialect == "postgresql":
        return
    node = await new_node(database, "a")
    await node.beat()
    before = database.commits

    await node.beat()

    assert database.commits == before
    assert node.life.is_sure()
