"""Header fields: which a caller may set, and how they are written so that no line is too long (RFC 5322 2.2, 3.6)."""

import re
from datetime import UTC, datetime
from functools import lru_cache

from mailward.errors import InvalidArgument
from mailward.message.address import CONTROLS, parse_mailbox
from mailward.message.encoded_words import decode_words, encode_words

MAX_LINE = 998  #: RFC 5322 2.1.1, without CRLF
FOLD_AT = 78  #: RFC 5322 2.1.1, the wished-for length
MAX_NAME = 76  #: ours: leaves a header name and a fold on one line

_is_name = re.compile(r"[!-9;-~]+").fullmatch  # RFC 5322 3.6.8, ftext
_is_message_id = re.compile(r"<[!-;=?A-~]+@[!-;=?A-~]+>").fullmatch  # RFC 5322 3.6.4, without its quoted forms
_is_text_of_headers = re.compile(r"[\t -~]*").fullmatch
_WORDS = re.compile(r"[ \t]*[^ \t]+")

#: Written by us or by servers on the way; each has its own field in a draft or none.
_STRUCTURAL = frozenset(
    {
        "from", "sender", "to", "cc", "bcc", "reply-to", "subject", "date", "mime-version", "received", "return-path",
        "delivered-to", "dkim-signature", "domainkey-signature", "authentication-results", "received-spf",
    }
)  # fmt: skip
_STRUCTURAL_PREFIXES = ("content-", "resent-", "arc-")

#: Fields that hold one mailbox: encoded as a whole they would be no address any more.
_MAILBOX = frozenset({"disposition-notification-to", "return-receipt-to", "errors-to"})
#: Fields of tokens, ids or URIs, where an encoded-word is not allowed (RFC 2047 5).
_ASCII_ONLY = frozenset(
    {
        "message-id", "in-reply-to", "references", "auto-submitted", "precedence", "importance", "priority",
        "idempotency-key", "feedback-id",
    }
)  # fmt: skip

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def check_header(name: str, value: str) -> str:
    """Return the field "Name: value" and CRLF, encoded and folded, for a header that a caller wants to add.

    Raises InvalidArgument, with the pointer "/headers/NAME", for a name that is not a header name, one that belongs to
    us or to servers on the way, and a value that holds control characters, also when its encoded-words are decoded.
    """
    pointer = f"/headers/{name.replace('~', '~0').replace('/', '~1')}"
    if not _is_name(name) or len(name) > MAX_NAME:
        raise InvalidArgument(
            "MESSAGE-e8Ht",
            f"a header name is 1 to {MAX_NAME} printable ASCII characters, without space and colon",
            pointer=pointer,
        )
    key = name.lower()
    if key in _STRUCTURAL or key.startswith(_STRUCTURAL_PREFIXES):
        raise InvalidArgument("MESSAGE-q2Mx", f"the header {name} cannot be set", pointer=pointer)
    text = clean(value, pointer)
    if key == "message-id" and (not _is_message_id(text) or len(text) > 250):
        raise InvalidArgument("MESSAGE-b6Ya", "a Message-ID looks like <left@right>", pointer=pointer)
    if key in _MAILBOX:
        return f"{name}: {parse_mailbox(value, pointer=pointer)}\r\n"
    if (key in _ASCII_ONLY or key.startswith("list-")) and not text.isascii():
        raise InvalidArgument("MESSAGE-x4Ng", f"the header {name} takes ASCII characters only", pointer=pointer)
    if text.isascii() and "=?" not in text and max(map(len, text.split())) > MAX_LINE - 1:
        raise InvalidArgument("MESSAGE-a7Sk", f"a word of {name} does not fit on a line", pointer=pointer)
    return field(name, text)


def clean(value: str, pointer: str) -> str:
    """Return `value` decoded and stripped. Raises InvalidArgument if it is empty or holds control characters.

    An encoded-word is understood, not kept, so that nothing can hide in it and nothing is encoded twice.
    """
    if CONTROLS.search(value):
        raise InvalidArgument("MESSAGE-u5Wc", "a header must not contain control characters", pointer=pointer)
    text = value
    if "=?" in value:
        text = decode_words(value)
        if CONTROLS.search(text):
            raise InvalidArgument(
                "MESSAGE-j1Td", "a header must not contain control characters, encoded or not", pointer=pointer
            )
    text = text.strip()
    if not text:
        raise InvalidArgument("MESSAGE-f9Ro", "a header must not be empty", pointer=pointer)
    return text


def field(name: str, text: str) -> str:
    """Return "name: text" and CRLF, with `text` (already `clean`) in encoded-words where it must be, folded."""
    if _is_text_of_headers(text) and "=?" not in text:
        if len(name) + len(text) + 2 <= FOLD_AT:
            return f"{name}: {text}\r\n"
        folded = fold(name, text)
        if folded:
            return folded
    return f"{name}: {encode_words(text, used=len(name) + 2)}\r\n"


def fold(name: str, text: str) -> str:
    """Return "name: text" and CRLF with line breaks put before spaces; "" when a word is too long for any line."""
    lines: list[str] = []
    line = name + ":"
    for word in _WORDS.findall(" " + text):
        if len(word) > MAX_LINE:
            return ""
        if len(line) + len(word) > FOLD_AT and (lines or line[-1] != ":" or len(line) + len(word) > MAX_LINE):
            lines.append(line)
            line = word
        else:
            line += word
    lines.append(line)
    return "\r\n".join(lines) + "\r\n"


def mailbox_field(name: str, mailboxes: list[str]) -> str:
    """Return "name: mailbox, mailbox" and CRLF; one mailbox a line when they do not fit on one."""
    line = f"{name}: {', '.join(mailboxes)}\r\n"
    if len(line) <= FOLD_AT + 2:
        return line
    joined = ",\r\n ".join(mailboxes)
    return f"{name}: {joined}\r\n"


def date_text(date_us: int) -> str:
    """Return `date_us` (µs since 1970) as RFC 5322 3.3 writes it, in UTC: "Tue, 24 Nov 2026 09:30:00 +0000"."""
    return _date_text(date_us // 1_000_000)


@lru_cache(maxsize=8)
def _date_text(second: int) -> str:
    at = datetime.fromtimestamp(second, UTC)
    # strftime would ask the locale for the names.
    day, month = _DAYS[at.weekday()], _MONTHS[at.month - 1]
    return f"{day}, {at.day:02} {month} {at.year:04} {at.hour:02}:{at.minute:02}:{at.second:02} +0000"
