"""Between the MessageService's protobuf messages and the domain: what is refused, and where it points."""

from typing import Any

import pytest

from mailward.api import convert_messages as convert
from mailward.delivery.status import Status
from mailward.delivery.views import AttemptView, MessageView, RecipientView, ResultView
from mailward.errors import InvalidArgument
from mailward.ids import AttemptId, MessageId, ProviderId, UserId
from mailward.message.envelope import Envelope
from mailward.proto.mailward.v1 import messages_pb2 as proto

NOW = 1_790_000_000_000_000
PARTS: dict[str, Any] = {"from": "Shop <shop@example.com>", "to": ["ada@example.net"], "subject": "Hi", "text": "Hello"}


def request(**fields: Any) -> proto.SendMessageRequest:
    return proto.SendMessageRequest(**fields)


def pointer_of(request: proto.SendMessageRequest) -> str:
    with pytest.raises(InvalidArgument) as refused:
        convert.raw_envelope(request, 2) if request.raw else convert.draft(request, 2)
    assert refused.value.id
    return refused.value.pointer


def test_parts_become_a_draft_and_everybody_is_in_the_envelope() -> None:
    draft = convert.draft(request(**PARTS, cc=["bob@example.net"], bcc=["ada@example.net"]), 10)

    assert draft.envelope == Envelope("shop@example.com", ("ada@example.net", "bob@example.net"))
    assert draft.subject == "Hi"


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"to": ["ada@example.net", "bob"]}, "/to/1"),
        ({"from": ""}, "/from"),
        ({"to": []}, "/to"),
        ({"to": ["a@example.net", "b@example.net", "c@example.net"]}, "/to"),
        ({"cc": ["a@example.net\r\nBcc: eve@example.net"]}, "/cc/0"),
        ({"subject": "Hi\r\nBcc: eve@example.net"}, "/subject"),
        ({"headers": {"X-Order": "17\n"}}, "/headers/X-Order"),
        ({"attachments": [proto.Attachment(name="a", content_type="x")]}, "/attachments/0/content_type"),
        ({"envelope": proto.Envelope(to=["ada@example.net"])}, "/envelope"),
    ],
)
def test_what_is_wrong_in_parts_is_pointed_at(changes: dict[str, Any], pointer: str) -> None:
    assert pointer_of(request(**(PARTS | changes))) == pointer


def test_raw_goes_to_its_envelope() -> None:
    envelope = proto.Envelope(to=["ada@exämple.net", "ada@xn--exmple-cua.net"], **{"from": "shop@example.com"})

    assert convert.raw_envelope(request(raw=b"x", envelope=envelope), 2) == Envelope(
        "shop@example.com", ("ada@xn--exmple-cua.net",)
    )


def test_an_empty_sender_of_raw_is_the_null_reverse_path() -> None:
    assert convert.raw_envelope(request(raw=b"x", envelope=proto.Envelope(to=["a@example.net"])), 2).reverse_path == ""


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({}, "/envelope"),
        ({"envelope": proto.Envelope()}, "/envelope/to"),
        ({"envelope": proto.Envelope(to=["a@example.net", "<b@example.net"])}, "/envelope/to/1"),
        ({"envelope": proto.Envelope(to=["a@example.net"], **{"from": "nobody"})}, "/envelope/from"),
        ({"envelope": proto.Envelope(to=["a@example.net"]), "subject": "Hi"}, "/subject"),
        ({"envelope": proto.Envelope(to=["a@example.net"]), "to": ["a@example.net"]}, "/to"),
    ],
)
def test_what_is_wrong_around_raw_is_pointed_at(fields: dict[str, Any], pointer: str) -> None:
    assert pointer_of(request(raw=b"Subject: Hi\r\n\r\n", **fields)) == pointer


def test_a_filter_takes_addresses_as_they_are_stored_and_moments_in_microseconds() -> None:
    asked = proto.ListMessagesRequest(state="deferred", recipient="ada@exämple.net", tag="order")
    asked.created_after.FromMicroseconds(NOW)

    found = convert.filter_of(asked, UserId("1"))

    assert (found.status, found.recipient, found.since_us, found.until_us) == (
        Status.DEFERRED,
        "ada@xn--exmple-cua.net",
        NOW,
        None,
    )
    assert (found.sender, found.tag) == ("1", "order")


def test_an_unknown_state_is_refused() -> None:
    with pytest.raises(InvalidArgument) as refused:
        convert.filter_of(proto.ListMessagesRequest(state="sent"), None)

    assert refused.value.pointer == "/state"


def test_a_message_is_shown_with_its_timeline() -> None:
    result = ResultView("ada@example.net", Status.DEFERRED, "rcpt", "recipient", 450, "4.2.1", "full")
    attempt = AttemptView(AttemptId(7), ProviderId("9"), NOW, NOW + 1, ("ada@example.net",), (result,))
    view = MessageView(
        id=MessageId(227654321098765432),
        sender=UserId("1"),
        reverse_path="shop@example.com",
        subject="Hi",
        size_bytes=100,
        smtputf8=False,
        ingress="http",
        lane="transactional",
        tags=("order",),
        metadata={"cart": "17"},
        created_at_us=NOW,
        expires_at_us=NOW + 1,
        recipients=(RecipientView("ada@example.net", Status.DEFERRED, NOW, 1, NOW + 60, result),),
        attempts=(attempt,),
    )

    shown = convert.message(view, "no active provider")

    assert (shown.id, shown.state, shown.waiting_for) == ("msg_227654321098765432", "deferred", "no active provider")
    assert shown.recipients[0].next_attempt_at.ToMicroseconds() == NOW + 60
    assert not shown.recipients[0].HasField("settled_at")
    assert shown.recipients[0].last_reply == proto.Reply(code=450, enhanced="4.2.1", text="full")
    assert (shown.attempts[0].outcome, shown.attempts[0].recipients[0].stage) == ("deferred", "rcpt")


def test_an_open_attempt_names_whom_it_is_for_and_has_no_outcome() -> None:
    attempt = AttemptView(AttemptId(7), ProviderId("9"), NOW, None, ("ada@example.net",), ())

    shown = convert._attempt(attempt)

    assert (shown.outcome, shown.recipients[0].address) == ("", "ada@example.net")
    assert not shown.HasField("ended_at")
