"""Header fields by which mail tells us how to treat it, and what a mail is apart from what differs in each sending."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from mailward.errors import InvalidArgument

#: Fields meant for us; they do not travel on.
NAMES = frozenset(
    {b"idempotency-key", b"x-mailward-lane", b"x-mailward-tag", b"x-mailward-ttl", b"x-mailward-expires-at"}
)
MAX_LIFETIME_S = 30 * 86_400
MAX_TAGS, MAX_TAG_CHARACTERS = 20, 100

_is_seconds = re.compile("[0-9]{1,9}").fullmatch


@dataclass(frozen=True, slots=True, kw_only=True)
class MailOptions:
    """What the fields say; "" and None where they say nothing."""

    idempotency_key: str | None = None
    lane: str = ""
    tags: tuple[str, ...] = ()
    ttl_s: int | None = None
    expires_at_us: int | None = None


NO_OPTIONS = MailOptions()


def read_options(fields: Sequence[tuple[str, str]]) -> MailOptions:
    """Return what `fields` (Completed.options) ask for. Raises InvalidArgument that names the field."""
    if not fields:
        return NO_OPTIONS
    given: dict[str, str] = {}
    tags = []
    for name, value in fields:
        if name == "x-mailward-tag":
            if not 1 <= len(value) <= MAX_TAG_CHARACTERS:
                raise InvalidArgument("MESSAGE-tag", f"X-Mailward-Tag: a tag has 1 to {MAX_TAG_CHARACTERS} characters")
            tags.append(value)
        elif name in given:
            raise InvalidArgument("MESSAGE-twice", f"the field {name} is given twice")
        else:
            given[name] = value
    if len(tags) > MAX_TAGS:
        raise InvalidArgument("MESSAGE-tags", f"X-Mailward-Tag: at most {MAX_TAGS} tags")
    ttl, expires_at = given.get("x-mailward-ttl"), given.get("x-mailward-expires-at")
    if ttl is not None and expires_at is not None:
        raise InvalidArgument("MESSAGE-end", "give X-Mailward-TTL or X-Mailward-Expires-At, not both")
    return MailOptions(
        idempotency_key=given.get("idempotency-key"),
        lane=given.get("x-mailward-lane", "").lower(),
        tags=tuple(dict.fromkeys(tags)),
        ttl_s=None if ttl is None else _seconds(ttl),
        expires_at_us=None if expires_at is None else _moment(expires_at),
    )


def _seconds(text: str) -> int:
    if not _is_seconds(text) or not 1 <= int(text) <= MAX_LIFETIME_S:
        raise InvalidArgument("MESSAGE-ttl", f"X-Mailward-TTL: a number of seconds from 1 to {MAX_LIFETIME_S}")
    return int(text)


def _moment(text: str) -> int:
    """Return RFC 3339 text, e.g. "2026-11-25T09:30:00Z", in µs since 1970."""
    try:
        at = datetime.fromisoformat(text)
        if at.tzinfo is None:
            raise ValueError(text)
        return int(at.timestamp()) * 1_000_000 + at.microsecond
    except (ValueError, OverflowError):
        raise InvalidArgument(
            "MESSAGE-moment", "X-Mailward-Expires-At: a moment looks like 2026-11-25T09:30:00Z (RFC 3339)"
        ) from None


#: What a program that sends the same mail again writes anew.
_FRESH = frozenset({b"date", b"message-id", b"received", b"idempotency-key"})
_BOUNDARY = re.compile(rb"""boundary[ \t]*=[ \t]*(?:"([^"\r\n]{1,200})"|([^\s";]{1,200}))""", re.IGNORECASE)


def lasting_parts(raw: bytes) -> tuple[bytes, bytes]:
    """Return what stays the same when a program makes the mail `raw` (RFC 5322, CRLF) again, for a fingerprint.

    Left out: Date, Message-ID, Received and the idempotency key itself; and the boundaries between its parts, which
    most programs draw anew.
    """
    return Lasting().begin(raw)


class Lasting:
    """`lasting_parts` of a mail that comes in pieces of whole lines."""

    def __init__(self) -> None:
        self._boundaries: dict[bytes, int] = {}

    def begin(self, raw: bytes) -> tuple[bytes, bytes]:
        """Return what lasts of the header section, which is all in `raw`, and of what of the body is."""
        end = 0 if raw.startswith(b"\r\n") else raw.find(b"\r\n\r\n")
        header, body = (raw, b"") if end < 0 else (raw[:end], raw[end:])
        kept = []
        keeping = True
        for line in header.split(b"\r\n"):
            if line[:1] not in (b" ", b"\t"):
                keeping = line.partition(b":")[0].strip().lower() not in _FRESH
            if keeping:
                kept.append(line)
        header = b"\r\n".join(kept)
        self._learn(raw)
        for boundary, number in self._boundaries.items():
            header = header.replace(boundary, b"=%d" % number)
        return header, self._plain(body)

    def go_on(self, piece: bytes) -> bytes:
        """Return what lasts of the body's next piece."""
        self._learn(piece)
        return self._plain(piece)

    def _learn(self, text: bytes) -> None:
        for quoted, bare in _BOUNDARY.findall(text):
            self._boundaries.setdefault(quoted or bare, len(self._boundaries))

    def _plain(self, body: bytes) -> bytes:
        for boundary, number in self._boundaries.items():
            body = body.replace(b"--" + boundary, b"--=%d" % number).replace(b'"%b"' % boundary, b'"=%d"' % number)
        return body
