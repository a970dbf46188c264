"""Raw messages: checked, completed, otherwise left alone."""

import pytest

from mailward.errors import InvalidArgument
from mailward.ids import MessageId
from mailward.message.complete import Completed, complete, trace

_ID = MessageId(227654321098765432)
_DATE_US = 1_796_000_000_000_000
_WHOLE = (
    b"From: App <app@example.com>\r\nTo: ann@example.com\r\nSubject: Hello\r\n"
    b"Date: Mon, 30 Nov 2026 00:00:00 +0000\r\nMessage-ID: <own@app>\r\n\r\nbody\r\n"
)


def _complete(raw: bytes, **given: object) -> Completed:
    return complete(raw, message_id=_ID, date_us=_DATE_US, domain="mx.example", **given)  # type: ignore[arg-type]


def test_a_whole_message_is_left_as_it_is() -> None:
    """Byte for byte: it may be signed."""
    assert _complete(_WHOLE) == Completed(_WHOLE, "Hello", False)


def test_what_is_missing_is_put_on_top() -> None:
    """RFC 6409 8: Date and Message-ID, the latter on the sender's domain."""
    raw = b"From: App <app@Example.com>\r\n\r\nbody\r\n"

    assert _complete(raw).content == (
        b"Date: Mon, 30 Nov 2026 00:53:20 +0000\r\nMessage-ID: <msg_227654321098765432@example.com>\r\n" + raw
    )


@pytest.mark.parametrize(
    "sender", [b"postmaster", b"a@[192.0.2.1]", b'"a@b" <a@localhost>', b"=?utf-8?q?x?= <a@\xc3\xbc.de>"]
)
def test_a_message_id_falls_back_to_our_domain(sender: bytes) -> None:
    """When From has none that a Message-ID can carry."""
    assert b"Message-ID: <msg_227654321098765432@mx.example>\r\n" in _complete(b"From: " + sender + b"\r\n\r\n").content


def test_the_trace_comes_first() -> None:
    """RFC 5321 4.4."""
    received = trace("client.example", "192.0.2.7", "mx.example", "ESMTPSA")

    assert _complete(_WHOLE, received=received).content == (
        b"Received: from client.example ([192.0.2.7])\r\n\tby mx.example with ESMTPSA id msg_227654321098765432; "
        b"Mon, 30 Nov 2026 00:53:20 +0000\r\n" + _WHOLE
    )


def test_a_client_cannot_write_into_the_trace() -> None:
    """Its name for itself is any text."""
    received = trace("a b) (x\r\nBcc: y\N{SNOWMAN}", "2001:db8::1", "mx.example", "SMTP")

    assert received.startswith(b"Received: from a?b???x??Bcc:?y? ([IPv6:2001:db8::1])\r\n\tby")
    assert received.count(b"\n") == 1
    assert trace("", "192.0.2.7", "mx.example", "SMTP").startswith(b"Received: from unknown ([")


def test_bcc_and_return_path_are_dropped_with_their_folds() -> None:
    """Nobody may learn who else got it; Return-Path is written at delivery."""
    raw = (
        b"BCC: a@example.com,\r\n\tb@example.com,\r\n c@example.com\r\n" + _WHOLE.replace(
            b"\r\n\r\n", b"\r\nReturn-Path: <x@example.com>\r\nresent-bcc: d@example.com\r\n\r\n", 1
        )
    )  # fmt: skip

    assert _complete(raw).content == _WHOLE


def test_options_for_us_are_dropped() -> None:
    """Those that are named, wherever they stand."""
    raw = _WHOLE.replace(b"\r\n\r\n", b"\r\nIdempotency-Key: 1\r\n 2\r\n\r\nBcc: in the body\r\n", 1)

    content = _complete(raw, options=frozenset({b"idempotency-key"})).content

    assert content == _WHOLE.replace(b"\r\n\r\n", b"\r\n\r\nBcc: in the body\r\n", 1)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\r\n",
        b"\r\nFrom: a@example.com\r\n\r\n",
        b"To: a@example.com\r\n\r\nFrom: in@body.example\r\n",
        b"From:\r\n\r\n",
        b"From: \r\n \r\n\r\n",
        b"From: a@example.com\r\nFROM: b@example.com\r\n\r\n",
        b" From: a@example.com\r\n\r\n",
        b"From: a@example.com\r\nnonsense\r\n\r\n",
        b"From: a@example.com\r\nX Y: z\r\n\r\n",
        b"From: a@example.com\r\nBcc : z@example.com\r\n\r\n",
        b"From: a@example.com\r\n: z\r\n\r\n",
        b"From: a@example.com\r\n\xc3\xbc: z\r\n\r\n",
        b"From a@example.com Mon Nov 30\r\nFrom: a@example.com\r\n\r\n",
        b"From: a@example.com\nTo: b@example.com\n\nx\n",
        b"From: a@example.com\r\n\r\nx\ny\r\n",
        b"From: a@example.com\r\n\r\nx\ry\r\n",
        b"From: a@example.com\r\n\r\nx\r",
        b"From: a@example.com\r\n\r\nx\0y\r\n",
        b"From: a@example.com\r\n\r\n" + b"a" * 999 + b"\r\n",
        b"From: a@example.com\r\nX: " + b"a" * 999 + b"\r\n\r\n",
        b"From: a@example.com\r\n" + b"X: " * 400 + b"\r\n" * 1 + b"\r\n",
        b"From: a@example.com\r\n" + (b"X: " + b"a" * 900 + b"\r\n") * 300 + b"\r\n",
        b"From: a@example.com\r\n" + b"Received: x\r\n" * 101 + b"\r\n",
        b"From: a@example.com\r\nSubject: =?utf-8?q?a=0D=0ABcc:_b?=\r\n\r\n",
        b"From: a@example.com\r\nSubject: =?utf-8?b?YQ==?=\r\n =?utf-8?b?Cg==?=\r\n\r\n",
        b"From: =?utf-8?q?a=00?= <a@example.com>\r\n\r\n",
    ],
)
def test_what_is_no_message_is_refused(raw: bytes) -> None:
    """With an id of its own each."""
    with pytest.raises(InvalidArgument) as refused:
        _complete(raw)

    assert refused.value.id.startswith("MESSAGE-")


@pytest.mark.parametrize(
    ("raw", "content"),
    [
        (b"From: a@example.com", b"From: a@example.com\r\n"),
        (b"From: a@example.com\r\n", b"From: a@example.com\r\n"),
        (b"From: a@example.com\r\n\r\n", b"From: a@example.com\r\n\r\n"),
        (b"From: a@example.com\r\n\r\nx", b"From: a@example.com\r\n\r\nx\r\n"),
        (b"Bcc: x\r\nFrom: a@example.com\r\n\r\nx", b"From: a@example.com\r\n\r\nx\r\n"),
        (b"From: a@example.com\r\n\r\n\xff" + b"a" * 997 + b"\r\n", b"\r\n\r\n\xff" + b"a" * 997 + b"\r\n"),
    ],
)  # fmt: skip
def test_odd_but_lawful_messages_are_taken(raw: bytes, content: bytes) -> None:
    """Without body, without the last line end, with 8-bit content."""
    assert _complete(raw).content.endswith(content)


@pytest.mark.parametrize(
    ("field", "subject"),
    [
        (b"", ""),
        (b"Subject:\r\n", ""),
        (b"Subject: a\r\n  b\r\n", "a  b"),
        (b"subject: =?utf-8?q?Gr=C3=BC?=\r\n =?utf-8?q?=C3=9Fe?= x\r\n", "Grüße x"),
        (b"Subject: Gr\xc3\xbc\xc3\x9fe\r\n", "Grüße"),
        (b"Subject: Gr\xfc\r\n", "Gr\N{REPLACEMENT CHARACTER}"),
        (b"Subject: first\r\nSubject: second\r\n", "first"),
    ],
)
def test_the_subject_is_read_for_display(field: bytes, subject: str) -> None:
    """Unfolded and decoded."""
    assert _complete(b"From: a@example.com\r\n" + field + b"\r\n").subject == subject


def test_fields_in_utf8_are_noticed() -> None:
    """They need SMTPUTF8 by the letter (RFC 6532)."""
    assert _complete(b"From: a@example.com\r\nSubject: \xc3\xbc\r\n\r\n").has_utf8_fields
    assert not _complete(b"From: a@example.com\r\n\r\n\xc3\xbc\r\n").has_utf8_fields
