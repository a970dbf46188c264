"""HTTP/1.1 and 1.0 requests out of bytes (RFC 9112), by llhttp, with the limits and refusals llhttp leaves to us."""

from __future__ import annotations

import re
from enum import IntEnum
from typing import Protocol

import httptools

from mailward.rpc.http import BodyLimit, Headers, Request, split_target
from mailward.rpc.large import LARGE_BYTES, LargeBody
from mailward.rpc.limits import Limits

#: Fields that decide about framing or connection; the parser has looked at them, we look again.
_FRAMING = frozenset((b"host", b"content-length", b"transfer-encoding", b"expect"))
#: Bytes on the wire that a body may cost beyond 8 a byte (chunk heads and extensions), one large read included.
_CHUNKING_ALLOWANCE = 1 << 19


class Reading(IntEnum):
    """What the next byte belongs to."""

    NOTHING = 0  #: between requests
    HEAD = 1
    BODY = 2


class Receiver(Protocol):
    """Who gets what the reader finds; called while `feed` runs."""

    def arrived(self, request: Request, keep_alive: bool) -> None:
        """A request is there in full, or `too_large` says why it never will be."""

    def large_body(self, size: int) -> LargeBody:
        """Return what keeps a body of up to `size` bytes, which may have to wait for room."""

    def wants_continue(self) -> None:
        """The client waits for "100 Continue" before it sends the body (RFC 9110 10.1.1)."""


class _StopError(Exception):
    """Raised out of a parser callback to stop the parser."""


class RequestReader:
    """Reads the requests of one connection. Knows no clock: what takes too long is its owner's matter.

    The `on_...` methods are the parser's callbacks.
    """

    def __init__(self, receiver: Receiver, limits: Limits, max_body: BodyLimit, peer: str, scheme: str) -> None:
        self._receiver = receiver
        self._limits = limits
        self._max_body = max_body
        self._peer = peer
        self._scheme = scheme
        self._parser = httptools.HttpRequestParser(self)
        self._resuming = False  #: the parser is fed a head of our own making, see `_without_upgrade`
        self.reading = Reading.NOTHING
        self.deaf = False  #: whatever comes in from now on is thrown away
        self.begun = 0  #: requests whose first byte has come
        self.fault = 0  #: HTTP status of what made the reader give up

        self._target = b""
        self._fields: list[tuple[bytes, bytes]] = []
        self._in_head = False  #: fields belong to a head, not to trailers or to a head of ours
        self._read = 0  #: bytes of the read at hand
        self._first = 0  #: bytes of the read in which the head began
        self._unparsed = 0  #: bytes of the reads that followed
        self._hosts = 0
        self._announced = -1  #: Content-Length; -1 = none
        self._chunked = False
        self._expects = False
        self._upgrade = False
        self._request: Request | None = None
        self._chunks: list[bytes] = []
        self.large: LargeBody | None = None  #: the body at hand, once it is a large one
        self._limit = 0
        self._wire = 0  #: bytes read for the body
        self.size = 0  #: bytes of the body so far, those thrown away included

    @property
    def held(self) -> int:
        """Bytes of an unfinished body that are kept. A large one has room of its own."""
        return self.size if self._chunks else 0

    def feed(self, data: bytes) -> None:
        """Take the next bytes. Afterwards `fault` says whether the connection has to be given up."""
        self._read = len(data)
        if self.reading is Reading.BODY:
            self._wire += self._read
        elif self.reading is Reading.HEAD:
            self._unparsed += self._read
        while data and not self.deaf:
            try:
                self._parser.feed_data(data)
                break
            except httptools.HttpParserUpgrade as upgrade:
                data = self._without_upgrade() + data[upgrade.args[0] :]
            except httptools.HttpParserError:
                if not self.deaf:
                    self._give_up(self.fault or 400)
        if self.reading is Reading.HEAD:
            if self._unparsed > self._limits.head_bytes:
                self._give_up(431)
        elif self.reading is Reading.BODY and self._wire > 8 * self.size + _CHUNKING_ALLOWANCE:
            self._give_up(400)

    def stop(self) -> None:
        """Throw away what is half read and whatever comes."""
        self.deaf = True
        self.reading = Reading.NOTHING
        self._keep_nothing()

    def _keep_nothing(self) -> None:
        self._chunks = []
        if self.large is not None:
            self.large.leave()
            self.large = None

    def _give_up(self, status: int) -> None:
        self.fault = status
        self.stop()

    # -- the head --------------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._resuming:
            return
        if self.deaf:
            raise _StopError
        self.begun += 1
        self.reading = Reading.HEAD
        self._in_head = True
        self._target = b""
        self._fields = []
        self._first = self._read
        self._unparsed = self._hosts = 0
        self._announced = -1
        self._chunked = self._expects = self._upgrade = False

    def on_url(self, url: bytes) -> None:
        if self._in_head:
            self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:  # A trailer (RFC 9112 7.1.2) must not pass for a field.
            return
        name = name.lower()
        value = value.rstrip(b" \t")
        if name in _FRAMING:
            self._note_framing(name, value)
        self._fields.append((name, value))

    def _note_framing(self, name: bytes, value: bytes) -> None:
        if name == b"host":
            self._hosts += 1
        elif name == b"content-length":
            # The parser refuses everything but digits, a second one, and one beside Transfer-Encoding.
            self._announced = int(value)
        elif name == b"transfer-encoding":
            if value.lower() != b"chunked" or self._chunked:
                self._refuse(501)
            self._chunked = True
        else:
            self._expects = value.lower() == b"100-continue"

    def on_headers_complete(self) -> None:
        if self._resuming:
            self._resuming = False
            return
        self._in_head = False
        if len(self._fields) > self._limits.head_fields:
            self._refuse(431)
        if self._first + self._unparsed > self._limits.head_bytes:  # Only then can the head be too large.
            self._check_size()
        version = self._parser.get_http_version()
        if version != "1.1" and version != "1.0":
            self._refuse(505)
        if self._hosts != 1 and (version == "1.1" or self._hosts):
            self._refuse(400)  # RFC 9112 3.2
        if self._chunked and (version == "1.0" or self._announced >= 0):
            self._refuse(400)  # RFC 9112 6.1: where this request ends is anybody's guess.
        method = self._parser.get_method().decode("latin-1")
        if method == "CONNECT":
            self._refuse(405)
        if self._target[:1] != b"/" and b"://" in self._target:  # RFC 9112 3.2.2: its authority counts, not Host.
            authority = re.split(rb"[/?#]", self._target.split(b"://", 1)[1], maxsplit=1)[0]
            self._fields = [(b"host", authority), *(field for field in self._fields if field[0] != b"host")]
        path, query = split_target(self._target)
        self._request = Request(
            method, self._target, path, query, Headers(self._fields), b"", self._peer, self._scheme, version
        )
        self._upgrade = self._parser.should_upgrade()
        self.reading = Reading.BODY
        self.size = self._wire = 0
        if self._chunked or self._announced > 0:
            self._begin_body(self._request)

    def _check_size(self) -> None:
        if len(self._target) > self._limits.head_bytes:
            self._refuse(414)
        size = sum(len(name) + len(value) + 4 for name, value in self._fields)
        if len(self._target) + size > self._limits.head_bytes:
            self._refuse(431)

    def _refuse(self, status: int) -> None:
        self.fault = status
        raise _StopError

    # -- the body --------------------------------------------------------------------------------------------------

    def _begin_body(self, request: Request) -> None:
        self._limit = self._max_body(request.method, request.path)
        if self._announced > self._limit:
            request.too_large = self._announced
            if self._expects or self._announced > self._limits.drained_bytes:
                self._arrives_early(request)
            return
        if self._announced > LARGE_BYTES:
            self.large = self._receiver.large_body(self._announced)
        if self._expects and request.http_version == "1.1":
            self._receiver.wants_continue()

    def _arrives_early(self, request: Request) -> None:
        """Hand the request on before its body has come, which is too long to be read only to be thrown away."""
        self.stop()
        self._receiver.arrived(request, False)
        raise _StopError

    def on_body(self, body: bytes) -> None:
        if self.deaf:
            return
        request = self._request
        assert request is not None
        self.size += len(body)
        if request.too_large:
            request.too_large = max(request.too_large, self.size)
            if self.size > self._limits.drained_bytes:
                self._arrives_early(request)
        elif self.size > self._limit:
            request.too_large = self.size
            self._keep_nothing()
        elif self.large is not None:
            self.large.add(body)
        elif self.size <= LARGE_BYTES:
            self._chunks.append(body)
        else:  # It was not announced.
            self.large = self._receiver.large_body(self._limit)
            for chunk in (*self._chunks, body):
                self.large.add(chunk)
            self._chunks = []

    def on_message_complete(self) -> None:
        if self._upgrade or self.deaf:  # With an upgrade the parser ends after the head; the body is still to come.
            return
        self.reading = Reading.NOTHING
        request = self._request
        assert request is not None
        self._request = None
        request.large, self.large = self.large, None
        if self._chunks:
            request.body = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
            self._chunks = []
        self._receiver.arrived(request, self._parser.should_keep_alive())

    def _without_upgrade(self) -> bytes:
        """Go on as if no Upgrade had been asked for (RFC 9110 7.8 lets us ignore it; Java's client always asks).

        The parser gave up after the head. Return a head to feed to a fresh one, so that it knows what follows.
        """
        head = "POST / HTTP/1.1\r\nhost: x\r\n"
        if self._chunked:
            head += "transfer-encoding: chunked\r\n"
        elif self._announced >= 0:
            head += f"content-length: {self._announced}\r\n"
        connection = b",".join(value.lower() for name, value in self._fields if name == b"connection")
        if b"close" in connection or (self._request is not None and self._request.http_version == "1.0"):
            head += "connection: close\r\n"
        self._upgrade = False
        self._resuming = True
        self._parser = httptools.HttpRequestParser(self)
        return f"{head}\r\n".encode("latin-1")
