"""Heads of HTTP/2: a request's out of a header block, an answer's into one (RFC 9113 8, RFC 7541)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from hpack import Decoder, HPACKError, OversizedHeaderListError
from hpack.hpack import encode_integer

from mailward.rpc.http import Headers, Response, split_target
from mailward.rpc.http2_frames import ErrorCode, Fault

_Fields = Sequence[tuple[bytes, bytes]]

#: Fields that belong to one connection of HTTP/1.1 (RFC 9113 8.2.2).
_CONNECTION_FIELDS = frozenset((b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"))

_PSEUDO_FIELDS = frozenset((b":method", b":scheme", b":authority", b":path"))

# RFC 9113 8.2.1; RFC 9110 5.6.2 with small letters.
_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_FORBIDDEN = re.compile(rb"[\0\r\n]|\A[ \t]|[ \t]\Z")

_REMEMBERED = 32  #: heads of one connection
_SHORT = 1_024  #: bytes of a block that is worth remembering


@dataclass(frozen=True, slots=True)
class Head:
    """The head of a request. `headers` may be shared by requests whose heads are equal."""

    method: str
    target: bytes
    path: str  #: "" for CONNECT, which has none
    query: str
    headers: Headers
    announced: int  #: Content-Length; -1 = none
    expects: bool  #: the client waits for 100


class HeadReader:
    """Decodes the header blocks of one connection.

    What a block stands for depends on the dynamic table that all blocks before it made. While the table stays as it is,
    equal blocks are equal heads, so they are decoded once: a client of gRPC asks for the same few methods, with the
    same token, all day.
    """

    def __init__(self, most_bytes: int) -> None:
        """`most_bytes`: of a header list, as RFC 9113 6.5.2 counts them."""
        self._decoder = Decoder(most_bytes)
        self._known: dict[bytes, Head] = {}

    def request(self, block: bytes) -> Head | None:
        """Return the head in `block`, None if it is malformed (RFC 9113 8.1.1). Raises Fault."""
        head = self._known.get(block)
        if head is not None:
            return head
        fields, is_repeatable = self._decode(block)
        head = request_head(fields)
        if head is not None and is_repeatable and len(block) <= _SHORT:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[block] = head
        return head

    def trailers(self, block: bytes) -> bool:
        """Decode trailers, which nobody reads here; return whether they are well-formed. Raises Fault."""
        fields, _ = self._decode(block)
        return all(_is_plain(name, value) for name, value in fields)

    def _decode(self, block: bytes) -> tuple[_Fields, bool]:
        """Return the fields, and whether the same block would stand for the same ones again. Raises Fault."""
        table = self._decoder.header_table
        before = self._newest, len(table.dynamic_entries), table.maxsize
        try:
            fields = list(self._decoder.decode(block, raw=True))
        except OversizedHeaderListError:
            raise Fault(ErrorCode.ENHANCE_YOUR_CALM) from None
        except (HPACKError, IndexError):
            raise Fault(ErrorCode.COMPRESSION_ERROR) from None
        if self._newest is before[0] and (len(table.dynamic_entries), table.maxsize) == before[1:]:
            return fields, True
        self._known.clear()
        return fields, False

    @property
    def _newest(self) -> object:
        """The entry added last to the dynamic table. One that is added is an object of its own, even if equal."""
        entries = self._decoder.header_table.dynamic_entries
        return entries[0] if entries else None


def request_head(fields: _Fields) -> Head | None:
    """Return the head that `fields` make, None if they are malformed (RFC 9113 8.1.1 to 8.3.1, 8.5)."""
    pseudo: dict[bytes, bytes] = {}
    raw: list[tuple[bytes, bytes]] = []
    cookies: list[bytes] = []
    host: bytes | None = None
    announced, expects, pseudo_is_over = -1, False, False
    for name, value in fields:
        if name[:1] == b":":
            if pseudo_is_over or name in pseudo or name not in _PSEUDO_FIELDS or _FORBIDDEN.search(value):
                return None
            pseudo[name] = value
            continue
        pseudo_is_over = True
        if not _is_plain(name, value):
            return None
        if name == b"cookie":
            cookies.append(value)
            continue
        if name == b"host":
            if host is not None:
                return None
            host = value
            continue
        if name == b"content-length":
            if announced >= 0 or not value.isdigit():
                return None
            announced = int(value)
        elif name == b"expect":
            expects = value.lower() == b"100-continue"
        raw.append((name, value))
    method, target = pseudo.get(b":method", b""), pseudo.get(b":path", b"")
    authority = pseudo.get(b":authority", host)
    if not method or authority is None or (host is not None and host != authority):
        return None
    is_connect = method == b"CONNECT"
    if bool(target) == is_connect or (b":path" in pseudo) == is_connect or (b":scheme" in pseudo) == is_connect:
        return None
    raw.insert(0, (b"host", authority))
    if cookies:  # RFC 9113 8.2.3
        raw.append((b"cookie", b"; ".join(cookies)))
    path, query = split_target(target) if target else ("", "")
    return Head(method.decode("latin-1"), target, path, query, Headers(raw), announced, expects)


def _is_plain(name: bytes, value: bytes) -> bool:
    """Whether a field that is no pseudo-header field may stand in a request (RFC 9113 8.2)."""
    if _NAME.fullmatch(name) is None or _FORBIDDEN.search(value) is not None or name in _CONNECTION_FIELDS:
        return False
    return name != b"te" or value.lower() == b"trailers"


# -- answers -----------------------------------------------------------------------------------------------------------

#: At the beginning of the first block of a connection: our blocks use no dynamic table (RFC 7541 4.2, 6.3). So the same
#: field is always the same bytes, and nothing an answer says can be guessed from the length of another.
NO_TABLE = b"\x20"


def response_block(response: Response, date: str, *, is_whole: bool = True) -> bytes:
    """Return the block with :status and fields. Raises ValueError for a line break in one of them.

    `is_whole`: the response's body is all that will be sent.
    """
    status = response.status
    block = status_block(status) + field_block(response.headers)
    names = {name.lower() for name, _ in response.headers}
    if "date" not in names:
        block += _field("date", date)
    has_length = is_whole and response.trailers is None and status != 204 and status != 304
    if has_length and "content-length" not in names:
        block += _field("content-length", str(len(response.body)))
    return block


def status_block(status: int) -> bytes:
    return b"\x08\x03%d" % status  # 8: the name in the static table


def field_block(fields: list[tuple[str, str]]) -> bytes:
    """Return the block with these fields, those of one connection of HTTP/1.1 left out. Raises ValueError."""
    return b"".join([_field(name, value) if len(value) <= 100 else _new_field(name, value) for name, value in fields])


def _new_field(name: str, value: str) -> bytes:
    """Return a field as a literal that no table remembers (RFC 7541 6.2.2). Raises ValueError for a line break."""
    if "\n" in value or "\r" in value or "\0" in value:
        raise ValueError("line break in a header field")
    try:
        raw_name, raw_value = name.lower().encode("latin-1"), value.encode("latin-1")
    except UnicodeEncodeError:
        raw_name, raw_value = name.lower().encode("utf-8"), value.encode("utf-8")
    if raw_name in _CONNECTION_FIELDS:
        return b""
    lengths = encode_integer(len(raw_name), 7), encode_integer(len(raw_value), 7)
    return b"\0" + lengths[0] + raw_name + lengths[1] + raw_value


#: Most fields of an answer are those of the one before it.
_field = lru_cache(maxsize=1_024)(_new_field)
