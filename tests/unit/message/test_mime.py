"""Composed messages, as the standard library's parser reads them."""

from email import policy
from email.message import EmailMessage
from email.parser import BytesParser
from typing import Any, cast

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mailward.errors import InvalidArgument
from mailward.ids import MessageId
from mailward.message.complete import complete
from mailward.message.draft import Attachment, make_draft
from mailward.message.mime import compose

_ID = MessageId(227654321098765432)
_DATE_US = 1_796_000_000_000_000


def _compose(**given: Any) -> bytes:
    defaults: dict[str, Any] = {"from_": "App <app@example.com>", "to": ["ann@example.com"]}
    content = compose(make_draft(**(defaults | given)), message_id=_ID, date_us=_DATE_US)
    _check_law(content)
    return content


def _check_law(content: bytes) -> None:
    """7-bit, CRLF only, lines of lawful length: what every relay carries."""
    assert content.isascii() and b"\0" not in content
    assert content.endswith(b"\r\n")
    assert content.count(b"\r\n") == content.count(b"\r") == content.count(b"\n")
    assert max(map(len, content.split(b"\r\n"))) <= 998


def _read(content: bytes) -> EmailMessage:
    message = BytesParser(policy=policy.default).parsebytes(content)
    assert not message.defects
    for part in message.walk():
        assert not part.defects
    return message


def _text_of(message: EmailMessage, subtype: str) -> str:
    part = message.get_body((subtype,))
    assert part is not None
    return cast(str, part.get_content()).replace("\r\n", "\n")


def test_a_text_is_written_with_all_that_a_message_needs() -> None:
    """Readable as it stands."""
    content = _compose(
        subject="Hello", text="Hi,\nthere.\n", cc=["Bob <bob@example.com>"], reply_to=["help@example.com"]
    )

    assert content.decode() == (
        "Date: Mon, 30 Nov 2026 00:53:20 +0000\r\n"
        "From: App <app@example.com>\r\n"
        "Reply-To: help@example.com\r\n"
        "To: ann@example.com\r\n"
        "Cc: Bob <bob@example.com>\r\n"
        "Subject: Hello\r\n"
        "Message-ID: <msg_227654321098765432@example.com>\r\n"
        "Auto-Submitted: auto-generated\r\n"
        "MIME-Version: 1.0\r\n"
        "Content-Type: text/plain; charset=utf-8\r\n"
        "Content-Transfer-Encoding: 7bit\r\n"
        "\r\n"
        "Hi,\r\nthere.\r\n"
    )


def test_bcc_is_nowhere_in_the_message() -> None:
    """It is in the envelope."""
    content = _compose(text="x", bcc=["secret@example.org"])

    assert b"secret" not in content and b"bcc" not in content.lower()


def test_a_caller_may_bring_its_own_message_id_and_auto_submitted() -> None:
    """Then ours are left out."""
    message = _read(_compose(text="x", headers={"message-id": "<own@app>", "AUTO-SUBMITTED": "no"}))

    assert message.get_all("Message-ID") == ["<own@app>"]
    assert message.get_all("Auto-Submitted") == ["no"]


def test_text_and_html_are_alternatives() -> None:
    """The richest last (RFC 2046 5.1.4)."""
    message = _read(_compose(text="plain\n", html="<p>rich</p>\n"))

    assert message.get_content_type() == "multipart/alternative"
    assert [part.get_content_type() for part in message.iter_parts()] == ["text/plain", "text/html"]
    assert _text_of(message, "plain") == "plain\n"
    assert _text_of(message, "html") == "<p>rich</p>\n"


def test_html_alone_gets_a_text() -> None:
    """For those who read plain text, and for filters that frown on its absence."""
    message = _read(_compose(html="<p>Hello <a href='https://example.com/x'>there</a></p>"))

    assert _text_of(message, "plain") == "Hello there (https://example.com/x)\n"


def test_html_without_any_text_stands_alone() -> None:
    """There is nothing to make a text from."""
    assert _read(_compose(html="<img src='https://example.com/x'>")).get_content_type() == "text/html"


def test_inline_images_attachments_and_texts_are_nested() -> None:
    """mixed(alternative(text, related(html, image)), attachment)."""
    message = _read(
        _compose(
            text="plain",
            html="<img src='cid:logo'>",
            attachments=[
                Attachment("logo.png", "image/png", b"\x89PNG", "logo"),
                Attachment("a.bin", "", b"\0\r\n\xff"),
            ],
        )
    )

    assert [part.get_content_type() for part in message.walk()] == [
        "multipart/mixed", "multipart/alternative", "text/plain", "multipart/related", "text/html", "image/png",
        "application/octet-stream",
    ]  # fmt: skip
    image, file = [part for part in message.walk() if not part.is_multipart()][2:]
    assert (image["Content-ID"], image.get_content_disposition()) == ("<logo>", "inline")
    assert (file.get_filename(), file.get_content_disposition()) == ("a.bin", "attachment")
    assert file.get_content() == b"\0\r\n\xff"


def test_an_image_without_html_that_shows_it_is_attached() -> None:
    """Nothing is lost."""
    message = _read(_compose(text="x", attachments=[Attachment("l.png", "image/png", b"x", "logo")]))

    assert [part.get_content_disposition() for part in message.iter_attachments()] == ["attachment"]


def test_a_calendar_keeps_its_parameters() -> None:
    """RFC 6047 needs the method."""
    message = _read(
        _compose(text="x", attachments=[Attachment("i.ics", 'text/calendar; method=REQUEST; x="a b"', b"x")])
    )

    (part,) = message.iter_attachments()
    assert part.get_param("method") == "REQUEST"


def test_an_attached_message_is_never_encoded() -> None:
    """RFC 2046 5.2.1; one that would need it travels as a file."""
    inner = b"From: a@example.com\r\nSubject: inner\r\n\r\nhello\r\n"
    message = _read(
        _compose(
            text="x",
            attachments=[
                Attachment("a.eml", "message/rfc822", inner),
                Attachment("b.eml", "message/rfc822", b"From: a@b\r\n\r\n\xff\r\n"),
                Attachment("c.eml", "message/rfc822", b"From: a@b\n\nx"),
                Attachment("d.eml", "message/rfc822", b"From: a@b\r\n\r\n--=_227654321098765432m\r\n"),
            ],
        )
    )

    types = [part.get_content_type() for part in message.iter_attachments()]
    assert types == ["message/rfc822", *["application/octet-stream"] * 3]


@pytest.mark.parametrize("level", ["m", "a", "r"])
def test_a_text_that_holds_the_boundary_breaks_nothing(level: str) -> None:
    """Who guesses the id must not be able to end a part."""
    text = f"a\n--=_227654321098765432{level}\nContent-Type: text/html\n\nevil\n--=_227654321098765432{level}--\nb\n"

    message = _read(_compose(text=text, html=f"<pre>{text}</pre>\n", attachments=[Attachment("a", "", b"x")]))

    assert _text_of(message, "plain") == text
    assert len(list(message.iter_attachments())) == 1


def test_headers_are_in_the_message() -> None:
    """Encoded where they must be."""
    message = _read(
        _compose(text="x", headers={"X-Tag": "größe", "List-Unsubscribe": "<https://example.com/" + "u" * 800 + ">"})
    )

    assert message["X-Tag"] == "größe"
    assert message["List-Unsubscribe"].endswith("u>")


def test_many_recipients_stay_within_lines() -> None:
    """One a line."""
    to = [f"Person Number {n} <person{n}@example.com>" for n in range(500)]

    message = _read(_compose(text="x", to=to))

    assert [str(address) for address in message["To"].addresses] == to


def test_a_local_part_in_utf8_is_written_as_it_is() -> None:
    """RFC 6532: there is no encoding for it, and never an encoded-word in an address."""
    draft = make_draft(from_="app@example.com", to=["Jürgen <jürgen@example.com>"], text="x")

    content = compose(draft, message_id=_ID, date_us=_DATE_US)

    assert "To: =?utf-8?q?J=C3=BCrgen?= <jürgen@example.com>\r\n".encode() in content


_CHARACTERS = st.characters(exclude_categories=["Cs"])
_TEXTS = st.text(st.one_of(st.sampled_from("\n\r .=-_\tü€"), _CHARACTERS), min_size=1, max_size=2500)
_LINES = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1, max_size=300)


@given(text=_TEXTS, html=_TEXTS)
def test_texts_arrive_as_they_were_given(text: str, html: str) -> None:
    """Whatever they hold, but for the kind of line end."""
    message = _read(_compose(text=text, html=html, attachments=[Attachment("a", "", b"x")]))

    assert _bytes_of(message, "plain") == _with_crlf(text)
    assert _bytes_of(message, "html") == _with_crlf(html)


@given(text=_TEXTS)
def test_a_text_alone_arrives_as_it_was_given(text: str) -> None:
    """But for a last line end, which a message must have."""
    message = _read(_compose(text=text))

    arrived = _bytes_of(message, "plain")
    assert arrived.removesuffix(b"\r\n") == _with_crlf(text).removesuffix(b"\r\n")


def _bytes_of(message: EmailMessage, subtype: str) -> bytes:
    part = message.get_body((subtype,))
    assert part is not None
    return cast(bytes, part.get_payload(decode=True))


def _with_crlf(text: str) -> bytes:
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\n", "\r\n").encode()


@given(subject=_LINES)
def test_a_subject_arrives_as_it_was_given(subject: str) -> None:
    """But for spaces around it; and our own reading of it agrees."""
    content = _compose(subject=subject, text="x")

    assert str(_read(content)["Subject"] or "").strip() == subject.strip()
    again = complete(content, message_id=_ID, date_us=_DATE_US, domain="example.com")
    assert again.content == content
    assert again.subject.strip() == subject.strip()


@given(name=_LINES.map(lambda name: name[:255]), content=st.binary(max_size=500))
@example(name="=??Q??=", content=b"x")
def test_an_attachment_arrives_as_it_was_given(name: str, content: bytes) -> None:
    """Its name too, in whatever script (RFC 2231)."""
    message = _read(_compose(text="x", attachments=[Attachment(name, "application/pdf", content)]))

    (part,) = message.iter_attachments()
    assert part.get_content() == content
    assert (part.get_filename() or "") == name.strip()


@given(
    st.text(max_size=100),
    st.text(max_size=100),
    st.text(max_size=100),
    st.dictionaries(st.text(max_size=20), st.text(max_size=60), max_size=3),
)
def test_no_input_adds_a_header_or_a_part(name: str, subject: str, text: str, headers: dict[str, str]) -> None:
    """For any text in any field: refused, or exactly the fields and the parts that were asked for."""
    try:
        content = _compose(from_=f'"{name}" <app@example.com>', subject=subject, text=f"x{text}", headers=headers)
    except InvalidArgument:
        return

    asked = {"Date", "From", "To", "Message-ID", "MIME-Version", "Content-Type", "Content-Transfer-Encoding", *headers}
    asked |= {"Subject"} & ({"Subject"} if subject.strip() else set())
    asked |= {"Auto-Submitted"}
    head = content.partition(b"\r\n\r\n")[0].decode()
    fields = [line.partition(":")[0] for line in head.split("\r\n") if line[0] not in " \t"]
    assert sorted(map(str.lower, fields)) == sorted(map(str.lower, asked))
