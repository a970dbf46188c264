"""Who calls when a reverse proxy passes the call on: X-Forwarded-For, or Forwarded (RFC 7239)."""

import re
from collections.abc import Awaitable, Iterable, Iterator
from functools import lru_cache
from typing import Literal

from mailward.peer import IpAddress, IpNetwork, address_of, is_in
from mailward.rpc.http import Handler, Request, Response

Field = Literal["x-forwarded-for", "forwarded"]

# A pair of RFC 7239 4. Ports, and IPv6 in brackets, are let pass without quotation marks.
_PAIR = r"""[ \t]*([\w!#$%&'*+.^`|~-]+)=(?:"((?:[^"\\]|\\.)*)"|([\w!#$%&'*+.^`|~:\[\]-]*))[ \t]*"""
_ELEMENT = re.compile(f"{_PAIR}(?:;{_PAIR})*", re.ASCII)
_NEXT = re.compile(_PAIR, re.ASCII)
_MAX_HOP = 256  #: characters; what is longer is no address
_REMEMBERED = 4096


class Proxies:
    """The proxies that are believed about their clients, and the header field in which they tell.

    A proxy adds the address that it was called from to the end of the field. What stands before that came from there,
    and counts only when a trusted proxy is there too. Of the other field nothing is believed: the proxy passes it on.
    """

    def __init__(self, networks: tuple[IpNetwork, ...], field: Field) -> None:
        self._networks = networks
        self._name = field.encode()
        self._judged = lru_cache(_REMEMBERED)(self._judge)

    def before(self, handler: Handler) -> Handler:
        """Return what gives `handler` each request with its client as the peer; `handler` if nobody is trusted."""
        if not self._networks:
            return handler

        def run(request: Request) -> Response | Awaitable[Response]:
            request.peer = self.client(request)
            return handler(request)

        return run

    def client(self, request: Request) -> str:
        """Return the farthest address that somebody trusted tells of; the peer, with its port, when there is none."""
        client = request.peer
        _, is_trusted = self._judged(client)
        if not is_trusted:
            return client
        said = b",".join([value for name, value in request.headers.raw if name == self._name])
        for hop in self._hops(said.decode("latin-1")):
            address, is_trusted = self._judged(hop[:_MAX_HOP])
            if address is None or address.is_loopback:  # Loopback is the proxy itself, and not always our machine.
                break
            client = str(address)
            if not is_trusted:
                break
        return client

    def _hops(self, said: str) -> Iterable[str]:
        """Return who was called from, the nearest first."""
        return _forwarded_for(said) if self._name == b"forwarded" else map(str.strip, reversed(said.split(",")))

    def _judge(self, node: str) -> tuple[IpAddress | None, bool]:
        """Return the address of `node` and whether it is a trusted proxy's."""
        address = address_of(node)
        return address, address is not None and is_in(address, self._networks)


def _forwarded_for(said: str) -> Iterator[str]:
    """Yield the "for" of each element of Forwarded from the last on, "" for none or two, as far as it can be read.

    A comma may stand in quotation marks, where a client can have had it put, e.g. in `host`; what begins there is no
    element, because its quotation marks do not match. So an element ends where the shortest one that is one begins.
    """
    end = len(said)
    while end >= 0:
        comma, element = end, None
        while element is None and comma >= 0:
            comma = said.rfind(",", 0, comma)
            element = _ELEMENT.fullmatch(said, comma + 1, end)
        if element is None:
            return
        pairs = _NEXT.findall(element[0])
        nodes = [quoted or token for name, quoted, token in pairs if name.lower() == "for"]
        yield nodes[0] if len(nodes) == 1 else ""
        end = comma
