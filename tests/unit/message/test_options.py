"""Header fields that are meant for us, and what of a mail outlasts its being made again."""

from email.message import EmailMessage
from email.policy import SMTP

import pytest

from mailward.errors import InvalidArgument
from mailward.ids import MessageId
from mailward.message.complete import complete
from mailward.message.options import NAMES, MailOptions, lasting_parts, read_options

RAW = (
    b"From: shop@example.com\r\nIdempotency-Key: order-17\r\nX-Mailward-Lane: OTP\r\nX-Mailward-Tag: a\r\n"
    b"Subject: Hi\r\nx-mailward-tag: =?utf-8?q?=C3=BC?=\r\nX-Mailward-TTL:\r\n 300\r\n\r\nX-Mailward-Lane: bulk\r\n"
)


def test_the_fields_are_returned_apart_and_do_not_travel() -> None:
    completed = complete(RAW, message_id=MessageId(1), date_us=0, domain="example.com", options=NAMES)

    assert read_options(completed.options) == MailOptions(
        idempotency_key="order-17", lane="otp", tags=("a", "ü"), ttl_s=300
    )
    header, _, body = completed.content.partition(b"\r\n\r\n")
    assert b"mailward-" not in header.lower().replace(b"mailward-lane: bulk", b"")
    assert b"idempotency" not in header.lower()
    assert (b"Subject: Hi\r\n" in completed.content, body) == (True, b"X-Mailward-Lane: bulk\r\n")


@pytest.mark.parametrize(
    ("text", "at_us"),
    [
        ("2026-11-25T09:30:00Z", 1_795_599_000_000_000),
        ("2026-11-25T10:30:00.5+01:00", 1_795_599_000_500_000),
    ],
)
def test_a_moment_is_read_as_rfc_3339(text: str, at_us: int) -> None:
    assert read_options([("x-mailward-expires-at", text)]).expires_at_us == at_us


@pytest.mark.parametrize(
    "fields",
    [
        [("x-mailward-ttl", "0")],
        [("x-mailward-ttl", "5m")],
        [("x-mailward-ttl", "2592001")],
        [("x-mailward-expires-at", "2026-11-25T09:30:00")],
        [("x-mailward-expires-at", "tomorrow")],
        [("x-mailward-lane", "otp"), ("x-mailward-lane", "bulk")],
        [("x-mailward-tag", "")],
        [("x-mailward-tag", "x" * 101)],
        [("x-mailward-tag", str(n)) for n in range(21)],
    ],
)
def test_what_cannot_be_understood_is_refused(fields: list[tuple[str, str]]) -> None:
    with pytest.raises(InvalidArgument):
        read_options(fields)


def _made(boundary: str, message_id: str, text: str = "Hello") -> bytes:
    mail = EmailMessage()
    mail["From"], mail["Subject"], mail["Message-ID"] = "shop@example.com", "Hi", message_id
    mail["Idempotency-Key"] = "k"
    mail.set_content(text)
    mail.add_alternative(f"<p>{text}</p>", subtype="html")
    mail.set_boundary(boundary)
    return mail.as_bytes(policy=SMTP)


def test_a_mail_made_again_is_the_same_and_another_text_is_not() -> None:
    """Programs draw Message-ID, Date and the boundaries anew each time."""
    first, second = _made("===1234==", "<1@example.com>"), _made("=_part:99", "<2@example.com>")

    assert first != second
    assert list(lasting_parts(first)) == list(lasting_parts(second))
    assert list(lasting_parts(first)) != list(lasting_parts(_made("===1234==", "<1@example.com>", "Bye")))
