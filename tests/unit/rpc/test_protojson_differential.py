"""JSON that is almost right: what we read of it, Google's json_format reads alike.

The other way round it need not be: json_format takes texts, lists, signs and Python's digits where the protojson of Go
takes none.
"""

import json
from contextlib import suppress
from typing import Any, cast

import pytest
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from mailward.proto.mailward.v1 import messages_pb2, providers_pb2, queue_pb2
from mailward.proto.zitadel import admin_pb2
from mailward.rpc.protojson_read import JsonFault, parse

#: Between them they have every kind of field that there is.
CLASSES: list[type[Message]] = [
    admin_pb2.AddSMTPConfigRequest,
    admin_pb2.AddEmailProviderSMTPRequest,
    admin_pb2.UpdateEmailProviderHTTPRequest,
    admin_pb2.UpdateSecretGeneratorRequest,
    admin_pb2.ListIAMMembersRequest,
    admin_pb2.ListEventsRequest,
    admin_pb2.ListEventsResponse,
    admin_pb2.GetEmailProviderResponse,
    messages_pb2.SendMessageRequest,
    messages_pb2.Message,
    providers_pb2.UpdateProviderRequest,
    queue_pb2.BulkRequest,
]

TEXTS = [
    "", "1", "1.0", "1e0", "1E2", "-0", "0x1", "NaN", "true", "é", "AQ==", "AQ", "A", "-_", "-_==", "1s", "-1.5s", "0s",
    "1.0000000001s", "2020-01-01T00:00:00Z", "2020-01-01t00:00:00z", "2020-01-01T00:00:00.123+02:00",
    "2020-01-01T00:00:00", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z", "2020-02-30T00:00:00Z", "SMTP_CONFIG_ACTIVE",
]  # fmt: skip
NUMBERS = [0, 1, -1, 7, 1.0, 1.5, 1e3, -0.0, 2**31, 2**32, 2**63, 2**64, -(2**63), 1e300]
OTHERS: list[Any] = [None, True, False, [], [None], [1, "a"], {}, {"a": 1}]
ANYTHING = st.sampled_from(TEXTS + NUMBERS + OTHERS)


@st.composite
def almost(draw: st.DrawFn, descriptor: Descriptor, depth: int = 2) -> dict[str, Any]:
    """An object with fields of the message, whose values may be of another type, and perhaps one it does not know."""
    fields = list(descriptor.fields)
    made: dict[str, Any] = {}
    for n in draw(st.sets(st.integers(0, len(fields)), max_size=3)):
        if n == len(fields):
            made["nope"] = draw(ANYTHING)
        else:
            made[draw(st.sampled_from([fields[n].name, fields[n].json_name]))] = draw(values(fields[n], depth))
    return made


def values(field: FieldDescriptor, depth: int) -> st.SearchStrategy[Any]:
    if field.enum_type is not None:
        names = [value.name for value in field.enum_type.values]
        return st.sampled_from([*names, "no such name", *NUMBERS, *OTHERS])
    one = ANYTHING
    if field.message_type is not None and depth:
        one |= almost(field.message_type, depth - 1)
    return st.lists(one, max_size=2) | one if field.is_repeated else one


@pytest.mark.parametrize("message_class", CLASSES, ids=lambda message_class: message_class.__name__)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_what_we_read_of_almost_right_json_protobuf_reads_alike(
    message_class: type[Message], data: st.DataObject
) -> None:
    text = json.dumps(data.draw(almost(cast(Descriptor, message_class.DESCRIPTOR))))

    with suppress(JsonFault):
        ours = parse(message_class, text.encode())
        assert ours == json_format.Parse(text, message_class(), ignore_unknown_fields=True)
