"""Long strings are taken out of a JSON text, and nobody can tell afterwards."""

import json
from base64 import b64encode, urlsafe_b64encode
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mailward.proto.mailward.v1 import messages_pb2
from mailward.rpc import protojson_read
from mailward.rpc.json_strings import LongString, take_out

Request = messages_pb2.SendMessageRequest

_texts = st.text(alphabet='ab"\\/:,{}[]\n é\u2028\U0001f600', max_size=40)
_values = st.recursive(
    st.none() | st.integers() | _texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3),
    max_leaves=12,
)


def blocks_of(text: bytes, size: int) -> list[bytearray]:
    return [bytearray(text[at : at + size]) for at in range(0, len(text), size)]


def put_back(value: Any, long: dict[str, LongString]) -> Any:
    match value:
        case dict():
            return {key: put_back(inner, long) for key, inner in value.items()}
        case list():
            return [put_back(inner, long) for inner in value]
        case str() if value in long:
            return long[value].text()
        case _:
            return value


@given(_values, st.integers(1, 20), st.integers(0, 12), st.booleans())
@example({"a": 'x\\"' * 9}, 3, 2, True)
@example(['"' * 30], 5, 1, False)
def test_a_text_says_the_same_without_its_long_strings(value: Any, size: int, long: int, is_ascii: bool) -> None:
    text = json.dumps(value, ensure_ascii=is_ascii).encode()

    rest, taken = take_out(blocks_of(text, size), long)

    assert put_back(json.loads(rest), taken) == value


def test_what_is_long_is_taken_out_wherever_it_is_a_value() -> None:
    text = json.dumps({"x": ["a" * 500], "b": {"c": "d" * 300}}).encode()
    (rest, taken), (whole, none) = take_out(blocks_of(text, 600), 10), take_out([text], 10)

    assert [one.text() for one in taken.values()] == ["d" * 300]
    assert len(rest) < len(text) - 200
    assert (bytes(whole), len(none)) == (text, 0)


@pytest.mark.parametrize("cut", [True, False], ids=["padded", "unpadded"])
@pytest.mark.parametrize("write", [b64encode, urlsafe_b64encode])
@pytest.mark.parametrize("escape", ["", "/", "+="])
@pytest.mark.parametrize("count", [300_000, 300_001, 300_002])
def test_octets_are_read_from_every_spelling(write: Any, cut: bool, escape: str, count: int) -> None:
    content = (bytes(range(251)) * (count // 251 + 1))[:count]
    encoded = write(content).decode()
    encoded = encoded.rstrip("=") if cut else encoded
    for character in escape:  # As PHP and .NET do.
        encoded = encoded.replace(character, "\\/" if character == "/" else f"\\u{ord(character):04x}")
    text = f'{{"subject": "s", "attachments": [{{"content": "{encoded}", "name": "n"}}]}}'.encode()

    read = protojson_read.parse_large(Request, blocks_of(text, 100_001), refuse_unknown=True)

    attachment = messages_pb2.Attachment(name="n", content=content)
    assert read == Request(subject="s", attachments=[attachment])


@pytest.mark.parametrize(
    "text",
    [
        '{"raw": "%s!"}' % ("A" * 300_003),
        '{"raw": "%s"}' % ("AA==" * 70_000),
        '{"raw": "%s' % ("A" * 300_000),
        '{"raw": "%s", "raw": ""}' % ("A" * 300_000),
        '{"raw": "%s", "what": 1}' % ("A" * 300_000),
        '{"text": "%s\\q"}' % ("A" * 300_000),
        '{"text": "%s\\u0000"}' % ("A" * 300_000),
        '{"ttl": "%s"}' % ("1" * 300_000),
        '{"to": "%s"}' % ("1" * 300_000),
        '{"%s": "1"}' % ("1" * 300_000),
    ],
    ids=range(10),
)
def test_what_is_refused_is_refused_as_well_in_blocks(text: str) -> None:
    with pytest.raises(protojson_read.JsonFault) as refused:
        protojson_read.parse(Request, text.encode(), refuse_unknown=True)
    with pytest.raises(protojson_read.JsonFault) as refused_as_well:
        protojson_read.parse_large(Request, blocks_of(text.encode(), 100_000), refuse_unknown=True)

    # A bad escape is found where it is read, and then the field is known.
    assert refused.value.pointer in (refused_as_well.value.pointer, "")
