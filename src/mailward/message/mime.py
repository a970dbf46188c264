"""Composing a message from a draft: header fields, the MIME structure, and encodings that every relay carries.

Written by hand because it runs on the event loop: 2 KiB of text and HTML take about 10 µs, the standard library's
`email` package takes a hundred times as long. Everything composed is ASCII in lines of at most 998 octets, except
addresses whose local part is not ASCII, which need SMTPUTF8 anyway.
"""

from collections.abc import Iterator

from mailward.ids import MessageId, format_message_id
from mailward.message.draft import Attachment, Draft
from mailward.message.headers import date_text, field, mailbox_field
from mailward.message.plain_text import plain_text
from mailward.message.transfer import base64_parts, is_7bit, parameter, text_body


def compose(draft: Draft, *, message_id: MessageId, date_us: int) -> bytes:
    """Return the message of `draft` with CRLF line ends, ended by CRLF.

    `message_id` becomes the Message-ID, on the sender's domain, unless the draft brings its own; `date_us`: µs since
    1970. An HTML without a text gets one made from it. Bcc is left out.
    """
    return b"".join(compose_parts(draft, message_id=message_id, date_us=date_us))


def compose_parts(draft: Draft, *, message_id: MessageId, date_us: int) -> Iterator[bytes]:
    """Yield what `compose` returns part by part: its attachments are encoded as they are asked for."""
    # "=_" occurs in no quoted-printable and no base64, so only plain parts need a look for the boundary.
    boundary = f"=_{message_id}"
    content_type, body = _body(draft, boundary)
    yield f"{_fields(draft, message_id, date_us)}{content_type}\r\n".encode()
    last = b""
    for octets in body:
        if isinstance(octets, bytes):
            yield (last := octets)
        else:
            yield from octets
    if not last.endswith(b"\r\n"):
        yield b"\r\n"


def new_message_id(message_id: MessageId, domain: str) -> str:
    """Return the Message-ID field's value, e.g. "<msg_227654321098765432@example.com>"."""
    return f"<{format_message_id(message_id)}@{domain}>"


def _fields(draft: Draft, message_id: MessageId, date_us: int) -> str:
    given = draft.fields
    fields = [f"Date: {date_text(date_us)}\r\n", mailbox_field("From", [str(draft.from_)])]
    if draft.reply_to:
        fields.append(mailbox_field("Reply-To", [str(mailbox) for mailbox in draft.reply_to]))
    if draft.to:
        fields.append(mailbox_field("To", [str(mailbox) for mailbox in draft.to]))
    if draft.cc:
        fields.append(mailbox_field("Cc", [str(mailbox) for mailbox in draft.cc]))
    if draft.subject:
        fields.append(field("Subject", draft.subject))
    if "message-id" not in given:
        fields.append(f"Message-ID: {new_message_id(message_id, draft.from_.domain)}\r\n")
    if "auto-submitted" not in given:
        fields.append("Auto-Submitted: auto-generated\r\n")  # RFC 3834: no vacation notices to an application.
    fields.extend(given.values())
    fields.append("MIME-Version: 1.0\r\n")
    return "".join(fields)


# A part is its Content-* fields, each with CRLF, and its octets, less the CRLF that belongs to the boundary after it:
# bytes, or what is encoded when somebody asks for it.
_Part = tuple[str, list[bytes | Iterator[bytes]]]


def _body(draft: Draft, boundary: str) -> _Part:
    inline = [given for given in draft.attachments if given.content_id and draft.html]
    attached = [given for given in draft.attachments if not (given.content_id and draft.html)]
    parts: list[_Part] = []
    if draft.text or draft.html:
        parts.append(_texts(draft, inline, boundary))
    parts.extend([_attachment(given, "attachment", boundary) for given in attached])
    return parts[0] if not attached else _multipart("mixed", boundary, "m", parts)


def _texts(draft: Draft, inline: list[Attachment], boundary: str) -> _Part:
    """Return the text, the HTML, or both as alternatives; the HTML together with what it shows."""
    # A composed message is in parts when there is HTML or an attachment: then the texts must not hold the boundary.
    if not draft.html:
        return _text("plain", draft.text, boundary if draft.attachments else "")
    html = _text("html", draft.html, boundary)
    if inline:
        html = _multipart(
            "related", boundary, "r", [html, *(_attachment(given, "inline", boundary) for given in inline)]
        )
    text = draft.text or plain_text(draft.html)
    return _multipart("alternative", boundary, "a", [_text("plain", text, boundary), html]) if text else html


def _text(subtype: str, text: str, boundary: str) -> _Part:
    encoding, octets = text_body(text, boundary)
    return f"Content-Type: text/{subtype}; charset=utf-8\r\nContent-Transfer-Encoding: {encoding}\r\n", [octets]


def _multipart(subtype: str, boundary: str, level: str, parts: list[_Part]) -> _Part:
    """Return `parts` as one. `level`: a letter that differs between multiparts within each other."""
    name = f"{boundary}{level}"
    out: list[bytes | Iterator[bytes]] = []
    for fields, octets in parts:
        out.append(f"--{name}\r\n{fields}\r\n".encode("ascii"))
        out.extend(octets)
        out.append(b"\r\n")
    out.append(f"--{name}--".encode("ascii"))
    return f'Content-Type: multipart/{subtype}; boundary="{name}"\r\n', out


def _attachment(given: Attachment, disposition: str, boundary: str) -> _Part:
    content_type, encoding = given.content_type, "base64"
    if content_type.lower().startswith("message/"):
        # RFC 2046 5.2.1 forbids to encode a message; one that cannot travel as it is becomes a file.
        if is_7bit(given.content) and boundary.encode("ascii") not in given.content:
            encoding = "7bit"
        else:
            content_type = "application/octet-stream"
    fields = [
        f"Content-Type: {content_type}\r\n",
        f"Content-Transfer-Encoding: {encoding}\r\n",
        f"Content-Disposition: {disposition}{parameter('filename', given.name) if given.name else ''}\r\n",
    ]
    if given.content_id:
        fields.append(f"Content-ID: <{given.content_id}>\r\n")
    return "".join(fields), [base64_parts(given.content) if encoding == "base64" else given.content]
