"""Encoded-words both ways."""

from email.header import decode_header, make_header

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailward.message.encoded_words import decode_words, encode_words

_TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1, max_size=400)


@given(_TEXT, st.integers(0, 78))
def test_what_is_encoded_is_read_back(text: str, used: int) -> None:
    """By us and by the standard library."""
    encoded = encode_words(text, used)

    assert decode_words(encoded) == text
    assert str(make_header(decode_header(encoded))) == text


@given(_TEXT, st.integers(0, 40))
def test_words_and_lines_keep_their_limits(text: str, used: int) -> None:
    """RFC 2047 2: a word has at most 75 characters, a line with one at most 76."""
    lines = encode_words(text, used).split("\r\n ")

    assert all(len(line) <= 75 and line.isascii() for line in lines)
    assert used + len(lines[0]) <= 76


@pytest.mark.parametrize(
    ("encoded", "text"),
    [
        ("plain", "plain"),
        ("=?iso-8859-1?Q?a=FC_b?=", "aü b"),
        ("=?UTF-8?B?w7w=?=", "ü"),
        ("=?utf-8?b?w7w?=", "ü"),
        ("=?utf-8*de?q?=C3=BC?=", "ü"),
        ("=?utf-8?q?=C3?= =?utf-8?q?=BC?=", "ü"),
        ("=?utf-8?q?a?= b =?utf-8?q?c?=", "a b c"),
        ("=?utf-8?q?a?=\r\n =?utf-8?q?b?=", "ab"),
        ("=?utf-8?x?a?=", "=?utf-8?x?a?="),
        ("=?utf-8?b?*?=", "=?utf-8?b?*?="),
        ("=?nonsense?q?a=FC?=", "aü"),
        ("=?rot13?q?a=0A?=", "a\n"),
        ("=?utf-8?q?a=0D=0Ab?=", "a\r\nb"),
    ],
)
def test_words_of_others_are_read(encoded: str, text: str) -> None:
    """Also careless ones; what cannot be decoded stays."""
    assert decode_words(encoded) == text


@given(st.text(max_size=200))
def test_decoding_never_fails(text: str) -> None:
    """Header text comes from strangers."""
    decode_words(text)
    decode_words(f"=?{text}?q?{text}?=")
    decode_words(f"=?utf-8?b?{text}?=")
