"""What is old and finished goes; what waits or is in doubt stays, however old; on both engines."""

import asyncio

from mailward.db.database import Database, Transaction
from mailward.delivery import nodes, queue, retention
from mailward.delivery.housekeeping import WHOLE_EVERY_S, Housekeeper, Keep
from mailward.delivery.idempotency import KEPT_US, Earlier
from mailward.delivery.lease import NewMessage
from mailward.ids import MessageId
from tests.support.queued import NOW, closing, mark, new_message, opening

DAY = 86_400_000_000


def _left(tx: Transaction) -> dict[str, list[int]]:
    columns = {"contents": "id", "messages": "id", "recipients": "message_id", "attempts": "message_id"}
    return {
        table: [id for (id,) in tx.fetch(f"SELECT DISTINCT {id} FROM {table} ORDER BY {id}")]
        for table, id in columns.items()
    }


def _finish(tx: Transaction, id: int) -> None:
    tx.execute("UPDATE recipients SET state = 'accepted', next_attempt_at_us = NULL WHERE message_id = :id", id=id)


async def _end(database: Database, message: NewMessage, state: str, next_at_us: int | None = None) -> NewMessage:
    """Store `message`, lease it, and end its attempt in `state`."""
    owner = await database.write(nodes.register, "a", NOW)
    message = message._replace(node=owner.node, epoch=owner.epoch)
    await database.batch(queue.submit, message)
    attempt = mark()
    await database.batch(queue.open_attempts, opening(message, attempt, owner))
    await database.batch(
        queue.close_attempts, closing(message, attempt, owner, (0, state, next_at_us, int(state == "uncertain")))
    )
    return message


def _keeper(database: Database, *, content_days: int = 0, message_days: int = 0) -> Housekeeper:
    keep = Keep(content_days=content_days, message_days=message_days)
    return Housekeeper(database, keep, lambda: NOW, rest=lambda took_s, overdue_s: 0.0)


async def _some_of_each(database: Database) -> dict[str, NewMessage]:
    old, n = NOW - 10 * DAY, iter(range(100))

    def at(created_us: int) -> NewMessage:
        return new_message(id=retention.id_at(created_us) + next(n), created_at_us=created_us)

    messages = {
        state: await _end(database, at(old), state, next_at)
        for state, next_at in (("accepted", None), ("bounced", None), ("uncertain", None), ("deferred", NOW + DAY))
    }
    messages["young"] = await _end(database, at(NOW - DAY), "accepted")
    messages["queued"] = at(old)
    await database.batch(queue.submit, messages["queued"])
    owner = await database.write(nodes.register, "a", NOW)
    messages["leased"] = at(old)._replace(node=owner.node, epoch=owner.epoch)
    await database.batch(queue.submit, messages["leased"])
    return messages


async def test_old_content_of_finished_messages_goes_and_nothing_else(database: Database) -> None:
    messages = await _some_of_each(database)

    await _keeper(database, content_days=7).tidy()

    left = await database.read(_left)
    kept = sorted(message.id for state, message in messages.items() if state not in ("accepted", "bounced"))
    assert left["contents"] == kept
    assert left["messages"] == sorted(message.id for message in messages.values())


async def test_old_finished_messages_go_with_everything_of_theirs(database: Database) -> None:
    messages = await _some_of_each(database)

    await _keeper(database, message_days=7).tidy()

    left = await database.read(_left)
    kept = sorted(message.id for state, message in messages.items() if state not in ("accepted", "bounced"))
    assert left["messages"] == left["recipients"] == left["contents"] == kept
    assert set(left["attempts"]) <= set(kept)


async def test_nothing_goes_unless_asked_for(database: Database) -> None:
    await _some_of_each(database)
    before = await database.read(_left)

    await _keeper(database).tidy()

    assert await database.read(_left) == before


async def test_many_go_in_small_steps(database: Database) -> None:
    """Two messages that are larger than a step is, and more small ones than one step looks at."""
    old = NOW - 10 * DAY
    owner = await database.write(nodes.register, "a", NOW)
    sizes = [10] * 450 + [retention._AT_ONCE_BYTES // 2 + 1] * 3
    messages = [
        new_message(id=retention.id_at(old) + n, created_at_us=old, content=b"x" * size, owner=owner)
        for n, size in enumerate(sizes)
    ]
    attempts = [mark() for _ in messages]
    await asyncio.gather(*[database.batch(queue.submit, message) for message in messages])
    for message, attempt in zip(messages, attempts, strict=True):
        database.batch(queue.open_attempts, opening(message, attempt, owner))
    await asyncio.gather(
        *[
            database.batch(queue.close_attempts, closing(message, attempt, owner))
            for message, attempt in zip(messages, attempts, strict=True)
        ]
    )
    before = database.commits

    await _keeper(database, content_days=7).tidy()

    assert (await database.read(_left))["contents"] == []
    assert database.commits - before >= 4


async def test_keys_go_after_72_hours(database: Database) -> None:
    ids = {"old": retention.id_at(NOW - KEPT_US) - 1, "young": retention.id_at(NOW - KEPT_US)}
    for key, id in ids.items():
        await database.batch(queue.submit, new_message(key=key, id=id))

    await _keeper(database).tidy()

    assert await database.batch(queue.submit, new_message(key="old")) is False
    assert await database.batch(queue.submit, new_message(key="young")) == Earlier(MessageId(ids["young"]), True)


async def test_what_was_unfinished_when_the_walk_came_by_goes_when_it_begins_anew(database: Database) -> None:
    old, now = new_message(id=retention.id_at(NOW - 10 * DAY)), NOW
    await database.batch(queue.submit, old)
    keeper = Housekeeper(database, Keep(content_days=0, message_days=7), lambda: now)
    await keeper.tidy()
    await database.write(_finish, old.id)

    await keeper.tidy()
    before = await database.read(_left)
    now += int(WHOLE_EVERY_S * 1e6)
    await keeper.tidy()

    assert before["messages"] == [old.id]
    assert (await database.read(_left))["messages"] == []


async def test_of_several_nodes_the_first_that_lives_keeps_house(database: Database) -> None:
    first, second = [await database.write(nodes.register, name, NOW) for name in "ab"]

    assert await database.read(nodes.first) == first.node

    await database.write(nodes.leave, first, 0)
    assert await database.read(nodes.first) == second.node
