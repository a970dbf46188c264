"""What both doors need to listen."""

import ssl
from pathlib import Path

from mailward import log
from mailward.config import Settings
from mailward.errors import InvalidArgument
from mailward.smtpd.tls import server_context, show


class Certificate:
    """The operator's certificate, if there is one, for as many contexts as there are doors."""

    def __init__(self, settings: Settings) -> None:
        self._file, self._key = Path(settings.tls_cert), Path(settings.tls_key)
        self._given = bool(settings.tls_cert)
        self._contexts: list[ssl.SSLContext] = []

    def context(self) -> ssl.SSLContext | None:
        """Return a new context of it, None when there is none. Raises InvalidArgument."""
        if not self._given:
            return None
        try:
            context = server_context(self._file, self._key)
        except (OSError, ValueError) as error:
            raise InvalidArgument("BOOT-tls", f"cannot use --tls-cert {self._file}: {error}") from None
        self._contexts.append(context)
        return context

    def renew(self) -> None:
        """Read the files again, for the handshakes from now on. What cannot be used is logged, and changes nothing."""
        try:
            server_context(self._file, self._key)  # A pair that does not match would spoil the contexts.
            for context in self._contexts:
                show(context, self._file, self._key)
        except (OSError, ValueError) as error:
            log.write("error", "certificate.refused", file=str(self._file), error=str(error))
        else:
            log.write("info", "certificate.renewed", file=str(self._file))


def shown(host: str, port: int) -> str:
    """Return "host:port", with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
