"""What both doors need to listen."""

import ssl
from pathlib import Path

from mailward.config import Settings
from mailward.errors import InvalidArgument
from mailward.smtpd.tls import server_context


def certificate(settings: Settings) -> ssl.SSLContext | None:
    """Return the context of the operator's certificate, None when there is none. Raises InvalidArgument."""
    if not settings.tls_cert:
        return None
    try:
        return server_context(Path(settings.tls_cert), Path(settings.tls_key))
    except (OSError, ValueError) as error:
        raise InvalidArgument("BOOT-tls", f"cannot use --tls-cert {settings.tls_cert}: {error}") from None


def shown(host: str, port: int) -> str:
    """Return "host:port", with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
