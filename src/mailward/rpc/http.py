"""What a request and a response are, whatever version of HTTP carried them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol

from mailward.rpc.large import LargeBody


@lru_cache(maxsize=256)
def _key(name: str) -> bytes:
    return name.lower().encode("latin-1")


class Headers:
    """Header fields as they came, names in lower case; a look-up does not care about case.

    `raw` keeps order and repetition. HTTP/2's ":authority" is in here as "host"; other pseudo-header fields are not.
    """

    __slots__ = ("raw",)

    def __init__(self, raw: list[tuple[bytes, bytes]] | None = None) -> None:
        self.raw: list[tuple[bytes, bytes]] = [] if raw is None else raw

    @classmethod
    def of(cls, pairs: Iterable[tuple[str, str]]) -> Headers:
        """Return the headers with these names and values (Latin-1)."""
        return cls([(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in pairs])

    def get(self, name: str, default: str = "") -> str:
        """Return the first value of `name` (Latin-1), or `default` when the field is absent."""
        wanted = _key(name)
        for key, value in self.raw:
            if key == wanted:
                return value.decode("latin-1")
        return default

    def __contains__(self, name: str) -> bool:
        wanted = _key(name)
        for key, _ in self.raw:  # noqa: SIM110  a generator costs more than the loop
            if key == wanted:
                return True
        return False

    def __iter__(self) -> Iterator[tuple[str, str]]:
        """Yield (name in lower case, value) for every field."""
        for key, value in self.raw:
            yield key.decode("latin-1"), value.decode("latin-1")

    def __len__(self) -> int:
        return len(self.raw)

    def __repr__(self) -> str:
        # Values may be secrets (Authorization), so only names are shown.
        return f"Headers({[key.decode('latin-1') for key, _ in self.raw]})"


@dataclass(slots=True)
class Request:
    """One request whose body has arrived in full."""

    method: str  #: as sent, e.g. "POST"
    target: bytes  #: request-target without a fragment: path, "?" and query as sent
    path: str  #: path of the target, still percent-encoded, e.g. "/admin/v1/smtp%2F1"
    query: str  #: without the "?"; "" when there was none; still percent-encoded
    headers: Headers
    body: bytes = field(default=b"", repr=False)  #: empty when it is `large`
    peer: str = ""  #: "address:port" of the client, "[address]:port" for IPv6; the address alone if a proxy told it
    scheme: str = "http"  #: "http" or "https", as this server saw it
    http_version: str = "1.1"  #: "1.0", "1.1" or "2"
    too_large: int = 0  #: bytes announced or seen when the body passed its limit (then `body` is empty); 0 = it fits
    large: LargeBody | None = None  #: a body that is taken, not read: `take_body`

    @property
    def size(self) -> int:
        """Bytes of the body, those that were taken included."""
        return len(self.body) if self.large is None else self.large.size

    def take_body(self) -> bytes | bytearray:
        """Return the body. Of a large one nothing is kept, and its bytearray is the caller's to change."""
        return self.body if self.large is None else self.large.take_whole()


@dataclass(slots=True)
class Response:
    """The answer to one request. Names of header fields are written as they stand here (HTTP/2: in lower case).

    `content-length` and `date` are added on the way out where they are missing. Trailers travel on HTTP/2 only.
    """

    status: int
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    trailers: list[tuple[str, str]] | None = None


#: The application. What it returns decides what a request costs: a Response is written at once, a Future is answered
#: by its callback, a coroutine is run in a task of the connection.
Handler = Callable[[Request], Response | Awaitable[Response]]


class Conversation(Protocol):
    """A request that is answered while it goes on, as a stream of gRPC is (HTTP/2 only)."""

    head: Response  #: sent at once; its body and trailers are not used

    def receive(self, data: bytes | None) -> tuple[bytes, list[tuple[str, str]] | None]:
        """Take what came (None: the client has ended); return what to say, and trailers when that is the end.

        Must be quick. After `data` is None there must be trailers.
        """


#: Return the conversation that this request begins, None for one that is answered as a whole.
Converse = Callable[[Request], Conversation | None]

#: Largest body in bytes that `(method, path)` may have; beyond it the handler sees `too_large` instead of the body.
BodyLimit = Callable[[str, str], int]


def split_target(target: bytes) -> tuple[str, str]:
    """Return (path, query) of a request-target in origin form or absolute form (RFC 9112 3.2); "*" stays "*"."""
    text = target.decode("latin-1")
    if text[:1] != "/" and "://" in text:
        _, _, rest = text.partition("://")
        slash = min((at for at in (rest.find("/"), rest.find("?")) if at >= 0), default=len(rest))
        text = rest[slash:]
        if text[:1] != "/":
            text = "/" + text
    path, _, query = text.partition("?")
    return path, query
