"""The long strings of a large JSON text, taken out of it so that it is never there as a whole."""

from __future__ import annotations

import base64
import binascii
import json
import re
import secrets
from collections.abc import Iterable

_LONG_BYTES = 65_536
_MANY = 100_000  # strings after which no more are taken out: such a text is no large attachment

_REST_OF_STRING = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.S)
_URL_SAFE = bytes.maketrans(b"-_", b"+/")


class LongString:
    """What stood between two quotation marks, in the blocks in which it came. Can be read once."""

    def __init__(self, beginning: bytes | bytearray) -> None:
        self._blocks = [beginning]

    def go_on(self, block: bytes | bytearray) -> None:
        self._blocks.append(block)

    def text(self) -> str:
        """Return the text that it stands for. Raises ValueError when it is no JSON string."""
        whole, self._blocks = b"".join(self._blocks), []
        return str(json.loads(b'"%b"' % whole))

    def octets(self) -> bytes:
        """Return what the base64 in it stands for. Raises ValueError when it is none."""
        if any(b"\\" in block for block in self._blocks):  # Some write "+" or "/" so.
            return from_base64(self.text())
        blocks, self._blocks = self._blocks[::-1], []
        octets, rest = bytearray(), b""
        while blocks:
            encoded = rest + blocks.pop().translate(_URL_SAFE)
            cut = len(encoded) - len(encoded) % 4 if blocks else len(encoded)
            rest = encoded[cut:]
            if blocks and encoded.endswith(b"=", 0, cut):
                raise binascii.Error("more after the end")
            octets += _decoded(encoded[:cut])
        return bytes(octets)


def from_base64(text: str) -> bytes:
    """Return what `text` stands for, in the standard or the URL-safe alphabet, padded or not. Raises ValueError."""
    return _decoded(text.encode("ascii").translate(_URL_SAFE))


def _decoded(encoded: bytes) -> bytes:
    return base64.b64decode(encoded + b"=" * (-len(encoded) % 4), validate=True)


def take_out(
    blocks: Iterable[bytes | bytearray], long_bytes: int = _LONG_BYTES
) -> tuple[bytearray, dict[str, LongString]]:
    """Return the JSON text in `blocks` with a word in place of each long value, and those values by their words.

    A value that is a string counts as long when more than `long_bytes` of it stand in one block and it goes on in the
    next. The words cannot be guessed. What is no JSON before is none afterwards.
    """
    text = bytearray()
    found: dict[str, LongString] = {}
    secret = secrets.token_hex(16)
    current: LongString | None = None
    escaped = False  # its last block ended within an escape
    begun = b""  # of a short string that goes on in the next block
    strings = 0
    for block in blocks:
        rest = block
        if current is not None:
            end = _end(block, 1 if escaped else 0)
            if block[end : end + 1] != b'"':
                escaped = end < len(block)
                current.go_on(block)
                continue
            current.go_on(block[:end])
            current, rest = None, block[end + 1 :]
        elif begun:
            rest, begun = begun + block, b""
        at = 0
        while (quote := rest.find(b'"', at)) >= 0 and strings < _MANY:
            end = _end(rest, quote + 1)
            if rest[end : end + 1] == b'"':
                at = end + 1
                strings += 1
                continue
            text += rest[:quote]
            if len(rest) - quote <= long_bytes:
                begun, rest = bytes(rest[quote:]), bytearray()
            elif text[-8:].rstrip(b" \t\r\n").endswith(b":"):
                word = f"{secret}{len(found)}"
                text += f'"{word}"'.encode()
                found[word] = current = LongString(rest[quote + 1 :])
                escaped, rest = end < len(rest), bytearray()
            else:  # A name, or one of a list: then it is not worth the trouble.
                strings, rest = _MANY, rest[quote:]
            break
        text += rest
    text += begun
    return text, found


def _end(block: bytes | bytearray, start: int) -> int:
    """Return where the string ends in `block` of which `start` is a part: at its quotation mark, if that is there."""
    match = _REST_OF_STRING.match(block, start)
    assert match is not None
    return match.end()
