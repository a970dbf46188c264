"""The submission door: listens, counts sessions, and stops without breaking a promise."""

import asyncio
import socket
from functools import partial

from mailward import metrics
from mailward.message.content import PIECE_BYTES
from mailward.smtp.server import ServerConfig
from mailward.smtpd.door import House, SmtpdSettings
from mailward.smtpd.session import Session

_BACKLOG = 1024


class SmtpListener:
    """Takes mail by SMTP. `start` it once for each address, `stop` it once."""

    def __init__(self, settings: SmtpdSettings, house: House) -> None:
        self.settings = settings
        self.house = house
        self._servers: list[asyncio.Server] = []
        self._sessions: set[Session] = set()
        self._configs: dict[tuple[bool, bool], ServerConfig] = {}
        self._stopping = False
        self._empty = asyncio.Event()
        self._empty.set()

    async def start(self, host: str, port: int, *, implicit_tls: bool = False) -> list[tuple[str, int]]:
        """Listen on `host` and `port` (0 = any free); return the addresses. Raises OSError when that is impossible.

        `implicit_tls`: encrypted from the first byte (RFC 8314), which needs `settings.tls`.
        """
        if implicit_tls and self.settings.tls is None:
            raise ValueError("implicit TLS needs a certificate")
        server = await asyncio.get_running_loop().create_server(
            partial(Session, self, implicit_tls=implicit_tls),
            host,
            port,
            backlog=_BACKLOG,
            reuse_address=True,
            ssl=self.settings.tls if implicit_tls else None,
            ssl_handshake_timeout=self.settings.handshake_s if implicit_tls else None,
        )
        self._servers.append(server)
        return [_name(listening) for listening in server.sockets]

    async def stop(self, deadline_s: float) -> None:
        """Take no new connections, end idle sessions with 421, let those that wait for a commit have their answer.

        Whoever is left after `deadline_s` seconds is dropped.
        """
        self._stopping = True
        for server in self._servers:
            server.close()
        for session in list(self._sessions):
            session.stop()
        try:
            async with asyncio.timeout(deadline_s):
                await self._empty.wait()
        except TimeoutError:
            for session in list(self._sessions):
                session.abort()

    @property
    def sessions(self) -> int:
        """How many are open."""
        return len(self._sessions)

    # For sessions

    def opened(self, session: Session) -> bool:
        """Count `session` in; False: there are too many, or we are stopping."""
        if self._stopping or len(self._sessions) >= self.settings.max_connections:
            return False
        self._sessions.add(session)
        self._empty.clear()
        metrics.smtp_sessions.inc()
        return True

    def closed(self, session: Session) -> None:
        """Count `session` out, if it was counted in."""
        if session in self._sessions:
            self._sessions.discard(session)
            metrics.smtp_sessions.dec()
            if not self._sessions:
                self._empty.set()

    def machine_config(self, *, is_open: bool, is_loopback: bool) -> ServerConfig:
        """Return what the machine is told: sessions from an open network need no AUTH, loopback may do it in clear."""
        config = self._configs.get((is_open, is_loopback))
        if config is None:
            settings = self.settings
            config = self._configs[is_open, is_loopback] = ServerConfig(
                hostname=settings.hostname,
                max_size_bytes=settings.max_size_bytes,
                piece_bytes=PIECE_BYTES,
                max_recipients=settings.max_recipients,
                starttls=settings.tls is not None,
                auth=True,
                auth_without_tls=is_loopback,
                auth_required=not is_open,
            )
        return config


def _name(listening: socket.socket) -> tuple[str, int]:
    host, port = listening.getsockname()[:2]
    return host, port
