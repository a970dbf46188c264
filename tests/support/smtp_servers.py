"""Mail servers to be tested against: one that misbehaves by script, and aiosmtpd as an honest independent peer."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword


class Fault(Enum):
    """What a scripted server does instead of answering."""

    HANG = "hang"  #: say nothing
    DROP = "drop"  #: close the connection


@dataclass(frozen=True)
class Drip:
    """Answer, octet by octet."""

    reply: bytes
    every_s: float


Behaviour = bytes | Fault | Drip
Script = dict[str, Behaviour | list[Behaviour]]
"""Verb → what is done each time it comes; of a list, one after the other, and the last for ever.

Verbs: those of SMTP, and BANNER, FINAL (the final dot), CONTENT (the first bytes of the content), HANDSHAKE.
"""

DEFAULTS: Script = {
    "BANNER": b"220 scripted ESMTP\r\n",
    "EHLO": b"250-scripted\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 SIZE 1000000\r\n",
    "HELO": b"250 scripted\r\n",
    "AUTH": b"235 2.7.0 ok\r\n",
    "MAIL": b"250 2.1.0 ok\r\n",
    "RCPT": b"250 2.1.5 ok\r\n",
    "DATA": b"354 go\r\n",
    "FINAL": b"250 2.0.0 kept\r\n",
    "RSET": b"250 2.0.0 ok\r\n",
    "QUIT": b"221 2.0.0 bye\r\n",
}
WITHOUT_PIPELINING: Script = {"EHLO": b"250-scripted\r\n250 SIZE 1000000\r\n"}


@dataclass
class ScriptedServer:
    """What one saw; `port` is where it listens on loopback."""

    script: Script
    port: int = 0
    connections: int = 0
    commands: list[str] = field(default_factory=list)  #: all lines outside content, without CRLF
    contents: list[bytes] = field(default_factory=list)  #: as on the wire, with the final dot
    followed: int = 0  #: how many of them had an envelope right behind
    _counts: dict[str, int] = field(default_factory=dict)
    _writers: list[asyncio.StreamWriter] = field(default_factory=list)

    def hang_up(self) -> None:
        """Close every connection."""
        for writer in self._writers:
            writer.close()

    def _behaviour(self, verb: str) -> Behaviour:
        behaviour = self.script.get(verb, DEFAULTS.get(verb, b"502 5.5.1 unknown\r\n"))
        if not isinstance(behaviour, list):
            return behaviour
        count = self._counts[verb] = self._counts.get(verb, 0) + 1
        return behaviour[min(count, len(behaviour)) - 1]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.append(writer)
        try:
            await self._answer("BANNER", writer)
            while line := await reader.readline():
                self.commands.append(line.decode("utf-8", "replace").rstrip("\r\n"))
                verb = line[:4].decode("utf-8", "replace").upper().strip()
                reply = await self._answer(verb, writer)
                if verb == "DATA" and reply.startswith(b"354"):
                    if "CONTENT" in self.script:
                        await reader.read(1)
                        await self._answer("CONTENT", writer)
                    content = b"" if (first := await reader.readline()) == b".\r\n" else first
                    if first != b".\r\n":
                        content += await reader.readuntil(b"\r\n.\r\n")
                    self.contents.append(content)
                    self.followed += bool(reader._buffer)  # type: ignore[attr-defined]  # asyncio tells in no other way
                    await self._answer("FINAL", writer)
                if verb == "STAR" and "HANDSHAKE" in self.script:
                    await self._answer("HANDSHAKE", writer)
                if verb == "QUIT":
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            with suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()

    async def _answer(self, verb: str, writer: asyncio.StreamWriter) -> bytes:
        behaviour = self._behaviour(verb)
        if behaviour is Fault.HANG:
            await asyncio.Event().wait()
        if behaviour is Fault.DROP:
            raise ConnectionResetError
        if isinstance(behaviour, Drip):
            for octet in behaviour.reply:
                writer.write(bytes([octet]))
                await asyncio.sleep(behaviour.every_s)
            return behaviour.reply
        assert isinstance(behaviour, bytes)
        writer.write(behaviour)
        await writer.drain()
        return behaviour


@asynccontextmanager
async def scripted_server(
    script: Script | None = None, *, tls: ssl.SSLContext | None = None
) -> AsyncIterator[ScriptedServer]:
    """Run a scripted server on a free port of 127.0.0.1."""
    scripted = ScriptedServer(script or {})
    tasks: set[asyncio.Task[Any]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await scripted.serve(reader, writer)
        except asyncio.CancelledError:  # Only when the test is over; the stream would log it.
            pass
        finally:
            tasks.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls, limit=1 << 21)
    scripted.port = server.sockets[0].getsockname()[1]
    try:
        yield scripted
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tuple(tasks), return_exceptions=True)
        await server.wait_closed()


@dataclass
class KeptMail:
    """A mail that aiosmtpd took."""

    mail_from: str
    rcpt_tos: list[str]
    content: bytes
    options: list[str]
    helo: str


class IndependentServer:
    """aiosmtpd. `mails` is what it kept."""

    USER, PASSWORD = "relay", "correct horse"

    def __init__(
        self,
        *,
        starttls: ssl.SSLContext | None = None,
        implicit: ssl.SSLContext | None = None,
        auth: bool = False,
        mechanisms_off: tuple[str, ...] = (),
    ) -> None:
        self.mails: list[KeptMail] = []
        self.mechanisms: list[str] = []  #: of each AUTH that came

        def make() -> SMTP:
            return SMTP(
                self,
                hostname="peer.test",
                tls_context=starttls,
                require_starttls=starttls is not None,
                authenticator=self._authenticate if auth else None,
                auth_require_tls=starttls is not None,
                auth_exclude_mechanism=mechanisms_off,
                enable_SMTPUTF8=True,
            )

        self._make, self._implicit = make, implicit

    @property
    def port(self) -> int:
        return int(self._server.sockets[0].getsockname()[1])

    async def __aenter__(self) -> "IndependentServer":
        self._server = await asyncio.get_running_loop().create_server(self._make, "127.0.0.1", 0, ssl=self._implicit)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def handle_DATA(self, server: SMTP, session: Any, envelope: Envelope) -> str:
        assert isinstance(envelope.content, bytes)
        self.mails.append(
            KeptMail(
                envelope.mail_from or "",
                list(envelope.rcpt_tos),
                envelope.content,
                list(envelope.mail_options),
                session.host_name or "",
            )
        )
        return "250 2.0.0 kept"

    def _authenticate(self, server: SMTP, session: Any, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
        assert isinstance(data, LoginPassword)
        self.mechanisms.append(mechanism)
        ok = (data.login, data.password) == (self.USER.encode(), self.PASSWORD.encode())
        return AuthResult(success=ok, handled=False)
