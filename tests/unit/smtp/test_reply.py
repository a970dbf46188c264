"""Replies, parsed and written."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailward.smtp.reply import ProtocolError, Reply, ReplyReader, format_reply, parse_reply


def parse(data: bytes) -> list[Reply]:
    return [parse_reply(lines) for lines in ReplyReader().feed(data)]


def test_a_reply_has_code_enhanced_code_and_text() -> None:
    assert parse(b"450 4.2.1 mailbox busy\r\n250 ok\r\n354\r\n") == [
        Reply(450, "4.2.1", "mailbox busy"),
        Reply(250, "", "ok"),
        Reply(354, "", ""),
    ]


def test_the_lines_of_a_reply_are_joined() -> None:
    assert parse(b"550-5.7.1 not\r\n550-5.7.1 you\r\n550 5.7.1 here\r\n") == [Reply(550, "5.7.1", "not you here")]


def test_an_enhanced_code_of_another_class_is_text() -> None:
    """RFC 2034 4."""
    assert parse(b"250 5.1.1 odd\r\n") == [Reply(250, "", "5.1.1 odd")]


def test_control_characters_and_broken_letters_are_replaced() -> None:
    [reply] = parse(b"550 a\x1b[31m\xff\r\n")

    assert reply.text == "a\N{REPLACEMENT CHARACTER}[31m\N{REPLACEMENT CHARACTER}"


@given(st.lists(st.integers(0, 60)))
def test_replies_are_read_alike_wherever_their_bytes_are_cut(cuts: list[int]) -> None:
    data = b"250-one\r\n250 two\r\n550 5.1.1 no\r\n354 go\r\n"
    bounds = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    reader = ReplyReader()

    replies = [lines for a, b in pairwise(bounds) for lines in reader.feed(data[a:b])]

    assert replies == [[b"250-one", b"250 two"], [b"550 5.1.1 no"], [b"354 go"]]
    assert reader.is_empty


@pytest.mark.parametrize(
    "data",
    [
        b"hello\r\n",
        b"\r\n",
        b"25x ok\r\n",
        b"150 ok\r\n",
        b"650 ok\r\n",
        b"250-a\r\n251 b\r\n",
        b"250ok\r\n",
        b"GET",
        b"2x",
    ],
)
def test_what_is_no_reply_is_a_protocol_error(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse(data)


def test_endless_lines_and_replies_are_protocol_errors() -> None:
    for data in (b"250 " + b"x" * 5000, b"250-x\r\n" * 300):
        with pytest.raises(ProtocolError):
            parse(data)


def test_a_written_reply_is_one_line_whatever_its_text() -> None:
    assert format_reply(Reply(550, "5.1.1", "a\r\nQUIT é")) == b"550 5.1.1 a  QUIT ?\r\n"
    assert len(format_reply(Reply(550, "5.1.1", "x" * 2000))) <= 512
