"""What is asked about messages, on both engines."""

import asyncio
from typing import Any

import pytest

from mailward.db.database import Database
from mailward.delivery import nodes, queries, queue
from mailward.delivery.lease import NewMessage
from mailward.delivery.status import Status
from mailward.delivery.views import MessageFilter, MessagePage
from mailward.errors import InvalidArgument, NotFound
from mailward.ids import EPOCH_MS, MessageId, UserId
from tests.support.queued import HOUR, NOW, closing, mark, new_message, opening


def id_at(at_us: int) -> int:
    return (at_us // 1_000 - EPOCH_MS) << 20


async def submit(database: Database, *messages: NewMessage) -> None:
    await asyncio.gather(*[database.batch(queue.submit, message) for message in messages])


async def listed(database: Database, page_size: int = 50, cursor: str = "", **filter: Any) -> MessagePage:
    return await database.read(queries.list_messages, MessageFilter(**filter), page_size, cursor)


def ids(page: MessagePage) -> list[int]:
    return [view.id for view in page.messages]


async def test_a_message_shows_what_was_submitted(database: Database) -> None:
    message = new_message("a@example.net", tags='["order","\\"odd\\""]', metadata='{"cart":"17"}', smtputf8=True)
    await submit(database, message)

    view = await database.read(queries.get_message, message.id, None)

    assert (view.tags, view.metadata, view.subject) == (("order", '"odd"'), {"cart": "17"}, "Your order")
    assert (view.smtputf8, view.lane, view.size_bytes) == (True, "transactional", len(message.content))
    assert (view.created_at_us, view.expires_at_us, view.status) == (NOW, NOW + 72 * HOUR, Status.QUEUED)


async def test_a_sender_finds_its_own_messages_only(database: Database) -> None:
    """Another's message is as if it did not exist."""
    mine, other = new_message(sender="1"), new_message(sender="2")
    await submit(database, mine, other)

    assert (await database.read(queries.get_message, mine.id, UserId("1"))).id == mine.id
    for id in (other.id, MessageId(5)):
        with pytest.raises(NotFound):
            await database.read(queries.get_message, id, UserId("1"))
    assert ids(await listed(database, sender=UserId("1"))) == [mine.id]


async def test_pages_go_from_the_newest_to_the_oldest_and_miss_nothing_that_was_there(database: Database) -> None:
    messages = [new_message(id=100 + n) for n in range(25)]
    await submit(database, *messages)

    first = await listed(database, 10)
    await submit(database, new_message(id=900))
    second = await listed(database, 10, first.cursor)
    third = await listed(database, 10, second.cursor)

    assert ids(first) + ids(second) + ids(third) == [message.id for message in reversed(messages)]
    assert third.cursor == ""


async def test_filters_add_up(database: Database) -> None:
    owner = await database.write(nodes.register, "a", NOW)
    bounced = new_message("Ada@example.net", tags='["order"]', owner=owner)
    queued = new_message("ada@example.net", "bob@example.net", tags='["order","a%b"]')
    other = new_message("eve@example.net", tags='["offer"]')
    await submit(database, bounced, queued, other)
    attempt = mark()
    await database.batch(queue.open_attempts, opening(bounced, attempt, owner))
    await database.batch(queue.close_attempts, closing(bounced, attempt, owner, (0, "bounced", None, 0)))

    assert ids(await listed(database, status=Status.BOUNCED)) == [bounced.id]
    assert ids(await listed(database, recipient="ADA@example.net")) == [queued.id, bounced.id]
    assert ids(await listed(database, tag="order", status=Status.QUEUED)) == [queued.id]
    assert ids(await listed(database, tag="a%b")) == [queued.id]
    assert ids(await listed(database, tag="a_b")) == []
    assert ids(await listed(database, tag="ord")) == []
    assert ids(await listed(database, tag="offer", recipient="bob@example.net")) == []


async def test_times_are_from_the_first_to_before_the_second(database: Database) -> None:
    hours = [NOW + n * HOUR for n in range(6)]
    messages = [new_message(created_at_us=at_us, id=id_at(at_us)) for at_us in hours]
    await submit(database, *messages)

    page = await listed(database, since_us=hours[2], until_us=hours[4])

    assert ids(page) == [messages[3].id, messages[2].id]


async def test_a_scan_is_bounded_and_goes_on_with_the_cursor(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rare match far back costs calls, never a stalled reader."""
    monkeypatch.setattr(queries, "_SCANNED", 10)
    rare = new_message("rare@example.net", id=100)
    await submit(database, rare, *[new_message(id=200 + n) for n in range(25)])

    found: list[int] = []
    cursor, calls = "", 0
    while calls == 0 or cursor:
        page = await listed(database, 5, cursor, recipient="rare@example.net")
        found, cursor, calls = found + ids(page), page.cursor, calls + 1

    assert (found, calls) == ([rare.id], 3)


@pytest.mark.parametrize("cursor", ["x", "AAAA", "!!!!!!!!!!!", "_________w8"])
async def test_a_cursor_of_another_list_is_refused(database: Database, cursor: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        await listed(database, cursor=cursor)

    assert refused.value.pointer == "/page_token"
