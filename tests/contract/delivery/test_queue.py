"""The queue, on both engines: what is stored, who may take it, and who may write about it."""

import asyncio
from typing import Any

import pytest

from mailward.db.database import Database, Row, Transaction, open_database
from mailward.delivery import nodes, queue
from mailward.delivery.idempotency import Earlier
from mailward.delivery.lease import GivenBack, Lane, Lease, NewMessage, Owner, Replay
from mailward.delivery.queue import ClaimRequest, LeaseLost
from mailward.delivery.retry import RetryPolicy
from mailward.eventstore import store
from mailward.ids import InstanceId, UserId
from mailward.message import content
from tests.support.queued import CONTENT, HOUR, NOW, PROVIDER, SECOND, closing, mark, new_message, opening


async def living_node(database: Database, name: str = "a") -> Owner:
    return await database.write(nodes.register, name, NOW)


async def submit(database: Database, *messages: NewMessage) -> list[bool]:
    answers = await asyncio.gather(*[database.batch(queue.submit, message) for message in messages])
    assert not any(isinstance(answer, Earlier) for answer in answers)
    return [answer is True for answer in answers]


async def claim(database: Database, owner: Owner, **changes: Any) -> list[Lease]:
    values: dict[str, Any] = {"owner": owner, "now_us": NOW, "messages": 1_000, "content_bytes": 1 << 30}
    claimed = await database.write(queue.claim, ClaimRequest(**(values | changes)))
    return [lease for lease, _ in claimed.leases()]


def _recipients(tx: Transaction, message_id: int) -> list[Row]:
    return tx.fetch(
        """SELECT address, state, attempts, doubts, next_attempt_at_us, node, epoch FROM recipients
            WHERE message_id = :id ORDER BY n""",
        id=message_id,
    )


def _attempts(tx: Transaction, message_id: int) -> list[Row]:
    return tx.fetch(
        "SELECT id, provider_id, closed_at_us, results FROM attempts WHERE message_id = :id ORDER BY id", id=message_id
    )


async def recipients(database: Database, message: NewMessage) -> list[Row]:
    return await database.read(_recipients, message.id)


async def attempts(database: Database, message: NewMessage) -> list[Row]:
    return await database.read(_attempts, message.id)


# -- submit -----------------------------------------------------------------------------------------------------------


async def test_a_submission_outlives_the_process(database_url: str) -> None:
    message = new_message("a@example.net", "b@example.net", tags='["order"]')
    first = await open_database(database_url)
    await submit(first, message)
    await first.aclose()

    again = await open_database(database_url)
    owner = await living_node(again)
    [lease] = await claim(again, owner)
    await again.aclose()

    assert lease.content == CONTENT
    assert lease.envelope.recipients == ("a@example.net", "b@example.net")
    assert lease.envelope.reverse_path == "shop@example.com"


@pytest.mark.parametrize("count", [1, 2, 3, 31, 128, 129, 300])
async def test_a_batch_of_any_size_stores_everything_once(database: Database, count: int) -> None:
    owner = await living_node(database)
    messages = [new_message(*[f"r{n}@example.net" for n in range(1 + number % 5)]) for number in range(count)]

    await submit(database, *messages)

    leases = {lease.message_id: lease for lease in await claim(database, owner)}
    assert {id: lease.envelope.recipients for id, lease in leases.items()} == {m.id: m.addresses for m in messages}


async def test_a_submission_with_an_owner_is_leased_by_the_same_commit(database: Database) -> None:
    owner = await living_node(database)
    attempt = mark()
    message = new_message("a@example.net", "b@example.net", owner=owner, mark=attempt)

    assert await submit(database, message) == [True]

    assert await claim(database, owner) == []
    assert [row[1:] for row in await recipients(database, message)] == [("sending", 0, 0, None, *owner)] * 2
    assert await attempts(database, message) == [(attempt.attempt_id, PROVIDER, None, None)]


async def test_a_submission_whose_owner_is_dead_waits_for_the_living(database: Database) -> None:
    """Nobody would recover a lease that was written after its node was recovered."""
    old = await living_node(database)
    now = await living_node(database)
    messages = [new_message(owner=old, mark=mark()), new_message(owner=now), new_message()]

    assert await submit(database, *messages) == [False, True, False]

    claimed = {lease.message_id for lease in await claim(database, now)}
    assert claimed == {messages[0].id, messages[2].id}
    assert await attempts(database, messages[0]) == []


async def test_a_message_that_cannot_be_stored_takes_no_other_with_it(database: Database) -> None:
    owner = await living_node(database)
    twin, other = new_message(id=220_000_000_000_000_000), new_message()
    await submit(database, twin)

    results = await asyncio.gather(
        *[database.batch(queue.submit, message) for message in (twin, other)], return_exceptions=True
    )

    assert isinstance(results[0], Exception)
    assert results[1] is False
    assert {lease.message_id for lease in await claim(database, owner)} == {twin.id, other.id}


# -- claim ------------------------------------------------------------------------------------------------------------


async def test_the_one_that_has_waited_longest_comes_first(database: Database) -> None:
    owner = await living_node(database)
    late, early = new_message(created_at_us=NOW), new_message(created_at_us=NOW - SECOND)
    await submit(database, late, early)

    assert [lease.message_id for lease in await claim(database, owner, messages=1)] == [early.id]


async def test_lanes_are_claimed_in_their_order(database: Database) -> None:
    owner = await living_node(database)
    bulk = new_message(lane=Lane.BULK, created_at_us=NOW - HOUR)
    plain, otp = new_message(created_at_us=NOW - SECOND), new_message(lane=Lane.OTP)
    await submit(database, bulk, plain, otp)

    first = await claim(database, owner, messages=2)

    assert [lease.message_id for lease in first] == [otp.id, plain.id]
    assert await claim(database, owner, rooms={Lane.OTP: (9, 9_000), Lane.TRANSACTIONAL: (9, 9_000)}) == []
    assert [lease.message_id for lease in await claim(database, owner)] == [bulk.id]


async def test_what_is_not_due_is_not_claimed_and_the_claim_says_when_it_will_be(database: Database) -> None:
    owner = await living_node(database)
    await submit(database, new_message(created_at_us=NOW + 5), new_message(created_at_us=NOW + 3, lane=Lane.BULK))

    request = ClaimRequest(owner=owner, now_us=NOW, messages=10, content_bytes=10_000)
    claimed = await database.write(queue.claim, request)

    assert list(claimed.leases()) == []
    assert claimed.more == frozenset()
    assert claimed.next_due_at_us == {Lane.TRANSACTIONAL: NOW + 5, Lane.BULK: NOW + 3}


async def test_a_claim_takes_no_more_content_than_asked_but_always_one_message(database: Database) -> None:
    """A message larger than the room in memory must not wait for ever."""
    owner = await living_node(database)
    await submit(database, *[new_message(content=b"x" * 1_000, created_at_us=NOW - n) for n in range(5)])

    assert len(await claim(database, owner, content_bytes=2_500)) == 2
    assert len(await claim(database, owner, content_bytes=10)) == 1


async def test_a_large_content_is_read_apart_from_its_claim(database: Database) -> None:
    owner = await living_node(database)
    large, small = new_message(content=b"x" * 100_000), new_message(content=b"y" * 1_000)
    await submit(database, large, small)

    request = queue.ClaimRequest(owner=owner, now_us=NOW, messages=10, content_bytes=1 << 20)
    claimed = await database.write(queue.claim, request)

    assert [(len(lease.content), unread) for lease, unread in claimed.leases()] == [(0, 100_000), (1_000, 0)]
    assert await database.read(content.read, large.id) == large.content


async def test_two_claimers_never_get_the_same_recipient(database_url: str) -> None:
    first, second = await open_database(database_url), await open_database(database_url)
    a, b = await living_node(first, "a"), await living_node(second, "b")
    messages = [new_message("a@example.net", "b@example.net") for _ in range(200)]
    await submit(first, *messages)

    async def claim_all(database: Database, owner: Owner) -> list[Lease]:
        taken: list[Lease] = []
        while leases := await claim(database, owner, messages=7):
            taken += leases
        return taken

    taken = [lease for leases in await asyncio.gather(claim_all(first, a), claim_all(second, b)) for lease in leases]
    taken += await claim(first, a)  # what one skipped because the other looked at it
    await first.aclose()
    await second.aclose()

    keys = [(lease.message_id, due.n) for lease in taken for due in lease.due]
    assert len(keys) == len(set(keys)) == 400


async def test_only_the_recipients_that_are_due_are_leased(database: Database) -> None:
    owner = await living_node(database)
    message = new_message("a@example.net", "b@example.net", "c@example.net", owner=owner)
    await submit(database, message)
    attempt = mark()
    await database.batch(queue.open_attempts, opening(message, attempt, owner))
    ended = ((0, "accepted", None, 0), (1, "deferred", NOW + 60, 0), (2, "uncertain", NOW + 90, 1))
    await database.batch(queue.close_attempts, closing(message, attempt, owner, *ended))

    assert await claim(database, owner, now_us=NOW + 59) == []
    [lease] = await claim(database, owner, now_us=NOW + 60)
    [other] = await claim(database, owner, now_us=NOW + 90)

    assert (lease.envelope.recipients, lease.due) == (("b@example.net",), ((1, 1, 0),))
    assert (other.envelope.recipients, other.due) == (("c@example.net",), ((2, 1, 1),))


async def test_a_lifetime_that_passed_in_the_queue_ends_without_an_attempt(database: Database) -> None:
    owner = await living_node(database)
    dead, alive = new_message(expires_at_us=NOW), new_message()
    await submit(database, dead, alive)

    claimed = await database.write(
        queue.claim, ClaimRequest(owner=owner, now_us=NOW, messages=10, content_bytes=10_000)
    )

    assert [lease.message_id for lease, _ in claimed.leases()] == [alive.id]
    assert [(expiry.message_id, expiry.status) for expiry in claimed.expired] == [(dead.id, "expired")]
    assert (await recipients(database, dead))[0][1] == "expired"


async def test_a_doubt_whose_lifetime_passed_is_held_not_expired(database: Database) -> None:
    """Expired would say that it was not handed over."""
    owner = await living_node(database)
    message, attempt = new_message(owner=owner), mark()
    await submit(database, message)
    await database.batch(queue.open_attempts, opening(message, attempt, owner))
    await database.batch(queue.close_attempts, closing(message, attempt, owner, (0, "uncertain", NOW + 1, 1)))

    assert await claim(database, owner, now_us=message.expires_at_us) == []

    [row] = await recipients(database, message)
    assert row[1:5] == ("uncertain", 1, 1, None)


async def test_without_a_provider_lifetimes_pass_too(database: Database) -> None:
    dead, alive = new_message(expires_at_us=NOW), new_message()
    await submit(database, dead, alive)

    expired = await database.write(queue.expire, NOW, 100)

    assert [expiry.message_id for expiry in expired] == [dead.id]
    assert (await recipients(database, alive))[0][1] == "queued"


async def test_a_message_whose_content_has_gone_expires(database: Database) -> None:
    owner = await living_node(database)
    gone, kept = new_message(), new_message()
    await submit(database, gone, kept)
    await database.write(_remove_content, gone.id)

    assert [lease.message_id for lease in await claim(database, owner)] == [kept.id]

    assert (await recipients(database, gone))[0][1] == "expired"
    assert await database.read(content.read, kept.id) == CONTENT


def _remove_content(tx: Transaction, id: int) -> None:
    tx.execute("DELETE FROM contents WHERE id = :id", id=id)


async def test_a_dead_node_claims_nothing(database: Database) -> None:
    old = await living_node(database)
    await living_node(database)
    await submit(database, new_message())

    with pytest.raises(LeaseLost):
        await claim(database, old)


# -- attempts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 3, 17, 300])
async def test_attempts_of_any_number_open_and_close(database: Database, count: int) -> None:
    owner = await living_node(database)
    messages = [new_message(*[f"r{n}@example.net" for n in range(1 + i % 3)], owner=owner) for i in range(count)]
    marks = [mark() for _ in messages]
    await submit(database, *messages)

    pairs = list(zip(messages, marks, strict=True))
    opened = await asyncio.gather(*[database.batch(queue.open_attempts, opening(m, k, owner)) for m, k in pairs])
    closed = await asyncio.gather(*[database.batch(queue.close_attempts, closing(m, k, owner)) for m, k in pairs])

    assert opened == closed == [True] * count
    for message, attempt in pairs:
        assert [row[1:] for row in await recipients(database, message)] == [
            ("accepted", 1, 0, None, None, None) for _ in message.addresses
        ]
        assert await attempts(database, message) == [(attempt.attempt_id, PROVIDER, NOW + SECOND, "[]")]


async def test_opening_twice_is_opening_once(database: Database) -> None:
    """A commit may have been stored although it failed."""
    owner = await living_node(database)
    message, attempt = new_message(owner=owner), mark()
    await submit(database, message)

    for _ in range(2):
        assert await database.batch(queue.open_attempts, opening(message, attempt, owner))

    assert len(await attempts(database, message)) == 1


async def test_a_node_thought_dead_writes_nothing(database: Database) -> None:
    old = await living_node(database)
    message, other, attempt = new_message(owner=old), new_message(owner=old), mark()
    await submit(database, message, other)
    await database.batch(queue.open_attempts, opening(message, attempt, old))
    now = await living_node(database)
    await database.write(queue.recover, now, RetryPolicy(), NOW)
    before = [await recipients(database, message), await attempts(database, message)]

    assert await database.batch(queue.close_attempts, closing(message, attempt, old)) is False
    assert await database.batch(queue.open_attempts, opening(other, mark(), old)) is False

    assert [await recipients(database, message), await attempts(database, message)] == before
    assert await attempts(database, other) == []


async def test_an_attempt_is_closed_once(database: Database) -> None:
    owner = await living_node(database)
    message, attempt = new_message(owner=owner), mark()
    await submit(database, message)
    await database.batch(queue.open_attempts, opening(message, attempt, owner))

    assert await database.batch(queue.close_attempts, closing(message, attempt, owner)) is True
    assert await database.batch(queue.close_attempts, closing(message, attempt, owner)) is False


# -- replay -----------------------------------------------------------------------------------------------------------


def _events(tx: Transaction) -> list[tuple[str, dict[str, Any]]]:
    return [(event.type, event.payload) for event in store.read_all(tx)]


async def test_a_replay_is_on_record_only_together_with_its_submission(database: Database) -> None:
    old = new_message()
    replay = Replay(old.id, InstanceId("1"), UserId("2"), "")
    await submit(database, old)

    with pytest.raises(Exception):  # noqa: B017 its id is taken: what the engine says of that
        await submit(database, new_message(id=old.id, replay=replay))
    assert await database.read(_events) == []

    await submit(database, new_message("a@example.net", "b@example.net", replay=replay))
    assert await database.read(_events) == [("queue.messages.replayed", {"message": str(old.id), "count": 2})]


# -- giving back, recovering ------------------------------------------------------------------------------------------


async def test_what_is_given_back_untried_is_due_at_once_and_was_never_attempted(database: Database) -> None:
    owner = await living_node(database)
    attempt = mark()
    message = new_message("a@example.net", "b@example.net", owner=owner, mark=attempt)
    await submit(database, message)

    await database.write(queue.give_back, [GivenBack(message.id, owner, (0, 1), attempt, NOW)])

    assert await attempts(database, message) == []
    assert [row[1:] for row in await recipients(database, message)] == [("queued", 0, 0, NOW, None, None)] * 2


async def test_recovery_queues_what_was_not_handed_over_and_doubts_the_rest(database: Database) -> None:
    old = await living_node(database)
    waiting, on_the_wire = new_message(owner=old), new_message("a@example.net", "b@example.net", owner=old)
    done = new_message(owner=old)
    others = new_message(owner=await living_node(database, "b"))
    await submit(database, waiting, on_the_wire, done, others)
    attempt, finished = mark(), mark()
    await database.batch(queue.open_attempts, opening(on_the_wire, attempt, old))
    await database.batch(queue.open_attempts, opening(done, finished, old))
    await database.batch(queue.close_attempts, closing(done, finished, old))

    now = await living_node(database)
    found = await database.write(queue.recover, now, RetryPolicy(), NOW)

    assert (found.queued, found.uncertain) == (1, 2)
    assert [row[1:] for row in await recipients(database, waiting)] == [("queued", 0, 0, NOW, None, None)]
    assert [row[1:] for row in await recipients(database, on_the_wire)] == [
        ("uncertain", 1, 1, NOW + 60 * SECOND, None, None)
    ] * 2
    assert (await recipients(database, done))[0][1] == "accepted"
    assert (await recipients(database, others))[0][1] == "sending"
    [(_, _, closed_at_us, results)] = await attempts(database, on_the_wire)
    assert closed_at_us == NOW
    assert results.count('"uncertain"') == 2


async def test_recovery_of_an_attempt_for_some_recipients_leaves_the_others_alone(database: Database) -> None:
    """Two recipients of a message may be in the hands of two attempts."""
    old = await living_node(database)
    message, attempt = new_message("a@example.net", "b@example.net", owner=old), mark()
    await submit(database, message)
    await database.batch(queue.open_attempts, opening(message, attempt, old, ns=(1,)))

    await database.write(queue.recover, await living_node(database), RetryPolicy(), NOW)

    assert [row[1] for row in await recipients(database, message)] == ["queued", "uncertain"]


@pytest.mark.parametrize(
    ("retries", "own", "next_at_us"),
    [(0, None, None), (1, None, NOW + 60 * SECOND), (1, 0, None), (0, 1, NOW + 60 * SECOND)],
)
async def test_recovery_follows_the_policy_of_doubt(
    database: Database, retries: int, own: int | None, next_at_us: int | None
) -> None:
    old = await living_node(database)
    message = new_message(owner=old, mark=mark(), uncertain_retries=own)
    await submit(database, message)

    policy = RetryPolicy(uncertain_retries=retries)
    await database.write(queue.recover, await living_node(database), policy, NOW)

    assert [row[1:5] for row in await recipients(database, message)] == [("uncertain", 1, 1, next_at_us)]


async def test_recovery_leaves_an_earlier_doubt_in_doubt(database: Database) -> None:
    """The copy of then may have arrived, though the attempt that was cut off now had handed nothing over."""
    old = await living_node(database)
    message, attempt = new_message(owner=old), mark()
    await submit(database, message)
    await database.batch(queue.open_attempts, opening(message, attempt, old))
    await database.batch(queue.close_attempts, closing(message, attempt, old, (0, "uncertain", NOW, 1)))
    assert len(await claim(database, old)) == 1

    found = await database.write(queue.recover, await living_node(database), RetryPolicy(), NOW)

    assert (found.queued, found.uncertain) == (1, 0)
    assert [row[1:5] for row in await recipients(database, message)] == [("uncertain", 1, 1, NOW)]


async def test_a_lease_that_memory_does_not_know_is_given_back(database: Database) -> None:
    """Its commit failed and was stored all the same."""
    owner = await living_node(database)
    unknown = new_message("a@example.net", "b@example.net", owner=owner, mark=mark(), id=100)
    known = new_message(owner=owner, id=101)
    await submit(database, unknown, known)

    given_back = await database.write(queue.reconcile, owner, frozenset({(101, 0)}), NOW)

    assert given_back == 2
    assert [row[1] for row in await recipients(database, unknown)] == ["queued"] * 2
    assert await attempts(database, unknown) == []
    assert (await recipients(database, known))[0][1] == "sending"
