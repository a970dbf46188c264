"""The URL of an HTTP provider, taken apart (RFC 9110 4.2) (pure)."""

import base64
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

_SAFE = frozenset(map(chr, range(0x21, 0x7F)))


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to POST."""

    host: str  #: A-labels, or an address literal without brackets
    port: int
    is_https: bool
    target: str  #: path and query, percent-encoded
    authority: str  #: what stands in the Host field
    authorization: str  #: the Authorization field for a user in the URL; "" for none


def parse_endpoint(url: str) -> Endpoint:
    """Return the parts of an absolute http or https URL. A fragment is dropped. Raises ValueError with a sentence."""
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError as error:
        raise ValueError(f"the endpoint {url!r} is not a URL: {error}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"the endpoint {url!r} is not an http:// or https:// URL")
    try:
        host = parts.hostname if parts.hostname.isascii() else parts.hostname.encode("idna").decode()
    except UnicodeError:
        raise ValueError(f"the host of the endpoint {url!r} is not a host name") from None
    is_https = parts.scheme == "https"
    shown = f"[{host}]" if ":" in host else host
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    login = ""
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
        login = f"Basic {base64.b64encode(pair).decode()}"
    return Endpoint(
        host=host,
        port=port or (443 if is_https else 80),
        is_https=is_https,
        target=_encoded(target),
        authority=shown if port is None else f"{shown}:{port}",
        authorization=login,
    )


def _encoded(target: str) -> str:
    return "".join(c if c in _SAFE else "".join(f"%{byte:02X}" for byte in c.encode()) for c in target)
