"""Rules of validate.proto: which fault is named first, and in which words."""

from __future__ import annotations

from typing import cast

import pytest
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from mailward.proto.mailward.v1 import messages_pb2
from mailward.proto.zitadel import admin_pb2, member_pb2, settings_pb2
from mailward.rpc.validate import Violation, validator


def fault(message: Message) -> Violation | None:
    try:
        validator(cast(Descriptor, message.DESCRIPTOR))(message)
    except Violation as violation:
        return violation
    return None


def text(message: Message) -> str | None:
    found = fault(message)
    return None if found is None else found.message


def smtp(**values: str) -> admin_pb2.AddSMTPConfigRequest:
    request = admin_pb2.AddSMTPConfigRequest(sender_address="a", sender_name="A", host="h:1")
    for field, value in values.items():
        setattr(request, field, value)
    return request


@pytest.mark.parametrize(
    ("field", "name", "low", "high"),
    [
        ("sender_address", "SenderAddress", 1, 200),
        ("sender_name", "SenderName", 1, 200),
        ("host", "Host", 1, 500),
        ("reply_to_address", "ReplyToAddress", 0, 200),
        ("description", "Description", 0, 200),
    ],
)
@pytest.mark.parametrize("char", ["x", "ü", "😀"])
def test_lengths_count_code_points(field: str, name: str, low: int, high: int, char: str) -> None:
    reason = f"invalid AddSMTPConfigRequest.{name}: value length must be between {low} and {high} runes, inclusive"

    assert text(smtp(**{field: char * high})) is None
    assert text(smtp(**{field: char * (high + 1)})) == reason
    assert text(smtp(**{field: ""})) == (reason if low else None)


def test_a_decomposed_letter_counts_twice() -> None:
    assert text(smtp(sender_name="e\u0301" * 101)) is not None


def test_only_the_first_fault_in_order_of_declaration_is_named() -> None:
    found = fault(admin_pb2.AddSMTPConfigRequest(sender_address="a", reply_to_address="x" * 300))

    assert found is not None
    assert (found.message.split(":")[0], found.pointer) == ("invalid AddSMTPConfigRequest.SenderName", "/sender_name")


def test_a_receiver_must_be_a_mailbox_after_it_has_the_right_length() -> None:
    request = admin_pb2.TestSMTPConfigByIdRequest(id="1")
    head = "invalid TestSMTPConfigByIdRequest.ReceiverAddress: "

    assert text(request) == head + "value length must be between 1 and 200 runes, inclusive"
    request.receiver_address = "x"
    assert text(request) == (head + "value must be a valid email address | caused by: mail: missing '@' or angle-addr")
    request.receiver_address = "a@b"
    assert text(request) is None


def test_bytes_are_counted_where_the_rule_says_bytes() -> None:
    request = admin_pb2.SetDefaultInitMessageTextRequest(language="en", title="ü" * 1000)

    assert text(request) is None
    request.title += "x"
    assert text(request) == ("invalid SetDefaultInitMessageTextRequest.Title: value length must be at most 2000 bytes")


def test_a_new_signing_key_is_asked_for_with_zero_seconds_only() -> None:
    request = admin_pb2.UpdateEmailProviderHTTPRequest(id="1", endpoint="http://x/")

    assert text(request) is None
    request.expiration_signing_key.SetInParent()
    assert text(request) is None
    request.expiration_signing_key.seconds = 1
    assert text(request) == ("invalid UpdateEmailProviderHTTPRequest.ExpirationSigningKey: value must equal 0s")


def test_lists_have_a_limit_and_enums_exceptions() -> None:
    events = admin_pb2.ListEventsRequest(event_types=["x"] * 31)
    generator = admin_pb2.GetSecretGeneratorRequest()

    assert text(events) == "invalid ListEventsRequest.EventTypes: value must contain no more than 30 item(s)"
    assert text(generator) == (
        "invalid GetSecretGeneratorRequest.GeneratorType: value must not be in list [SECRET_GENERATOR_TYPE_UNSPECIFIED]"
    )
    generator.generator_type = cast(settings_pb2.SecretGeneratorType.ValueType, 99)
    assert text(generator) == (
        "invalid GetSecretGeneratorRequest.GeneratorType: value must be one of the defined enum values"
    )


def test_a_fault_within_a_message_names_both() -> None:
    query = member_pb2.SearchQuery(email_query=member_pb2.EmailQuery(email="x" * 201))
    found = fault(admin_pb2.ListIAMMembersRequest(queries=[query]))

    assert found is not None
    assert found.message == (
        "invalid ListIAMMembersRequest.Queries[0]: embedded message failed validation"
        " | caused by: invalid SearchQuery.EmailQuery: embedded message failed validation"
        " | caused by: invalid EmailQuery.Email: value length must be at most 200 runes"
    )
    assert found.pointer == "/queries/0/email_query/email"


def test_a_required_oneof_must_be_set() -> None:
    assert text(member_pb2.SearchQuery()) == "invalid SearchQuery.Query: value is required"


def test_maps_ranges_and_nested_items_are_pointed_at() -> None:
    metadata = fault(messages_pb2.SendMessageRequest(metadata={"a/b": "x" * 1001}))
    pages = fault(messages_pb2.ListMessagesRequest(page_size=201))
    unnamed = fault(messages_pb2.SendMessageRequest(attachments=[messages_pb2.Attachment()]))

    assert metadata is not None and pages is not None and unnamed is not None
    assert metadata.pointer == "/metadata/a~1b"
    assert pages.message == "invalid ListMessagesRequest.PageSize: value must be inside range [0, 200]"
    assert (unnamed.pointer, unnamed.rule) == ("/attachments/0/name", "length")
