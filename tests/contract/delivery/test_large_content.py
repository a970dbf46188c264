"""Large contents: stored in pieces before their message, sent in pieces, and gone with it; on both engines."""

import asyncio
from typing import Any

import pytest

from mailward.db.database import Database, Transaction, open_database
from mailward.delivery import queue, succession
from mailward.delivery.housekeeping import Housekeeper, Keep
from mailward.delivery.idempotency import keyed
from mailward.delivery.retry import RetryPolicy
from mailward.errors import Unavailable
from mailward.ids import EPOCH_MS, MessageId
from mailward.message import content
from mailward.message.content import PIECE_BYTES, Piece, cut
from tests.support.gateway import relay_at, running_gateway
from tests.support.queued import CONTENT, NOW, new_message
from tests.support.smtp_servers import scripted_server

DAY = 86_400_000_000
#: Dots at line starts wherever it is cut.
LARGE = CONTENT + b".\r\n..\r\n.two\r\n" * (3 * PIECE_BYTES // 13)

_NO_LIMIT: Any = {"EHLO": b"250-sink.test\r\n250 PIPELINING\r\n"}


def _pieces(tx: Transaction) -> list[int]:
    return [n for (n,) in tx.fetch("SELECT n FROM content_pieces ORDER BY message_id, n")]


async def _upload(database: Database, id: MessageId, whole: bytes = LARGE) -> bytes:
    """Store all of `whole` but its end; return that."""
    *pieces, end = cut([whole])
    await asyncio.gather(*[database.batch(content.add_pieces, Piece(id, n, body)) for n, body in enumerate(pieces)])
    return end


async def test_a_large_message_arrives_as_it_was_submitted(database: Database) -> None:
    async with scripted_server(_NO_LIMIT) as server, running_gateway(database, relay_at(server.port)) as gateway:
        id = await gateway.hand_in(content=LARGE)
        await gateway.worker.settled()
        view = await gateway.view(id)

    [arrived] = server.contents
    assert b"\r\n" + arrived == (b"\r\n" + LARGE).replace(b"\r\n.", b"\r\n..") + b".\r\n"
    assert view.size_bytes == len(LARGE)
    assert await database.read(content.read, id) == LARGE
    assert len(await database.read(_pieces)) >= 3


async def test_another_node_delivers_what_one_has_stored(database_url: str) -> None:
    """Every node reads the pieces from the store."""
    first, second = await open_database(database_url), await open_database(database_url)
    async with running_gateway(first, None) as gateway:
        await gateway.hand_in(content=LARGE)
    async with scripted_server(_NO_LIMIT) as server, running_gateway(second, relay_at(server.port)) as gateway:
        await gateway.worker.settled()
    await first.aclose()
    await second.aclose()

    assert len(server.contents) == 1
    assert len(server.contents[0]) > len(LARGE)


async def test_pieces_are_gone_once_the_submission_was_refused(database: Database) -> None:
    """A second submission under its key stores nothing, and a conflict neither."""
    key = keyed("order-17", [b"content"])
    async with running_gateway(database, None) as gateway:
        id = await gateway.hand_in(content=LARGE, idempotency=key)
        stored = await database.read(_pieces)
        again = await gateway.hand_in(content=LARGE, idempotency=key)
        await database.write(_pieces)  # What was asked for before has been done.

    assert again == id
    assert await database.read(_pieces) == stored


async def test_a_discard_leaves_what_was_submitted(database: Database) -> None:
    """Who discards may not know that the commit was stored after all."""
    message = new_message()
    end = await _upload(database, message.id)
    await database.batch(queue.submit, message._replace(content=end, stored_bytes=len(LARGE) - len(end)))

    await database.batch(content.discard, message.id)

    assert await database.read(content.read, message.id) == LARGE


async def test_a_message_is_not_stored_without_all_of_its_pieces(database: Database) -> None:
    message, other = new_message(), new_message()
    end = await _upload(database, message.id)
    lacking = message._replace(content=end, stored_bytes=len(LARGE) - len(end) + 1)

    refused, stored = await asyncio.gather(
        database.batch(queue.submit, lacking), database.batch(queue.submit, other), return_exceptions=True
    )

    assert isinstance(refused, LookupError)
    assert not isinstance(refused, Unavailable)
    assert stored is False
    assert await database.read(content.read, message.id) is None


async def test_orphans_are_swept_a_day_later_and_messages_are_not(database: Database) -> None:
    """Of a gateway that was killed between the pieces and the message's commit."""

    def at(us: int, n: int) -> MessageId:
        return MessageId(((us // 1_000 - EPOCH_MS) << 20) + n)

    orphan, young, message = at(NOW - 2 * DAY, 1), at(NOW - DAY // 2, 2), new_message(id=at(NOW - 2 * DAY, 3))
    for id in (orphan, young, message.id):
        end = await _upload(database, id)
    await database.batch(queue.submit, message._replace(content=end, stored_bytes=len(LARGE) - len(end)))

    await Housekeeper(database, Keep(content_days=0, message_days=0), lambda: NOW).tidy()

    stored = [await database.read(content.stored_bytes, id) for id in (orphan, young, message.id)]
    assert stored == [0, len(LARGE) - len(end), len(LARGE) - len(end)]


async def test_with_sqlite_a_start_sweeps_all_orphans(database: Database) -> None:
    """Nobody else can be uploading; with PostgreSQL another node may be."""
    await _upload(database, new_message().id)

    await database.write(succession.register, "a", RetryPolicy(), NOW)

    assert bool(await database.read(_pieces)) is (database.dialect == "postgresql")


async def test_pieces_go_with_their_content(database: Database) -> None:
    async with scripted_server(_NO_LIMIT) as server, running_gateway(database, relay_at(server.port)) as gateway:
        await gateway.hand_in(content=LARGE)
        await gateway.worker.settled()
    later = NOW + 10 * DAY

    await Housekeeper(database, Keep(content_days=7, message_days=0), lambda: later).tidy()

    assert await database.read(_pieces) == []


async def test_a_content_that_goes_while_it_is_sent_is_never_ended_by_a_dot(database: Database) -> None:
    """The provider would take what has come for all of it."""
    whole: Any = content.StoredContent(database, new_message().id, len(LARGE))

    with pytest.raises(LookupError):
        async for _ in whole.pieces():
            pass
    with pytest.raises(LookupError):
        await whole.whole()
