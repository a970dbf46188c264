"""JSON into messages and back, by the rules of protojson."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from google.protobuf import json_format
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given, settings
from hypothesis import strategies as st

from mailward.proto.mailward.v1 import messages_pb2
from mailward.proto.zitadel import admin_pb2, event_pb2
from mailward.rpc.protojson_read import JsonFault, parse
from mailward.rpc.protojson_write import to_plain, write
from tests.support.messages import messages

SMTP_CALLS = (
    "AddSMTPConfig",
    "UpdateSMTPConfig",
    "UpdateSMTPConfigPassword",
    "GetSMTPConfig",
    "GetSMTPConfigById",
    "ListSMTPConfigs",
    "ActivateSMTPConfig",
    "DeactivateSMTPConfig",
    "RemoveSMTPConfig",
    "TestSMTPConfig",
    "TestSMTPConfigById",
)
METHODS = admin_pb2.DESCRIPTOR.services_by_name["AdminService"].methods_by_name
SMTP_REQUESTS: list[type[Message]] = [GetMessageClass(METHODS[name].input_type) for name in SMTP_CALLS]
SMTP_MESSAGES = SMTP_REQUESTS + [GetMessageClass(METHODS[name].output_type) for name in SMTP_CALLS]
OURS: list[type[Message]] = [messages_pb2.SendMessageRequest, messages_pb2.Message, messages_pb2.ListMessagesRequest]


@pytest.mark.parametrize("message_class", SMTP_MESSAGES + OURS, ids=lambda message_class: message_class.__name__)
@settings(max_examples=25)
@given(data=st.data())
def test_we_read_and_write_what_protobuf_reads_and_writes(message_class: type[Message], data: st.DataObject) -> None:
    """Google's json_format is the oracle, in both directions and both spellings."""
    message = data.draw(messages(message_class))

    for proto_names in (False, True):
        ours = write(message, proto_names=proto_names)
        theirs = json_format.MessageToJson(message, preserving_proto_field_name=proto_names)
        assert orjson.loads(ours) == orjson.loads(theirs)
        assert parse(message_class, ours, refuse_unknown=True) == message
        assert parse(message_class, theirs.encode()) == message
        assert json_format.Parse(ours, message_class()) == message


def smtp(body: str | bytes) -> Any:
    return parse(admin_pb2.AddSMTPConfigRequest, body.encode() if isinstance(body, str) else body)


def query(body: str) -> Any:
    return parse(admin_pb2.ListSMTPConfigsRequest, body.encode()).query  # type: ignore[attr-defined]


def refused(body: str | bytes, message_class: type[Message] = admin_pb2.AddSMTPConfigRequest) -> JsonFault:
    with pytest.raises(JsonFault) as caught:
        parse(message_class, body.encode() if isinstance(body, str) else body)
    return caught.value


@pytest.mark.parametrize("body", ["", "  \n ", "{}", " {} ", "{} trailing", "{}{}", '{"nope": {"deep": [1, 2]}}'])
def test_a_body_may_be_empty_or_go_on_after_the_first_value(body: str) -> None:
    assert smtp(body) == admin_pb2.AddSMTPConfigRequest()


def test_both_spellings_of_a_name_are_read_and_no_third_one() -> None:
    message = smtp('{"sender_address": "a", "senderName": "A", "SenderName": "B", "Host": "c"}')

    assert (message.sender_address, message.sender_name, message.host) == ("a", "A", "")


def test_null_is_the_same_as_absent() -> None:
    assert smtp('{"tls": null, "user": null, "host": null, "host": "a"}').host == "a"
    assert not parse(admin_pb2.ListSMTPConfigsRequest, b'{"query": null}').HasField("query")


def test_escapes_become_characters() -> None:
    assert smtp(r'{"senderName": "\ud83d\ude00 \"q\" \u0061"}').sender_name == '😀 "q" a'


@pytest.mark.parametrize("body", ['{"host":"a","host":"b"}', '{"reply_to_address":"a","replyToAddress":"b"}'])
def test_a_field_may_be_given_once(body: str) -> None:
    fault = refused(body)

    assert (fault.rule, fault.message.startswith('proto: duplicate field "')) == ("duplicate_field", True)


def test_an_unknown_field_may_be_given_twice() -> None:
    assert smtp('{"nope": 1, "nope": 2}') == admin_pb2.AddSMTPConfigRequest()


def test_one_member_of_a_oneof_may_be_given() -> None:
    fault = refused('{"none": {}, "plain": {}}', admin_pb2.AddEmailProviderSMTPRequest)

    assert (fault.rule, fault.pointer) == ("duplicate_field", "/plain")


def test_a_member_of_a_oneof_is_written_even_if_it_is_empty() -> None:
    message = admin_pb2.AddEmailProviderSMTPRequest(none=admin_pb2.SMTPNoAuth())

    assert write(message) == b'{"none":{}}'


@pytest.mark.parametrize(
    "body",
    [
        "[]",
        "null",
        "5",
        '"x"',
        "{bad",
        "{'host':'x'}",
        '{"senderAddress":"a',
        '{/* x */"host":"a"}',
        '{"host":"a",}',
        '{"tls":"true"}',
        '{"tls":1}',
        '{"host":5}',
        '{"host":{}}',
        '{"host":["a"]}',
        r'{"host":"\u0000"}',
        r'{"host":"\ud800"}',
        '{"host":"a\nb"}',
        '{"x":NaN}',
        '{"x":-Infinity}',
        '{"x":01}',
        '{"x":' + "9" * 5000 + "}",
        "[" * 200_000,
        '{"x":' * 200_000,
        b"\xff",
        b"\xef\xbb\xbf{}",
        b"\x1f\x8b\x08\x00",
    ],
)
def test_what_cannot_be_read_is_a_fault_and_nothing_worse(body: str | bytes) -> None:
    assert refused(body).rule in ("malformed_json", "invalid_value")


def test_a_syntax_error_says_where() -> None:
    assert refused('{\n  "tls": true,\n  bad\n}').message.startswith("malformed JSON (line 3:3): ")


def test_a_fault_never_repeats_the_value() -> None:
    assert "canary" not in refused('{"password": {"canary": "canary"}}').message
    assert "canary" not in refused('{"password": ["canary"]}').message
    assert "canary" not in refused('{"tls": "canary"}').message


@given(st.binary(max_size=40) | st.text(alphabet='{}[]":,\\u0ad8"tlsnue1.-+eE ', max_size=40).map(str.encode))
def test_any_bytes_are_a_message_or_a_fault(body: bytes) -> None:
    try:
        parse(admin_pb2.ListSMTPConfigsRequest, b'{"query":' + body)
        parse(admin_pb2.ListSMTPConfigsRequest, body)
    except JsonFault as fault:
        assert fault.message


@pytest.mark.parametrize(
    ("text", "offset"),
    [
        ("0", 0),
        ('"0"', 0),
        ("1e0", 1),
        ("1.0", 1),
        ('"1.0"', 1),
        ('"1e3"', 1000),
        ('"15e-1e"', None),
        ('"120e-1"', 12),
        ("18446744073709551615", (1 << 64) - 1),
        ('"18446744073709551615"', (1 << 64) - 1),
        ("18446744073709551616", None),
        ("-1", None),
        ('"-1"', None),
        ("1.5", None),
        ('"1.5"', None),
        ('"x"', None),
        ('""', None),
        ('" 1"', None),
        ('"0x1"', None),
        ('"01"', None),
        ('"1e999"', None),
        ("1e999", None),
        ('"1e99999999999"', None),
        ("true", None),
        ("[1]", None),
    ],
)
def test_integers_may_be_numbers_or_text_if_they_are_whole_and_in_range(text: str, offset: int | None) -> None:
    body = f'{{"query": {{"offset": {text}}}}}'

    if offset is None:
        fault = refused(body, admin_pb2.ListSMTPConfigsRequest)
        assert fault.pointer == "/query/offset"
    else:
        assert query(body).offset == offset


def test_an_enum_is_a_name_or_any_number_and_an_unknown_name_is_like_an_unknown_field() -> None:
    def read(value: str, *, refuse_unknown: bool = False) -> int:
        body = f'{{"sortingColumn": {value}}}'.encode()
        message: Any = parse(admin_pb2.ListIAMMembersRequest, body, refuse_unknown=refuse_unknown)
        return int(message.sorting_column)

    assert read('"MEMBER_FIELD_NAME_USER_ID"') == read("1") == 1
    assert read("77") == 77
    assert read('"NOPE"') == 0
    with pytest.raises(JsonFault, match="no value of this enum"):
        read('"NOPE"', refuse_unknown=True)


@pytest.mark.parametrize("text", ["AP/+", "AP_-", "AP/+AA==", "AP_-AA", "AP/+AA"])
def test_base64_is_read_in_either_alphabet_with_or_without_padding(text: str) -> None:
    message: Any = parse(messages_pb2.Attachment, f'{{"content": "{text}"}}'.encode())

    assert message.content.startswith(b"\x00\xff\xfe")


@pytest.mark.parametrize("text", ["A", "AP/+A", "AP /+", "AP=+", "ä", "AP/+\\n"])
def test_what_is_no_base64_is_refused(text: str) -> None:
    assert refused(f'{{"content": "{text}"}}', messages_pb2.Attachment).pointer == "/content"


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("2030-01-31T12:00:00Z", "2030-01-31T12:00:00Z"),
        ("2030-01-31T12:00:00.5Z", "2030-01-31T12:00:00.500Z"),
        ("2030-01-31T12:00:00.000001Z", "2030-01-31T12:00:00.000001Z"),
        ("2030-01-31T12:00:00.000000001+01:00", "2030-01-31T11:00:00.000000001Z"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
        ("2030-01-31", None),
        ("2030-02-31T12:00:00Z", None),
        ("0001-01-01T00:00:00+23:59", None),
        ("2030-01-31t12:00:00z", None),
        ("noon", None),
    ],
)
def test_times_are_rfc_3339_and_are_written_with_as_few_groups_of_decimals_as_it_takes(
    text: str, written: str | None
) -> None:
    body = f'{{"created_after": "{text}"}}'.encode()

    if written is None:
        assert refused(body, messages_pb2.ListMessagesRequest).pointer == "/created_after"
    else:
        message = parse(messages_pb2.ListMessagesRequest, body)
        assert to_plain(message, proto_names=True) == {"created_after": written}


@pytest.mark.parametrize(
    ("text", "written"),
    [("0s", "0s"), ("90.5s", "90.500s"), ("-1.5s", "-1.500s"), ("0", None), ("1m", None), (5, None)],
)
def test_durations_are_seconds(text: Any, written: str | None) -> None:
    body = orjson.dumps({"expiry": text})

    if written is None:
        assert refused(body, admin_pb2.UpdateSecretGeneratorRequest).pointer == "/expiry"
    else:
        assert to_plain(parse(admin_pb2.UpdateSecretGeneratorRequest, body)) == {"expiry": written}


def test_a_struct_is_ordinary_json() -> None:
    event = event_pb2.Event()
    payload: dict[str, Any] = {"host": "a", "tls": True, "n": 5, "f": 1.5, "list": [1, {"x": None}], "none": None}
    event.payload.update(payload)

    assert to_plain(event) == {"payload": payload}
    assert parse(event_pb2.Event, write(event)) == event
