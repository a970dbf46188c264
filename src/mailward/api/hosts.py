"""Which hosts are this instance, and under which address a client reached it (spec 2.6, departure 18)."""

import re
from collections.abc import Iterator, Mapping

from mailward.rpc.http import Request

_FORWARDED_HOST = re.compile(r'(?:^|[;,\s])host="?([^";,]+)"?', re.IGNORECASE)
#: Each of these, if it is there, must name a host of ours.
_NAMING = ("host", "x-forwarded-host", "x-zitadel-instance-host", "x-zitadel-public-host")
_FORWARDED = ("forwarded", "x-zitadel-forwarded")


class Hosts:
    """The external domains. None given: every host is the one instance, so that first use needs no DNS."""

    def __init__(self, domains: tuple[str, ...]) -> None:
        self.domains = tuple(_name(domain) for domain in domains)

    def stranger(self, fields: Mapping[str, str]) -> str | None:
        """Return the host in the header `fields` (names in lower case) that is none of ours, None when all are."""
        if not self.domains:
            return None
        return next((host for host in _named(fields) if _name(host) not in self.domains), None)


def base_url(request: Request) -> str:
    """Return scheme, host and port under which the client reached us: the issuer. X-Forwarded-Proto counts."""
    scheme = request.headers.get("x-forwarded-proto") or request.scheme
    return f"{'https' if scheme == 'https' else 'http'}://{request.headers.get('host')}"


def _named(fields: Mapping[str, str]) -> Iterator[str]:
    for name in _NAMING:
        if fields.get(name):
            yield fields[name]
    for name in _FORWARDED:
        if found := _FORWARDED_HOST.search(fields.get(name, "")):
            yield found[1]


def _name(host: str) -> str:
    """Return `host` without its port, in lower case."""
    host = host.strip().lower()
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.rpartition(":")[0] or host
