"""A provider for the built program: aiosmtpd in a thread, which shares no code with ours."""

from __future__ import annotations

import asyncio
import queue
import time
from dataclasses import dataclass
from typing import Any, Self

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from tests.support.program import free_port
from tests.support.waiting import PATIENCE_S


@dataclass(frozen=True)
class Mail:
    """A mail that arrived."""

    reverse_path: str
    recipients: tuple[str, ...]
    content: bytes
    at_s: float  #: when its content had come, by the monotonic clock
    password: str  #: that its session logged in with; "" without a login


class Sink:
    """Takes every mail. Use as a context manager."""

    def __init__(self, *passwords: str, **options: Any) -> None:
        """Offers a login with one of `passwords`, if there are any. `options`: aiosmtpd's."""
        self.passwords = set(passwords)  #: those that are taken now
        self.wrong: list[str] = []  #: passwords that were not
        self.mails: queue.Queue[Mail] = queue.Queue()
        #: What the final dot is answered; "" takes the mail. A 4yz or 5yz keeps nothing.
        self.reply = ""
        self.delay_s = 0.0  #: before each final dot is answered
        login: dict[str, Any] = {"authenticator": self._check, "auth_require_tls": False} if passwords else {}
        self._controller = Controller(
            self, hostname="127.0.0.1", port=free_port(), ready_timeout=PATIENCE_S, **login, **options
        )

    def __enter__(self) -> Self:
        self._controller.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._controller.stop(no_assert=True)

    @property
    def address(self) -> str:
        """ "host:port", as a provider's host is written."""
        server: Any = self._controller.server
        return f"127.0.0.1:{server.sockets[0].getsockname()[1]}"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """Keep a mail, or answer as told."""
        at_s = time.monotonic()
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        if self.reply:
            return self.reply
        content = envelope.content
        assert isinstance(content, bytes)
        password = "" if session.auth_data is None else session.auth_data.password.decode()
        self.mails.put(Mail(envelope.mail_from or "", tuple(envelope.rcpt_tos), content, at_s, password))
        return "250 2.0.0 taken"

    def _check(self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
        assert isinstance(data, LoginPassword)
        password = data.password.decode()
        if password in self.passwords:
            return AuthResult(success=True, auth_data=data)
        self.wrong.append(password)
        return AuthResult(success=False, handled=False)

    def wait(self, count: int = 1, timeout_s: float = PATIENCE_S) -> list[Mail]:
        """Return the next `count` mails. Raises queue.Empty when they do not come."""
        return [self.mails.get(timeout=timeout_s) for _ in range(count)]
