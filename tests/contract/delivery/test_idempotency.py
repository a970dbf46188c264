"""One message for each idempotency key, on both engines, also across nodes."""

import asyncio

import pytest

from mailward.db.database import Database, Transaction, open_database
from mailward.delivery import queue
from mailward.delivery.idempotency import Earlier, Idempotency, keyed
from mailward.errors import IdempotencyConflict, InvalidArgument
from mailward.ids import UserId
from tests.support.gateway import running_gateway
from tests.support.queued import new_message

ORDER = keyed("order-17", [b"content"])


def _counts(tx: Transaction) -> list[int]:
    rows = [tx.fetch_one(f"SELECT count(*) FROM {table}") for table in ("contents", "messages", "recipients")]
    return [row[0] for row in rows if row is not None]


async def test_a_hundred_equal_submissions_at_once_make_one_message_and_get_equal_answers(database: Database) -> None:
    async with running_gateway(database, None) as gateway:
        ids = await asyncio.gather(*[gateway.hand_in(idempotency=ORDER) for _ in range(100)])
        again = await gateway.hand_in(idempotency=ORDER)

    assert set(ids) == {again}
    assert await database.read(_counts) == [1, 1, 1]


async def test_equal_submissions_at_two_nodes_make_one_message(database_url: str) -> None:
    first, second = await open_database(database_url), await open_database(database_url)
    messages = [new_message(key=f"k{n % 20}", fingerprint="f") for n in range(200)]

    answers = await asyncio.gather(
        *[(first, second)[n % 2].batch(queue.submit, message) for n, message in enumerate(messages)]
    )
    counts = await first.read(_counts)
    await first.aclose()
    await second.aclose()

    made = {message.key: message.id for message, answer in zip(messages, answers, strict=True) if answer is False}
    assert (len(made), counts) == (20, [20, 20, 20])
    for message, answer in zip(messages, answers, strict=True):
        assert answer is False or answer == Earlier(made[message.key], True)


async def test_something_else_under_a_key_is_a_conflict_and_leaves_nothing(database: Database) -> None:
    async with running_gateway(database, None) as gateway:
        await gateway.hand_in(idempotency=ORDER)
        with pytest.raises(IdempotencyConflict):
            await gateway.hand_in(idempotency=keyed("order-17", [b"other"]))

    assert await database.read(_counts) == [1, 1, 1]


async def test_each_user_has_keys_of_its_own(database: Database) -> None:
    async with running_gateway(database, None) as gateway:
        mine = await gateway.hand_in(idempotency=ORDER)
        other = await gateway.hand_in(idempotency=keyed("order-17", [b"other"]), sender=UserId("2"))

    assert mine != other


async def test_a_refused_submission_takes_no_key(database: Database) -> None:
    """The key is taken in the commit that stores the message, or not at all."""
    async with running_gateway(database, None) as gateway:
        with pytest.raises(InvalidArgument):
            await gateway.hand_in(idempotency=ORDER, subject="\ud800")
        await gateway.hand_in(idempotency=keyed("order-17", [b"other"]))

    assert await database.read(_counts) == [1, 1, 1]


async def test_keys_and_no_keys_in_one_commit_each_get_their_own_answer(database: Database) -> None:
    messages = [new_message(key=key, fingerprint="f") for key in ("", "a", "a", "", "b", "a")]

    answers = await asyncio.gather(*[database.batch(queue.submit, message) for message in messages])

    first = Earlier(messages[1].id, True)
    assert answers == [False, False, first, False, False, first]


@pytest.mark.parametrize("key", ["", "x" * 257, "ü", "a\nb"])
def test_a_key_is_printable_and_short(key: str) -> None:
    with pytest.raises(InvalidArgument):
        keyed(key, [])


def test_the_fingerprint_knows_where_a_part_ends() -> None:
    assert keyed("k", [b"ab", b"c"]) != keyed("k", [b"a", b"bc"])
    assert keyed("k", [b"a"]) == Idempotency("k", keyed("k", [b"a"]).fingerprint)
