"""Taking in a whole message: checked, its trace and missing fields put on top, nothing else rewritten (RFC 6409 8)."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from mailward.errors import InvalidArgument
from mailward.ids import MessageId, format_message_id
from mailward.message.encoded_words import decode_words
from mailward.message.headers import MAX_LINE, date_text
from mailward.message.mime import new_message_id

MAX_HEADER_OCTETS = 262_144  #: ours; the whole header section
MAX_RECEIVED = 100  #: RFC 5321 6.3: more is a loop
MAX_SUBJECT_CHARACTERS = 998  #: of the subject kept for display

_is_name = re.compile(rb"[!-9;-~]{1,996}").fullmatch
_DOMAIN_OF_FROM = re.compile(rb"@((?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?\.)+[A-Za-z0-9-]+)\s*>?\s*$")
_UNSAFE = re.compile("[\r\n\0]")
_NOT_PRINTABLE = re.compile(r"[^!-'*-~]")  # parentheses would open a comment

_FROM, _SUBJECT, _DATE, _MESSAGE_ID, _RECEIVED = b"from", b"subject", b"date", b"message-id", b"received"
#: Bcc names who the others must not know of; Return-Path is written at final delivery (RFC 5321 4.4) and nowhere else.
_DROPPED = frozenset({b"bcc", b"resent-bcc", b"return-path"})
_SEEN = frozenset({_FROM, _SUBJECT, _DATE, _MESSAGE_ID, _RECEIVED})


@dataclass(slots=True)
class Completed:
    """A message ready to be stored."""

    content: bytes  #: with CRLF line ends, ended by CRLF
    subject: str  #: decoded, for display; "" when there is none
    has_utf8_fields: bool  #: the header section is not ASCII (RFC 6532)
    options: tuple[tuple[str, str], ...] = ()  #: the fields that were meant for us: lower-case name and unfolded value


def complete(
    raw: bytes,
    *,
    message_id: MessageId,
    date_us: int,
    domain: str,
    received: bytes = b"",
    options: frozenset[bytes] = frozenset(),
    lines_checked: bool = False,
) -> Completed:
    """Return `raw` with what it lacks: Date (`date_us`: µs since 1970), Message-ID, and a Received line.

    `domain`: for the Message-ID when From has none that fits. `received`: from `trace`, b"" for none. `options`:
    lower-case names of fields that are meant for us: they are returned apart and left out, like Bcc and Return-Path.
    `lines_checked`: the SMTP machine has refused bare CR, bare LF and long lines already.

    Raises InvalidArgument when `raw` is no message by RFC 5322: bare CR or LF, NUL, a line over 998 octets, a field
    that is none, no From or several, a CR, LF or NUL that an encoded-word hides.
    """
    if not lines_checked:
        _check_lines(raw)
    refuse_nul(raw)
    end = 0 if raw.startswith(b"\r\n") else raw.find(b"\r\n\r\n")
    header = raw[:end] if end >= 0 else raw.removesuffix(b"\r\n")
    if len(header) > MAX_HEADER_OCTETS:
        raise InvalidArgument("MESSAGE-Q6ib", f"the header section is longer than {MAX_HEADER_OCTETS} octets")
    if b"=?" in header and _UNSAFE.search(decode_words(header.replace(b"\r\n", b"").decode("latin-1"))):
        raise InvalidArgument("MESSAGE-T1pa", "an encoded-word in the header section hides a CR, LF or NUL")
    lines = header.split(b"\r\n") if header else []
    at, dropped = _read_fields(lines, options)

    top = []
    if received:
        top.append(b"%b%b; %b\r\n" % (received, format_message_id(message_id).encode(), date_text(date_us).encode()))
    if _DATE not in at:
        top.append(b"Date: %b\r\n" % date_text(date_us).encode())
    if _MESSAGE_ID not in at:
        found = _DOMAIN_OF_FROM.search(_value(lines, at[_FROM]))
        own = new_message_id(message_id, found[1].decode().lower() if found else domain)
        top.append(b"Message-ID: %b\r\n" % own.encode())
    meant: tuple[tuple[str, str], ...] = ()
    if dropped:
        meant = tuple(_fields_among(lines, dropped, options)) if options else ()
        rest = raw[len(header) + 2 :]
        kept = [line + b"\r\n" for index, line in enumerate(lines) if index not in dropped]
        top.extend(kept)
    else:
        rest = raw
    top.append(rest)
    if not raw.endswith(b"\r\n"):
        top.append(b"\r\n")
    subject = _subject(lines, at[_SUBJECT]) if _SUBJECT in at else ""
    return Completed(b"".join(top), subject, not header.isascii(), meant)


def further(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the other pieces of a message whose first one is complete, the last ended by CRLF. Raises as `complete`."""
    for piece in pieces:
        _check_lines(piece)
        refuse_nul(piece)
        yield piece if piece.endswith(b"\r\n") or not piece else piece + b"\r\n"


def refuse_nul(raw: bytes) -> None:
    """Raise InvalidArgument when `raw` contains NUL (RFC 5322 4.1)."""
    if b"\0" in raw:
        raise InvalidArgument("MESSAGE-L7cg", "the message contains NUL")


def trace(helo: str, peer: str, by: str, protocol: str) -> bytes:
    """Return the Received line up to its id, the same for all messages of a session (RFC 5321 4.4).

    `helo`: what the client called itself; `peer`: its IP address; `by`: our host name; `protocol`: e.g. "ESMTPSA".
    """
    name = _NOT_PRINTABLE.sub("?", helo)[:255] or "unknown"
    literal = f"IPv6:{peer}" if ":" in peer else peer
    return f"Received: from {name} ([{literal}])\r\n\tby {by} with {protocol} id ".encode("ascii", "replace")


def _check_lines(raw: bytes) -> None:
    lines = raw.split(b"\r\n")
    ends = len(lines) - 1
    if raw.count(b"\r") != ends or raw.count(b"\n") != ends:
        raise InvalidArgument("MESSAGE-K5hs", "the message has a CR or LF that is not part of a CRLF")
    if max(map(len, lines)) > MAX_LINE:
        raise InvalidArgument("MESSAGE-M2vk", f"the message has a line of more than {MAX_LINE} octets")


def _read_fields(lines: list[bytes], options: frozenset[bytes]) -> tuple[dict[bytes, int], set[int]]:
    """Return where the fields that matter start, and which lines are to be left out."""
    at: dict[bytes, int] = {}
    dropped: set[int] = set()
    dropping = False
    received = 0
    for index, line in enumerate(lines):
        if line[0] in b" \t":
            if index == 0:
                raise InvalidArgument("MESSAGE-N4xu", "the message starts with a continuation line")
        else:
            key = _key(line.partition(b":")[0] if b":" in line else b"")
            dropping = key in _DROPPED or key in options
            if key in _SEEN:
                if key == _FROM and key in at:
                    raise InvalidArgument("MESSAGE-P8dz", "the message has more than one From field")
                received += key == _RECEIVED
                at.setdefault(key, index)
        if dropping:
            dropped.add(index)
    if received > MAX_RECEIVED:
        raise InvalidArgument("MESSAGE-R3nj", f"the message was received {received} times: it goes in circles")
    if _FROM not in at or not _value(lines, at[_FROM]).strip():
        raise InvalidArgument("MESSAGE-S9ow", "the message has no From field")
    return at, dropped


def _fields_among(lines: list[bytes], dropped: set[int], names: frozenset[bytes]) -> Iterator[tuple[str, str]]:
    for index in sorted(dropped):
        if lines[index][0] not in b" \t" and (key := _key(lines[index].partition(b":")[0])) in names:
            value = _value(lines, index).decode("utf-8", "replace")
            yield key.decode(), (decode_words(value) if "=?" in value else value).strip()


@lru_cache(maxsize=4096)
def _key(name: bytes) -> bytes:
    if not _is_name(name):
        raise InvalidArgument("MESSAGE-U7qe", "the header section has a line that is no header field")
    return name.lower()


def _value(lines: list[bytes], start: int) -> bytes:
    """Return the unfolded value of the field that starts at line `start`."""
    value = lines[start].partition(b":")[2]
    for line in lines[start + 1 :]:
        if line[0] not in b" \t":
            break
        value += line
    return value


def _subject(lines: list[bytes], start: int) -> str:
    value = _value(lines, start).strip()
    if value.isascii() and b"=?" not in value:
        return value.decode("ascii")[:MAX_SUBJECT_CHARACTERS]
    return decode_words(value.decode("utf-8", "replace")).strip()[:MAX_SUBJECT_CHARACTERS]
