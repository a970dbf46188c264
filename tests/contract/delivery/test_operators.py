"""The operator's hand in the queue, on both engines, beside a working worker."""

import asyncio
from typing import Any

import pytest

from mailward.db.database import Database, Transaction
from mailward.delivery import operators, queries, queue
from mailward.delivery.control import Control
from mailward.delivery.lease import Lane
from mailward.delivery.operators import QueueFilter, Treatment
from mailward.delivery.retry import RetryPolicy
from mailward.delivery.status import Status
from mailward.delivery.views import MessageFilter, MessageView
from mailward.errors import Conflict, InvalidArgument, NotFound
from mailward.ids import InstanceId, MessageId, UserId
from tests.support import events as stored_events
from tests.support.gateway import Gateway, relay_at, running_gateway
from tests.support.queued import CONTENT, NOW, SECOND, new_message
from tests.support.smtp_servers import Fault, Script, scripted_server
from tests.support.waiting import until

INSTANCE, OPERATOR = InstanceId("100000000000000001"), UserId("300000000000000009")
HOLD = RetryPolicy(uncertain_retries=0)
DROPPED: Script = {"FINAL": Fault.DROP}


def control_of(gateway: Gateway) -> Control:
    return Control(
        gateway.database,
        gateway.worker,
        gateway.submissions,
        instance=INSTANCE,
        draw_id=lambda: MessageId(gateway.ids()),
        now_us=lambda: gateway.now_us,
    )


def states(view: MessageView) -> list[str]:
    return [recipient.status.value for recipient in view.recipients]


async def recorded(database: Database) -> list[tuple[str, str, dict[str, Any]]]:
    events = await database.read(stored_events.stream, operators.AGGREGATE_TYPE, INSTANCE)
    return [(event.type, event.editor, event.payload) for event in events]


# -- one message ------------------------------------------------------------------------------------------------------


async def test_a_waiting_message_is_canceled_never_sent_and_on_record(database: Database) -> None:
    async with scripted_server() as server, running_gateway(database, None) as gateway:
        id = await gateway.hand_in("a@example.net", "b@example.net")
        one = await gateway.hand_in("a@example.net", "b@example.net")
        await control_of(gateway).treat(Treatment.CANCEL, id, OPERATOR)
        await control_of(gateway).treat(Treatment.CANCEL, one, OPERATOR, "B@example.net")
        gateway.relay = relay_at(server.port)
        await gateway.pass_time(1)
        views = [await gateway.view(id), await gateway.view(one)]

    assert [states(view) for view in views] == [["canceled", "canceled"], ["accepted", "canceled"]]
    assert [line for line in server.commands if line.startswith("RCPT")] == ["RCPT TO:<a@example.net>"]
    assert await recorded(database) == [
        ("queue.recipients.canceled", OPERATOR, {"message": str(id), "count": 2}),
        ("queue.recipients.canceled", OPERATOR, {"message": str(one), "recipient": "B@example.net", "count": 1}),
    ]


async def test_a_message_that_was_handed_over_is_not_canceled(database: Database) -> None:
    async with scripted_server() as server, running_gateway(database, relay_at(server.port)) as gateway:
        id = await gateway.hand_in()
        await gateway.worker.settled()

        with pytest.raises(Conflict, match="accepted"):
            await control_of(gateway).treat(Treatment.CANCEL, id, OPERATOR)
        with pytest.raises(NotFound):
            await control_of(gateway).treat(Treatment.CANCEL, MessageId(1), OPERATOR)
        with pytest.raises(NotFound):
            await control_of(gateway).treat(Treatment.CANCEL, id, OPERATOR, "nobody@example.net")

    assert await recorded(database) == []


async def test_what_is_on_the_wire_is_not_canceled_and_what_waits_behind_it_in_memory_is(database: Database) -> None:
    """A lease belongs to its node: only the node knows that a message has not been begun."""
    async with (
        scripted_server({"MAIL": Fault.HANG}) as server,
        running_gateway(database, relay_at(server.port, max_connections=1)) as gateway,
    ):
        first, second = await asyncio.gather(gateway.hand_in(), gateway.hand_in())
        await until(lambda: any(line.startswith("MAIL") for line in server.commands))
        with pytest.raises(Conflict, match="at this moment"):
            await control_of(gateway).treat(Treatment.CANCEL, first, OPERATOR)
        await control_of(gateway).treat(Treatment.CANCEL, second, OPERATOR)
        assert states(await gateway.view(second)) == ["canceled"]


async def test_canceling_while_the_worker_sends_leaves_each_message_either_sent_or_canceled(database: Database) -> None:
    async with (
        scripted_server() as server,
        running_gateway(database, relay_at(server.port, max_connections=4)) as gateway,
    ):
        contents = [CONTENT + b"%d\r\n" % n for n in range(300)]
        ids = await asyncio.gather(*[gateway.hand_in(content=content) for content in contents])
        canceled = await control_of(gateway).treat_all(Treatment.CANCEL, QueueFilter(), OPERATOR, dry_run=False)
        await gateway.worker.settled()
        found = [states(await gateway.view(id))[0] for id in ids]

    assert found.count("accepted") + found.count("canceled") == 300
    assert (len(server.contents), canceled) == (found.count("accepted"), found.count("canceled"))
    assert {content.removesuffix(b".\r\n") for content in server.contents} == {
        content for content, state in zip(contents, found, strict=True) if state == "accepted"
    }


async def test_a_deferred_message_is_tried_now(database: Database) -> None:
    script: Script = {"FINAL": [b"451 4.3.1 busy\r\n", b"250 2.0.0 kept\r\n"]}
    async with scripted_server(script) as server, running_gateway(database, relay_at(server.port)) as gateway:
        id = await gateway.hand_in()
        await gateway.worker.settled()
        assert states(await gateway.view(id)) == ["deferred"]

        await control_of(gateway).treat(Treatment.RETRY, id, OPERATOR)
        await gateway.worker.settled()

        assert states(await gateway.view(id)) == ["accepted"]
        with pytest.raises(Conflict):
            await control_of(gateway).treat(Treatment.RETRY, id, OPERATOR)


# -- doubts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("treatment", "state", "copies"),
    [
        (Treatment.RESOLVE_ACCEPTED, "accepted", 1),
        (Treatment.RESOLVE_RETRY, "accepted", 2),
        (Treatment.RESOLVE_CANCEL, "canceled", 1),
    ],
)
async def test_a_doubt_is_listed_and_resolved(
    database: Database, treatment: Treatment, state: str, copies: int
) -> None:
    script: Script = {"FINAL": [Fault.DROP, b"250 2.0.0 kept\r\n"]}
    async with (
        scripted_server(script) as server,
        running_gateway(database, relay_at(server.port), policy=HOLD) as gateway,
    ):
        id = await gateway.hand_in()
        await gateway.worker.settled()
        listed = await database.read(queries.list_messages, MessageFilter(status=Status.UNCERTAIN), 10)
        assert [(view.id, view.recipients[0].held) for view in listed.messages] == [(id, True)]
        for wrong in (Treatment.CANCEL, Treatment.RETRY):
            with pytest.raises(Conflict, match="doubt"):
                await control_of(gateway).treat(wrong, id, OPERATOR)

        await control_of(gateway).treat(treatment, id, OPERATOR)
        await gateway.worker.settled()

        assert states(await gateway.view(id)) == [state]
        assert len(server.contents) == copies
        with pytest.raises(Conflict, match="no doubt"):
            await control_of(gateway).treat(treatment, id, OPERATOR)
        listed = await database.read(queries.list_messages, MessageFilter(status=Status.UNCERTAIN), 10)
        assert (listed.messages, listed.cursor) == ((), "")


async def test_a_doubt_past_its_lifetime_is_not_tried_again(database: Database) -> None:
    async with (
        scripted_server(DROPPED) as server,
        running_gateway(database, relay_at(server.port), policy=HOLD) as gateway,
    ):
        id = await gateway.hand_in(lifetime_s=60)
        await gateway.worker.settled()
        await gateway.pass_time(61)

        with pytest.raises(Conflict, match="replay"):
            await control_of(gateway).treat(Treatment.RESOLVE_RETRY, id, OPERATOR)
        assert await control_of(gateway).replay(id, OPERATOR) != id


# -- replay -----------------------------------------------------------------------------------------------------------


async def test_a_replay_is_a_new_message_with_the_same_content_and_a_link(database: Database) -> None:
    script: Script = {"FINAL": [b"554 5.7.1 no\r\n", b"250 2.0.0 kept\r\n"]}
    async with scripted_server(script) as server, running_gateway(database, relay_at(server.port)) as gateway:
        old = await gateway.hand_in("a@example.net", "b@example.net", tags=("order",), lane=Lane.BULK)
        await gateway.worker.settled()
        new = await control_of(gateway).replay(old, OPERATOR, ("b@example.net",))
        await gateway.worker.settled()
        before, after = await gateway.view(old), await gateway.view(new)

    assert [content.removesuffix(b".\r\n") for content in server.contents] == [CONTENT, CONTENT]
    assert (states(before), states(after)) == (["bounced", "bounced"], ["accepted"])
    assert (after.replay_of, before.replay_of) == (old, None)
    assert (after.tags, after.lane, after.sender) == (("order",), "bulk", before.sender)
    assert await recorded(database) == [("queue.messages.replayed", OPERATOR, {"message": str(old), "count": 1})]


async def test_what_may_still_be_sent_is_not_replayed(database: Database) -> None:
    async with running_gateway(database, None) as gateway:
        id = await gateway.hand_in()
        with pytest.raises(Conflict):
            await control_of(gateway).replay(id, OPERATOR)
        with pytest.raises(NotFound):
            await control_of(gateway).replay(id, OPERATOR, ("nobody@example.net",))


async def test_many_are_replayed_by_their_final_state(database: Database) -> None:
    refused: list[bytes | Fault] = [b"550 5.1.1 no\r\n"] * 3
    script: Script = {"RCPT": [*refused, b"250 2.1.5 ok\r\n"]}
    async with scripted_server(script) as server, running_gateway(database, relay_at(server.port)) as gateway:
        for n in range(3):
            await gateway.hand_in(f"r{n}@example.net")
            await gateway.worker.settled()
        await gateway.hand_in("fine@example.net")
        control, bounced = control_of(gateway), QueueFilter(status=Status.BOUNCED)

        assert await control.replay_all(bounced, OPERATOR, dry_run=True) == 3
        assert await control.replay_all(bounced, OPERATOR, dry_run=False) == 3
        assert await control.replay_all(bounced, OPERATOR, dry_run=False) == 0
        await gateway.worker.settled()
        with pytest.raises(InvalidArgument):
            await control.replay_all(QueueFilter(tag="x"), OPERATOR, dry_run=True)

    assert len(list(filter(None, server.contents))) == 4


# -- many -------------------------------------------------------------------------------------------------------------

FILTERS = [
    (QueueFilter(), 6),
    (QueueFilter(domain="example.net"), 5),
    (QueueFilter(domain="example.org"), 1),
    (QueueFilter(tag="news"), 1),
    (QueueFilter(lane=Lane.BULK), 1),
    (QueueFilter(lane=Lane.OTP, tag="news"), 0),
    (QueueFilter(since_us=NOW + 10), 1),
    (QueueFilter(until_us=NOW), 1),
    (QueueFilter(status=Status.QUEUED), 6),
    (QueueFilter(status=Status.DEFERRED), 0),
    (QueueFilter(provider_id="227654321098765432"), 0),
]


@pytest.mark.parametrize(("filter", "count"), FILTERS, ids=lambda value: str(getattr(value, "described", str)()))
async def test_a_filter_counts_and_then_does_what_it_counted(
    database: Database, filter: QueueFilter, count: int
) -> None:
    messages = [
        new_message("a@example.net", "b@Example.NET"),
        new_message("a@example.org", tags='["news","new"]'),
        new_message("a@example.net", lane=Lane.BULK),
        new_message("a@example.net", created_at_us=NOW + 10),
        new_message("a@example.net", created_at_us=NOW - 10),
    ]
    async with running_gateway(database, None) as gateway:
        for message in messages:
            await database.batch(queue.submit, message)
        control = control_of(gateway)

        assert await control.treat_all(Treatment.CANCEL, filter, OPERATOR, dry_run=True) == count
        assert await recorded(database) == []
        assert await control.treat_all(Treatment.CANCEL, filter, OPERATOR, dry_run=False) == count
        assert await control.treat_all(Treatment.CANCEL, QueueFilter(), OPERATOR, dry_run=True) == 6 - count

    events = await recorded(database)
    assert sum(payload["count"] for _, _, payload in events) == count
    assert all(payload["filter"] == filter.described() for _, _, payload in events)


def _defer_all(tx: Transaction) -> None:
    tx.execute(
        """UPDATE recipients SET state = 'deferred', attempts = 1,
                                 next_attempt_at_us = :at_us + (message_id % 300)""",
        at_us=NOW + 100 * SECOND,
    )


async def test_many_more_than_a_step_takes_are_tried_now_once_each(database: Database) -> None:
    """What the walk makes due must not be met by it again."""
    messages = [new_message() for _ in range(2 * operators.SCANNED + 10)]
    await asyncio.gather(*[database.batch(queue.submit, message) for message in messages])
    await database.write(_defer_all)
    async with running_gateway(database, None) as gateway:
        control = control_of(gateway)

        assert await control.treat_all(Treatment.RETRY, QueueFilter(), OPERATOR, dry_run=False) == len(messages)
        assert await control.treat_all(Treatment.RETRY, QueueFilter(), OPERATOR, dry_run=True) == 0

    operations = {payload["operation"] for _, _, payload in await recorded(database)}
    assert len(operations) == 1


async def test_doubts_through_one_provider_are_resolved_together(database: Database) -> None:
    async with (
        scripted_server(DROPPED) as server,
        running_gateway(database, relay_at(server.port), policy=HOLD) as gateway,
    ):
        ids = await asyncio.gather(*[gateway.hand_in() for _ in range(5)])
        await gateway.worker.settled()
        control = control_of(gateway)
        through, other = QueueFilter(provider_id=relay_at(1).provider_id), QueueFilter(provider_id="1")

        assert await control.treat_all(Treatment.RESOLVE_ACCEPTED, other, OPERATOR, dry_run=False) == 0
        assert await control.treat_all(Treatment.RESOLVE_ACCEPTED, through, OPERATOR, dry_run=False) == 5
        assert {states(await gateway.view(id))[0] for id in ids} == {"accepted"}
