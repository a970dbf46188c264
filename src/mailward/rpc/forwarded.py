"""Who calls when a reverse proxy passes the call on: X-Forwarded-For, or Forwarded (RFC 7239)."""

import re
from collections.abc import Awaitable
from functools import lru_cache
from typing import Literal

from mailward.peer import IpAddress, IpNetwork, address_of, is_in
from mailward.rpc.http import Handler, Request, Response

Field = Literal["x-forwarded-for", "forwarded"]

_FOR = re.compile(r'(?:^|;)\s*for="?([^";]*)', re.IGNORECASE)
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
        for hop in reversed(said.decode("latin-1").split(",")):
            address, is_trusted = self._judged(self._node(hop[:_MAX_HOP]))
            if address is None or address.is_loopback:  # Loopback is the proxy itself, and not always our machine.
                break
            client = str(address)
            if not is_trusted:
                break
        return client

    def _node(self, hop: str) -> str:
        if self._name == b"forwarded":
            found = _FOR.search(hop)
            return found[1] if found else ""
        return hop.strip()

    def _judge(self, node: str) -> tuple[IpAddress | None, bool]:
        """Return the address of `node` and whether it is a trusted proxy's."""
        address = address_of(node)
        return address, address is not None and is_in(address, self._networks)
