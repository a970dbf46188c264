"""Encoded-words: text other than ASCII in header fields, both ways (RFC 2047)."""

import base64
import binascii
import re
from collections.abc import Callable

MAX_LINE = 76  #: RFC 2047 2: a line with an encoded-word is at most this long
_MAX_WORD = 75
_Q_OVERHEAD = len("=?utf-8?q??=")

# The set that is safe in a phrase too (RFC 2047 5, rule 3), so one encoder serves names and subjects.
_SAFE = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!*+-/")
_Q = [chr(octet) if octet in _SAFE else "_" if octet == 0x20 else f"={octet:02X}" for octet in range(256)]

_WORD = re.compile(r"=\?([^?*\s]+)(?:\*[^?\s]*)?\?([BbQq])\?([^?\s]*)\?=")
_BETWEEN_WORDS = re.compile(r"(\?=)[ \t\r\n]+(?==\?)")


def encode_words(text: str, used: int = 0) -> str:
    """Return `text` as encoded-words of at most 75 characters, one a line, joined by CRLF and a space.

    `used`: how much of the first line is taken, e.g. by "Subject: ". Whole characters stay in one word.
    """
    data = text.encode()
    quoted = "".join(map(_Q.__getitem__, data))
    room = min(_MAX_WORD, MAX_LINE - used) - _Q_OVERHEAD
    if len(quoted) <= room:
        return f"=?utf-8?q?{quoted}?="
    if len(quoted) * 3 <= len(data) * 5:
        return _in_words(text, "q", _q_length, _q_word, room, _MAX_WORD - _Q_OVERHEAD)
    # Base64 makes four characters of three octets, so the room is counted in octets.
    return _in_words(text, "b", _octets, _b_word, room // 4 * 3, (_MAX_WORD - _Q_OVERHEAD) // 4 * 3)


def _in_words(
    text: str, scheme: str, measure: Callable[[str], int], write: Callable[[str], str], first_room: int, room: int
) -> str:
    words = []
    start = size = 0
    left = max(first_room, 12)  # One character of four octets must fit, whatever the name before it.
    for position, character in enumerate(text):
        length = measure(character)
        if size + length > left:
            words.append(f"=?utf-8?{scheme}?{write(text[start:position])}?=")
            start, size, left = position, 0, room
        size += length
    words.append(f"=?utf-8?{scheme}?{write(text[start:])}?=")
    return "\r\n ".join(words)


def _q_word(text: str) -> str:
    return "".join(map(_Q.__getitem__, text.encode()))


def _q_length(character: str) -> int:
    return len(_q_word(character))


def _b_word(text: str) -> str:
    return base64.b64encode(text.encode()).decode("ascii")


def _octets(character: str) -> int:
    return len(character.encode())


def decode_words(text: str) -> str:
    """Return `text` with its encoded-words decoded; one that cannot be decoded stays as it is.

    The result may hold any character, CR and LF included: that is what callers look for.
    """
    if "=?" not in text:
        return text
    text = _BETWEEN_WORDS.sub(r"\1", text)
    # Senders split characters of several octets between words, so octets of neighbours are joined first.
    out: list[str] = []
    end = 0
    charset, octets = "", b""
    for match in _WORD.finditer(text):
        payload = _payload(match[2], match[3])
        if payload is None:
            continue
        if match.start() != end or match[1].lower() != charset:
            out.append(_decode(octets, charset))
            out.append(text[end : match.start()])
            charset, octets = match[1].lower(), b""
        octets += payload
        end = match.end()
    out.append(_decode(octets, charset))
    out.append(text[end:])
    return "".join(out)


def _payload(scheme: str, text: str) -> bytes | None:
    try:
        if scheme in "Qq":
            return binascii.a2b_qp(text.encode(), header=True)
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (ValueError, UnicodeError):
        return None


def _decode(octets: bytes, charset: str) -> str:
    if not octets:
        return ""
    try:
        return octets.decode(charset, "replace")
    except (LookupError, ValueError):
        return octets.decode("latin-1")  # An unknown charset must not hide a CR or LF from who looks for it.
