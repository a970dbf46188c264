"""The MessageService's handlers, from request to store and back, on both engines."""

import asyncio
from collections.abc import AsyncIterator
from email import message_from_bytes, policy
from typing import Any

import pytest

from mailward.access.roles import MESSAGE_READ, MESSAGE_READ_ALL
from mailward.access.tokens import Caller
from mailward.api.messages import MessageLimits, Messages
from mailward.db.database import Database
from mailward.delivery.views import VEIL
from mailward.errors import IdempotencyConflict, InvalidArgument, NotFound, ResourceExhausted
from mailward.ids import UserId, parse_message_id
from mailward.message import content
from mailward.proto.mailward.v1 import messages_pb2 as proto
from mailward.rpc.service import Call
from tests.support.gateway import Gateway, running_gateway

PARTS: dict[str, Any] = {"from": "Shop <shop@example.com>", "to": ["ada@example.net"], "subject": "Hi", "text": "Hello"}


def call_of(user: str, *, all: bool = False) -> Call:
    permissions = frozenset({MESSAGE_READ, MESSAGE_READ_ALL} if all else {MESSAGE_READ})
    caller = Caller(UserId(user), "1", user, frozenset(), permissions, False)
    return Call("/mailward.v1.MessageService/X", {}, "rest", caller=caller)


@pytest.fixture
async def gateway(database: Database) -> AsyncIterator[Gateway]:
    async with running_gateway(database, None) as running:
        yield running


@pytest.fixture
def messages(gateway: Gateway) -> Messages:
    return Messages(
        gateway.database,
        gateway.submissions,
        draw_id=gateway.ids,
        now_us=lambda: gateway.now_us,
        hostname="gateway.test",
        waits_for=lambda: "no active provider",
        limits=MessageLimits(message_bytes=200_000),
    )


async def stored(gateway: Gateway, id: str) -> Any:
    number = parse_message_id(id)
    assert number is not None
    raw = await gateway.database.read(content.read, number)
    assert raw is not None
    return message_from_bytes(raw, policy=policy.default)


async def test_a_message_in_parts_is_composed_stored_and_shown(gateway: Gateway, messages: Messages) -> None:
    request = proto.SendMessageRequest(**PARTS, tags=["order"], metadata={"cart": "17"}, bcc=["eve@example.net"])

    sent = await messages.send_message(request, call_of("1"))
    shown = await messages.get_message(proto.GetMessageRequest(id=sent.id), call_of("1"))

    mail = await stored(gateway, sent.id)
    assert sent.state == "queued"
    assert (mail["Subject"], mail["To"], mail["Bcc"]) == ("Hi", "ada@example.net", None)
    assert sent.id in mail["Message-ID"]
    assert (shown.state, shown.waiting_for, getattr(shown, "from")) == (
        "queued",
        VEIL,
        "shop@example.com",
    )
    assert [recipient.address for recipient in shown.recipients] == ["ada@example.net", "eve@example.net"]
    assert (list(shown.tags), dict(shown.metadata)) == (["order"], {"cart": "17"})


async def test_a_large_message_is_composed_beside_the_event_loop(gateway: Gateway, messages: Messages) -> None:
    attachment = proto.Attachment(name="a.bin", content=bytes(100_000))

    sent = await messages.send_message(proto.SendMessageRequest(**PARTS, attachments=[attachment]), call_of("1"))

    mail = await stored(gateway, sent.id)
    assert next(mail.iter_attachments()).get_content() == bytes(100_000)


async def test_a_raw_message_keeps_its_content_and_loses_bcc(gateway: Gateway, messages: Messages) -> None:
    raw = b"From: shop@example.com\r\nBcc: eve@example.net\r\nSubject: Raw\r\n\r\nHello\r\n"
    envelope = proto.Envelope(to=["ada@example.net"], **{"from": "bounces@example.com"})

    sent = await messages.send_message(proto.SendMessageRequest(raw=raw, envelope=envelope), call_of("1"))

    mail = await stored(gateway, sent.id)
    assert (mail["Subject"], mail["Bcc"], mail.get_content()) == ("Raw", None, "Hello\r\n")
    shown = await messages.get_message(proto.GetMessageRequest(id=sent.id), call_of("1"))
    assert (shown.subject, getattr(shown, "from")) == ("Raw", "bounces@example.com")


OPTIONS = (
    b"From: shop@example.com\r\nX-Mailward-Lane: otp\r\nX-Mailward-Tag: login\r\nX-Mailward-TTL: 300\r\n"
    b"Subject: Raw\r\n\r\nHello\r\n"
)
TO_ADA = proto.Envelope(to=["ada@example.net"])


async def test_a_raw_message_says_how_to_treat_it_as_at_the_smtp_door(gateway: Gateway, messages: Messages) -> None:
    plain = await messages.send_message(proto.SendMessageRequest(raw=OPTIONS, envelope=TO_ADA), call_of("1"))
    request = proto.SendMessageRequest(raw=OPTIONS, envelope=TO_ADA, lane="bulk", tags=["news"], ttl=60)
    overruled = await messages.send_message(request, call_of("1"))

    shown = [
        await messages.get_message(proto.GetMessageRequest(id=sent.id), call_of("1")) for sent in (plain, overruled)
    ]

    assert [(one.lane, list(one.tags)) for one in shown] == [("otp", ["login"]), ("bulk", ["news"])]
    assert [one.expires_at.seconds - one.created_at.seconds for one in shown] == [300, 60]
    assert "X-Mailward-Lane" not in await stored(gateway, plain.id)


async def test_a_key_in_a_raw_message_makes_one_message_of_many(messages: Messages) -> None:
    again = b"Idempotency-Key: order-17\r\n" + OPTIONS
    ids = set()
    for date in (b"Date: Wed, 25 Nov 2026 09:30:00 +0000\r\n", b"Date: Wed, 25 Nov 2026 09:31:00 +0000\r\n"):
        request = proto.SendMessageRequest(raw=date + again, envelope=TO_ADA)
        ids.add((await messages.send_message(request, call_of("1"))).id)

    assert len(ids) == 1
    other = proto.SendMessageRequest(raw=again.replace(b"Hello", b"Other"), envelope=TO_ADA)
    with pytest.raises(IdempotencyConflict):
        await messages.send_message(other, call_of("1"))


@pytest.mark.parametrize(
    "field",
    [
        b"X-Mailward-Lane: urgent",
        b"X-Mailward-TTL: soon",
        b"Idempotency-Key: ",
        b"X-Mailward-Lane: otp\r\nX-Mailward-Lane: otp",
    ],
)
async def test_an_option_that_cannot_be_read_is_refused_with_a_pointer(messages: Messages, field: bytes) -> None:
    raw = field + b"\r\nFrom: shop@example.com\r\n\r\nHello\r\n"

    with pytest.raises(InvalidArgument) as refused:
        await messages.send_message(proto.SendMessageRequest(raw=raw, envelope=TO_ADA), call_of("1"))

    assert refused.value.pointer == "/raw"


@pytest.mark.parametrize("raw", [b"From: a@example.com\n\nbare\n", b"Subject: no sender\r\n\r\n"])
async def test_a_raw_message_that_is_none_is_refused_with_a_pointer(messages: Messages, raw: bytes) -> None:
    envelope = proto.Envelope(to=["ada@example.net"])

    with pytest.raises(InvalidArgument) as refused:
        await messages.send_message(proto.SendMessageRequest(raw=raw, envelope=envelope), call_of("1"))

    assert refused.value.pointer == "/raw"


async def test_a_message_that_is_too_large_is_refused(messages: Messages) -> None:
    large = PARTS | {"text": "x" * 210_000}
    attachment = proto.Attachment(name="a.bin", content=bytes(210_000))

    for request in (
        proto.SendMessageRequest(**large),
        proto.SendMessageRequest(**PARTS, attachments=[attachment]),
    ):
        with pytest.raises(ResourceExhausted):
            await messages.send_message(request, call_of("1"))


async def test_a_sender_sees_its_own_messages_and_a_viewer_sees_all(messages: Messages) -> None:
    mine, other = [
        (await messages.send_message(proto.SendMessageRequest(**PARTS), call_of(user))).id for user in ("1", "2")
    ]

    listed = await messages.list_messages(proto.ListMessagesRequest(), call_of("1"))
    everything = await messages.list_messages(proto.ListMessagesRequest(page_size=1), call_of("3", all=True))
    rest = await messages.list_messages(
        proto.ListMessagesRequest(page_size=1, page_token=everything.next_page_token), call_of("3", all=True)
    )

    assert [message.id for message in listed.messages] == [mine]
    assert [message.id for message in (*everything.messages, *rest.messages)] == [other, mine]
    with pytest.raises(NotFound):
        await messages.get_message(proto.GetMessageRequest(id=other), call_of("1"))


@pytest.mark.parametrize("id", ["msg_1", "227654321098765432", "msg_227654321098765432"])
async def test_an_id_of_nothing_is_not_found(messages: Messages, id: str) -> None:
    with pytest.raises(NotFound):
        await messages.get_message(proto.GetMessageRequest(id=id), call_of("1", all=True))


async def test_submissions_at_once_get_ids_of_their_own(messages: Messages) -> None:
    sent = await asyncio.gather(
        *[messages.send_message(proto.SendMessageRequest(**PARTS), call_of("1")) for _ in range(100)]
    )

    assert len({one.id for one in sent}) == 100
