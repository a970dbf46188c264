"""What a mail server answers: reply lines and enhanced status codes (RFC 5321 4.2, RFC 3463), parsed and written."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

MAX_REPLY_LINE_BYTES = 4096  #: RFC 5321 4.5.3.1.5 says 512; real servers exceed it
MAX_REPLY_LINES = 256
_MAX_WRITTEN_TEXT = 480  # keeps a line that we write below RFC 5321's 512 octets

_LINE = re.compile(rb"[2-5][0-9]{2}(?:[ -]|$)")
_ENHANCED = re.compile(r"([245])\.[0-9]{1,3}\.[0-9]{1,3}(?: +|$)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class ProtocolError(Exception):
    """The peer said something that is not SMTP; the connection is of no further use. The text shows what it said."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What the next hop answered, e.g. Reply(450, "4.2.1", "mailbox busy")."""

    code: int  #: RFC 5321 reply code, 200-599
    enhanced: str  #: RFC 3463 "class.subject.detail"; "" when none was sent
    text: str  #: the lines without codes, joined by one space; control characters replaced

    @property
    def is_positive(self) -> bool:
        return self.code // 100 == 2

    @property
    def is_permanent(self) -> bool:
        return self.code // 100 == 5

    def __str__(self) -> str:
        return " ".join(filter(None, (str(self.code), self.enhanced, self.text)))


class ReplyReader:
    """Cuts a stream of bytes into replies, each a list of raw lines without line ends. A bare LF ends a line too."""

    def __init__(self) -> None:
        self._rest = b""
        self._lines: list[bytes] = []

    @property
    def is_empty(self) -> bool:
        """Whether no part of a reply is waiting for its end."""
        return not self._rest and not self._lines

    def feed(self, data: bytes) -> list[list[bytes]]:
        """Return the replies completed by `data`. Raises ProtocolError."""
        if self._rest:
            data = self._rest + data
            self._rest = b""
        replies = []
        lines = data.split(b"\n")
        rest = lines.pop()
        for line in lines:
            if line.endswith(b"\r"):
                line = line[:-1]
            if not _LINE.match(line):
                raise ProtocolError(f"not an SMTP reply: {_shown(line)}")
            if len(line) > MAX_REPLY_LINE_BYTES:
                raise ProtocolError(f"reply line longer than {MAX_REPLY_LINE_BYTES} octets: {_shown(line)}")
            if self._lines and line[:3] != self._lines[0][:3]:
                raise ProtocolError(f"two codes in one reply: {_shown(self._lines[0])} and {_shown(line)}")
            self._lines.append(line)
            if line[3:4] != b"-":
                replies.append(self._lines)
                self._lines = []
            elif len(self._lines) >= MAX_REPLY_LINES:
                raise ProtocolError(f"reply of more than {MAX_REPLY_LINES} lines: {_shown(line)}")
        if rest:
            if len(rest) > MAX_REPLY_LINE_BYTES:
                raise ProtocolError(f"reply line longer than {MAX_REPLY_LINE_BYTES} octets: {_shown(rest)}")
            if not rest[:3].isdigit() if len(rest) >= 3 else not rest.isdigit():  # Garbage need not end in a line end.
                raise ProtocolError(f"not an SMTP reply: {_shown(rest)}")
            self._rest = rest
        return replies


def parse_reply(lines: Sequence[bytes]) -> Reply:
    """Return the reply in `lines`, as ReplyReader gives them."""
    return _parse_line(lines[0]) if len(lines) == 1 else _parse_lines(tuple(lines))


@lru_cache(maxsize=512)  # A server says the same few lines all day.
def _parse_line(line: bytes) -> Reply:
    return _parse_lines((line,))


def _parse_lines(lines: tuple[bytes, ...]) -> Reply:
    enhanced, texts = "", []
    for line in lines:
        text = _CONTROL.sub("\N{REPLACEMENT CHARACTER}", line[4:].decode("utf-8", "replace")).strip()
        found = _ENHANCED.match(text)
        if found and found[1] == chr(lines[0][0]):  # RFC 2034 4: the class repeats the code's first digit.
            enhanced = enhanced or found[0].strip()
            text = text[found.end() :]
        if text:
            texts.append(text)
    return Reply(int(lines[0][:3]), enhanced, " ".join(texts))


def format_reply(reply: Reply) -> bytes:
    """Return `reply` as one line with CRLF; what does not belong in a reply line becomes "?" or a space."""
    text = _CONTROL.sub(" ", reply.text)[:_MAX_WRITTEN_TEXT].encode("ascii", "replace")
    enhanced = reply.enhanced.encode() + b" " if reply.enhanced else b""
    return b"%d %b%b\r\n" % (reply.code, enhanced, text)


def _shown(line: bytes) -> str:
    return ascii(line[:80].decode("latin-1"))
