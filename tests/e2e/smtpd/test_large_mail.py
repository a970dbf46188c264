"""Large mail over SMTP: in pieces to the store, forgotten when it is not to be, and the same as any other mail."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from mailward.message.content import PIECE_BYTES, Uploaded
from tests.support.submission_door import SETTINGS, Client, PretendingHouse, open_door
from tests.support.waiting import until

_BEGIN = b"MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.com>\r\nDATA\r\n"
_HEADER = b"From: a@example.com\r\nBcc: eve@example.com\r\nSubject: s\r\nIdempotency-Key: k\r\n"
_LINES = b"..stuffed\r\n0123456789\r\n" * (3 * PIECE_BYTES // 23)


@pytest.fixture
async def house() -> PretendingHouse:
    return PretendingHouse()


@asynccontextmanager
async def _client(house: PretendingHouse) -> AsyncIterator[Client]:
    async with open_door(house, replace(SETTINGS, max_size_bytes=4 * PIECE_BYTES)) as (_, port):
        client = await Client.greeted(port)
        try:
            yield client
        finally:
            await client.close()


async def _send(client: Client, body: bytes) -> str:
    client.send(_BEGIN)
    await client.replies(3)
    client.send(_HEADER + b"\r\n" + body + b".\r\n")
    return await client.reply()


async def test_a_large_mail_is_completed_and_stored_in_pieces(house: PretendingHouse) -> None:
    async with _client(house) as client:
        assert (await _send(client, _LINES)).startswith("250 2.0.0")

    [submission] = house.submissions
    assert isinstance(submission.content, Uploaded)
    assert submission.subject == "s"
    whole = house.content()
    assert len(whole) == len(submission.content)
    assert whole.startswith(b"Received: from client.example")
    assert b"eve@example.com" not in whole
    assert b"Message-ID: <" in whole
    assert whole.endswith(b"\r\n\r\n" + _LINES.replace(b"..", b"."))


async def test_the_same_large_mail_has_the_same_fingerprint(house: PretendingHouse) -> None:
    """Whatever its Date; and another mail has another one."""
    async with _client(house) as client:
        await _send(client, _LINES)
        client.send(_BEGIN)
        await client.replies(3)
        client.send(b"Date: Tue, 24 Nov 2026 09:30:00 +0000\r\n" + _HEADER + b"\r\n" + _LINES + b".\r\n")
        await client.reply()
        await _send(client, _LINES + b"!\r\n")

    first, same, other = (one.idempotency for one in house.submissions)
    assert first is not None
    assert first == same
    assert first != other


@pytest.mark.parametrize(
    ("bad", "answer"),
    [(b"bare\n\r\n", "550 5.6.11"), (b"\0\r\n", "550 5.6.0"), (b"x" * 999 + b"\r\n", "554"), (_LINES, "552")],
)
async def test_what_is_wrong_far_behind_refuses_all_of_it(house: PretendingHouse, bad: bytes, answer: str) -> None:
    """And leaves nothing in the store; the session goes on."""
    async with _client(house) as client:
        assert (await _send(client, _LINES + bad)).startswith(answer)
        assert (await _send(client, b"small\r\n")).startswith("250 2.0.0")

    assert house.pieces == {}
    assert len(house.submissions) == 1


async def test_a_mail_without_from_is_read_to_its_end_and_refused(house: PretendingHouse) -> None:
    async with _client(house) as client:
        client.send(_BEGIN)
        await client.replies(3)
        client.send(b"Subject: s\r\n\r\n" + _LINES + b".\r\n")
        assert (await client.reply()).startswith("550 5.6.0 the message has no From")

    assert house.pieces == {}


async def test_a_client_that_goes_away_in_the_middle_leaves_nothing(house: PretendingHouse) -> None:
    async with open_door(house) as (_, port):
        client = await Client.greeted(port)
        client.send(_BEGIN + _HEADER + b"\r\n" + _LINES)
        await until(lambda: house.pieces)
        client.writer.transport.abort()
        await until(lambda: not house.pieces)

    assert house.submissions == []
