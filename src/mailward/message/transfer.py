"""Transfer encodings and MIME parameters: any content in 7-bit lines of lawful length (RFC 2045 6, RFC 2231)."""

import binascii
from collections.abc import Iterator
from urllib.parse import quote

from mailward.message.headers import MAX_LINE

_RFC2231_PIECE = 60
_ENCODED_AT_ONCE = 57 << 11  #: octets; 57 make a line


def text_body(text: str, boundary: str = "") -> tuple[str, bytes]:
    """Return the transfer encoding and the octets of `text`, its lines ended by CRLF however they were.

    `boundary`: what must not occur in it, since it separates the parts. Text in ASCII with lines of lawful length stays
    as it is; otherwise quoted-printable, or base64 when that is shorter.
    """
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    fits = text.isascii() and "\0" not in text and max(map(len, text.split("\n"))) <= MAX_LINE
    if fits and not (boundary and boundary in text):
        return "7bit", text.replace("\n", "\r\n").encode("ascii")
    octets = text.encode()
    quoted = binascii.b2a_qp(octets, quotetabs=False, istext=True, header=False)
    if len(quoted) * 3 > len(octets) * 4 + 64:
        return "base64", base64_body(octets.replace(b"\n", b"\r\n"))
    return "quoted-printable", quoted.replace(b"\n", b"\r\n")


def base64_body(octets: bytes) -> bytes:
    """Return `octets` in base64, 76 characters a line, the last without CRLF."""
    return b"".join(base64_parts(octets))


def base64_parts(octets: bytes) -> Iterator[bytes]:
    """Yield the `base64_body` of `octets` part by part."""
    for start in range(0, len(octets), _ENCODED_AT_ONCE):
        encoded = binascii.b2a_base64(octets[start : start + _ENCODED_AT_ONCE], newline=False)
        if start:
            yield b"\r\n"
        yield b"\r\n".join([encoded[line : line + 76] for line in range(0, len(encoded), 76)])


def is_7bit(octets: bytes) -> bool:
    """Whether `octets` may travel as they are: ASCII without NUL, lines ended by CRLF and of lawful length."""
    if not octets.isascii() or b"\0" in octets:
        return False
    line_ends = octets.count(b"\r\n")
    if octets.count(b"\r") != line_ends or octets.count(b"\n") != line_ends:
        return False
    return max(map(len, octets.split(b"\r\n"))) <= MAX_LINE


def parameter(name: str, value: str) -> str:
    """Return `; name="value"` on a line of its own; percent-encoded, and in pieces, where RFC 2231 asks for it."""
    if value.isascii() and "=?" not in value and len(value) <= _RFC2231_PIECE:  # Many decode words where none may be.
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f';\r\n {name}="{escaped}"'
    encoded = quote(value, safe="!#$&+-.^_`{}~")
    if len(encoded) <= _RFC2231_PIECE:
        return f";\r\n {name}*=utf-8''{encoded}"
    pieces = []
    start = 0
    while start < len(encoded):
        end = start + _RFC2231_PIECE
        # A percent sign and its two digits stay together.
        cut = encoded.rfind("%", end - 2, end)
        if cut > start:
            end = cut
        pieces.append(encoded[start:end])
        start = end
    first = f";\r\n {name}*0*=utf-8''{pieces[0]}"
    return first + "".join([f";\r\n {name}*{index}*={piece}" for index, piece in enumerate(pieces[1:], 1)])
