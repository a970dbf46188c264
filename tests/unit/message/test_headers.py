"""Header fields that callers add."""

from email import policy
from email.parser import BytesParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailward.errors import InvalidArgument
from mailward.message.encoded_words import decode_words
from mailward.message.headers import check_header, date_text


@pytest.mark.parametrize(
    "name",
    [
        "From", "to", "CC", "Bcc", "Reply-To", "Sender", "Subject", "Date", "MIME-Version", "Received", "Return-Path",
        "DKIM-Signature", "Content-Type", "content-transfer-encoding", "Content-Anything", "Resent-To", "ARC-Seal",
    ],
)  # fmt: skip
def test_a_structural_header_cannot_be_set(name: str) -> None:
    """They are written by us, or by servers on the way."""
    with pytest.raises(InvalidArgument) as refused:
        check_header(name, "value")

    assert refused.value.pointer == f"/headers/{name}"


@pytest.mark.parametrize("name", ["", "X Y", "X:", "X\r\nBcc", "Ü", "X\0", "X" * 77, " X"])
def test_a_name_that_is_no_header_name_is_refused(name: str) -> None:
    """RFC 5322 3.6.8."""
    with pytest.raises(InvalidArgument):
        check_header(name, "value")


def test_the_pointer_escapes_what_a_pointer_must() -> None:
    """RFC 6901 3."""
    with pytest.raises(InvalidArgument) as refused:
        check_header("X/a~b", "")

    assert refused.value.pointer == "/headers/X~1a~0b"


@pytest.mark.parametrize(
    "value",
    ["a\r\nBcc: eve@example.com", "a\nb", "a\rb", "a\0b", "=?utf-8?q?a=0Ab?=", "=?x?b?DQo=?=", "", "  ", "\ud800"],
)
def test_a_value_with_a_control_character_is_refused(value: str) -> None:
    """CR, LF, NUL and the like, encoded or not; and an empty value, which says nothing."""
    with pytest.raises(InvalidArgument):
        check_header("X-Tag", value)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("X-Tag", "a  b", "X-Tag: a  b\r\n"),
        ("X-Tag", "größe", "X-Tag: =?utf-8?q?gr=C3=B6=C3=9Fe?=\r\n"),
        ("X-Tag", "=?utf-8?q?gr=C3=B6=C3=9Fe?=", "X-Tag: =?utf-8?q?gr=C3=B6=C3=9Fe?=\r\n"),
        ("Errors-To", "Jürgen <j@exämple.com>", "Errors-To: =?utf-8?q?J=C3=BCrgen?= <j@xn--exmple-cua.com>\r\n"),
        ("Message-ID", "<a@b>", "Message-ID: <a@b>\r\n"),
    ],
)
def test_a_header_is_written(name: str, value: str, expected: str) -> None:
    """As it is, or in encoded-words; addresses keep their form."""
    assert check_header(name, value) == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Message-ID", "a@b"),
        ("Message-ID", "<a@b> <c@d>"),
        ("References", "<ü@b>"),
        ("List-Unsubscribe", "<https://exämple.com>"),
        ("Errors-To", "nobody"),
        ("X-Long", "a" * 998),
    ],
)
def test_a_value_that_its_header_cannot_hold_is_refused(name: str, value: str) -> None:
    """Ids, URIs and addresses have a form; a word has to fit on a line."""
    with pytest.raises(InvalidArgument):
        check_header(name, value)


@given(st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1, max_size=1500))
def test_the_recipients_parser_reads_the_value_that_was_given(value: str) -> None:
    """However it had to be folded and encoded."""
    try:
        written = check_header("X-Value", value).encode("ascii")
    except InvalidArgument:
        assert not decode_words(value).strip() or (value.isascii() and max(map(len, value.split())) > 997)
        return

    message = BytesParser(policy=policy.default).parsebytes(written + b"\r\n")

    assert str(message["X-Value"]).strip() == value.strip()
    assert all(len(line) <= 998 and (line.strip() or not line) for line in written.split(b"\r\n"))
    assert len(message.keys()) == 1


@given(st.text(max_size=80), st.text(max_size=200))
def test_nothing_injects_a_header_line(name: str, value: str) -> None:
    """For any name and value: refused, or one field."""
    try:
        written = check_header(name, value)
    except InvalidArgument:
        return
    assert written.endswith("\r\n")
    first, *more = written.removesuffix("\r\n").split("\r\n")
    assert first.startswith(f"{name}:")
    assert all(line.startswith((" ", "\t")) for line in more)
    assert "\n" not in written.replace("\r\n", "") and "\r" not in written.replace("\r\n", "")


def test_a_date_is_in_utc_and_english() -> None:
    """RFC 5322 3.3."""
    assert date_text(1_796_000_000_999_999) == "Mon, 30 Nov 2026 00:53:20 +0000"
