"""Mail that a node holds is canceled until its attempt is open, whichever node that is; on both engines."""

import asyncio

import pytest

from mailward.db.database import Database, open_database
from mailward.delivery import nodes, operators, queue
from mailward.delivery.lease import Lane, Owner
from mailward.delivery.operators import START, Act, QueueFilter, Treatment
from mailward.errors import Conflict
from mailward.ids import InstanceId, MessageId, UserId
from tests.support.gateway import relay_at, running_gateway
from tests.support.queued import NOW, mark, new_message, opening
from tests.support.smtp_servers import Fault, scripted_server
from tests.support.waiting import PATIENCE_S, until

ACT = Act(instance=InstanceId("100000000000000001"), editor=UserId("300000000000000009"), at_us=NOW)


async def cancel(database: Database, id: MessageId, address: str = "") -> int:
    return await database.write(operators.treat_message, ACT, Treatment.CANCEL, id, address)


async def cancel_all(database: Database, filter: QueueFilter) -> int:
    count, cursor = 0, START
    while True:
        step = await database.write(operators.step, ACT, Treatment.CANCEL, filter, cursor, operation="1", dry_run=False)
        count += step.count
        if step.cursor is None:
            return count
        cursor = step.cursor


async def holder(database: Database, name: str = "other") -> Owner:
    return await database.write(nodes.register, name, NOW)


async def test_what_another_node_holds_is_canceled_and_that_node_is_told_when_it_would_begin(
    database: Database,
) -> None:
    other = await holder(database)
    message = new_message(owner=other)
    await database.batch(queue.submit, message)

    assert await cancel(database, message.id) == 1

    attempt = opening(message, mark(), other)
    assert await database.batch(queue.open_attempts, attempt) is None
    with pytest.raises(Conflict, match="canceled"):
        await cancel(database, message.id)


async def test_what_is_open_is_not_canceled(database: Database) -> None:
    other = await holder(database)
    first, second = new_message(owner=other), new_message(owner=other, mark=mark())
    await asyncio.gather(*[database.batch(queue.submit, message) for message in (first, second)])
    assert await database.batch(queue.open_attempts, opening(first, mark(), other)) is True

    for message in (first, second):
        with pytest.raises(Conflict, match="at this moment"):
            await cancel(database, message.id)
    assert await cancel_all(database, QueueFilter()) == 0


async def test_many_are_canceled_by_filter_whoever_holds_them(database: Database) -> None:
    a, b = await holder(database, "a"), await holder(database, "b")
    owners = [a, b, None]
    messages = [
        new_message(owner=owners[n % 3], lane=Lane.BULK if n % 2 else Lane.OTP)
        for n in range(2 * operators.SCANNED + 10)
    ]
    await asyncio.gather(*[database.batch(queue.submit, message) for message in messages])

    half = len(messages) // 2
    assert await cancel_all(database, QueueFilter(lane=Lane.BULK)) == half
    assert await cancel_all(database, QueueFilter()) == half


async def test_the_other_recipients_of_a_message_are_sent_all_the_same(database: Database) -> None:
    async with (
        scripted_server({"MAIL": [Fault.HANG, b"250 ok\r\n"]}) as server,
        running_gateway(database, relay_at(server.port, max_connections=1)) as gateway,
    ):
        on_the_wire = asyncio.gather(gateway.hand_in("busy@example.net"))
        id = await gateway.hand_in("a@example.net", "b@example.net")
        await on_the_wire
        await until(lambda: any(line.startswith("MAIL") for line in server.commands))

        await cancel(database, id, "b@example.net")
        server.hang_up()
        async with asyncio.timeout(PATIENCE_S):
            while [one.status.value for one in (await gateway.view(id)).recipients] != ["accepted", "canceled"]:
                await asyncio.sleep(0.01)


async def test_canceling_and_opening_at_once_never_both_succeed(database_url: str) -> None:
    mine = await open_database(database_url)
    theirs = mine if mine.dialect == "sqlite" else await open_database(database_url)
    other = await holder(theirs)
    messages = [new_message(owner=other) for _ in range(300)]
    await asyncio.gather(*[theirs.batch(queue.submit, message) for message in messages])

    async def cancel_each() -> list[bool]:
        canceled = []
        for message in reversed(messages):
            try:
                canceled.append(await cancel(mine, message.id) == 1)
            except Conflict:
                canceled.append(False)
        return canceled[::-1]

    async def open_in_batches() -> list[bool]:
        opened: list[bool | None] = []
        for first in range(0, len(messages), 3):
            batch = [opening(message, mark(), other) for message in messages[first : first + 3]]
            opened += await asyncio.gather(*[theirs.batch(queue.open_attempts, one) for one in batch])
        return [is_open is True for is_open in opened]

    canceled, opened = await asyncio.gather(cancel_each(), open_in_batches())
    await mine.aclose()
    await theirs.aclose()

    assert [not done for done in canceled] == opened
    assert any(canceled)
    assert any(opened)
