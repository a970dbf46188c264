"""The load of the crash harness: SMTP and HTTP clients that remember every message the gateway acknowledged.

Each message carries a mark of its own as its subject. A client never repeats a mark: what was not acknowledged is
given up, so whatever arrives twice was doubled by the gateway.
"""

from __future__ import annotations

import asyncio
import base64
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.support.program import Program

PHASES = (
    "in-connect", "in-ehlo", "in-auth", "in-mail", "in-rcpt", "in-data", "in-content", "in-upload", "in-dot",
    "in-after-250", "in-http-head", "in-http-body", "in-http-upload", "in-http-sent", "in-http-after-202",
)  # fmt: skip
_PATIENCE_S = 30.0
_BIG_BYTES = 200_000
_HUGE_BYTES = 1_400_000  #: goes in three pieces, and is a large body
_GULP_BYTES = 200_000


@dataclass
class Sent:
    """What the clients know."""

    recipients: dict[str, list[str]] = field(default_factory=dict)  #: of every mark that was begun
    acknowledged: dict[str, str] = field(default_factory=dict)  #: mark → the message's id
    refused: int = 0  #: 4yz and 503: the gateway said it could not

    def new(self, random: random.Random) -> tuple[str, list[str]]:
        mark = f"m{len(self.recipients)}"
        count = 1 if random.random() < 0.8 else random.randrange(2, 5)
        self.recipients[mark] = [f"{mark}.{n}@example.net" for n in range(count)]
        return mark, self.recipients[mark]


class Load:
    """Clients that go on, whatever happens to the gateway, until they are stopped. `reach` is told each phase."""

    def __init__(
        self,
        sent: Sent,
        *,
        smtp_port: int,
        http_port: int,
        token: str,
        reach: Callable[[str], None],
        seed: int,
        clients: int = 4,
        pause_s: float = 0.04,
    ) -> None:
        self._sent = sent
        self._smtp_port, self._http_port, self._token = smtp_port, http_port, token
        self._reach = reach
        self._random = random.Random(seed)
        self._clients = clients
        self._pause_s = pause_s
        self._going = True
        self._tasks: list[asyncio.Task[None]] = []

    @classmethod
    def of(
        cls, program: Program, sent: Sent, *, by_smtp: Program | None = None, seed: int, pause_s: float = 0.04
    ) -> Load:
        """Load a running `program`; by SMTP another node, if one is given."""
        return cls(
            sent,
            smtp_port=(by_smtp or program).smtp_port,
            http_port=program.http_port,
            token=program.token("sender"),
            reach=lambda phase: None,
            seed=seed,
            pause_s=pause_s,
        )

    def start(self) -> None:
        self._going = True
        ways = [self._by_smtp, self._by_http]
        self._tasks = [asyncio.create_task(self._client(way)) for way in ways for _ in range(self._clients)]

    async def stop(self) -> None:
        """Let every client finish what it is at."""
        self._going = False
        await asyncio.gather(*self._tasks)

    async def _client(self, way: Callable[[], object]) -> None:
        while self._going:
            try:
                async with asyncio.timeout(_PATIENCE_S):
                    await way()  # type: ignore[misc]
            except (OSError, EOFError, TimeoutError):
                await asyncio.sleep(0.05)

    async def _pause(self) -> None:
        await asyncio.sleep(self._random.random() * 2 * self._pause_s)

    def _content(self, mark: str, line: str) -> str:
        chance = self._random.random()
        size = self._random.randrange(200, 3000)
        if chance < 0.04:
            size = _HUGE_BYTES if chance < 0.01 else _BIG_BYTES
        return (line * (size // len(line) + 1))[:size] + "\n"

    # SMTP

    async def _by_smtp(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._smtp_port)
        try:
            self._reach("in-connect")
            await self._expect(reader, 220)
            await self._say(reader, writer, "EHLO load.test", 250, after="in-ehlo")
            credentials = base64.b64encode(f"\0load\0{self._token}".encode()).decode()
            await self._say(reader, writer, f"AUTH PLAIN {credentials}", 235, after="in-auth")
            while self._going:
                await self._one_by_smtp(reader, writer)
                await self._pause()
            writer.write(b"QUIT\r\n")
        finally:
            writer.close()

    async def _one_by_smtp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        mark, recipients = self._sent.new(self._random)
        await self._say(reader, writer, "MAIL FROM:<shop@example.com>", 250, after="in-mail")
        for address in recipients:
            await self._say(reader, writer, f"RCPT TO:<{address}>", 250, after="in-rcpt")
        await self._say(reader, writer, "DATA", 354, after="in-data")
        body = self._content(mark, "The quick brown fox jumps over the lazy dog.\n").replace("\n", "\r\n")
        content = f"From: shop@example.com\r\nTo: {recipients[0]}\r\nSubject: {mark}\r\n\r\n{body}".encode()
        await self._in_gulps(writer, content + b".\r\n", "in-content", "in-upload")
        self._reach("in-dot")
        code, text = await self._answer(reader)
        if code == 250:
            self._sent.acknowledged[mark] = text.rsplit(" ", 1)[-1]
            self._reach("in-after-250")
        else:
            self._refused(code)

    async def _in_gulps(self, writer: asyncio.StreamWriter, octets: bytes, half_way: str, at_each: str) -> None:
        """Write `octets`, and reach `half_way` once; `at_each` after every gulp when there are many."""
        middle = min(len(octets) // 2, _GULP_BYTES)
        writer.write(octets[:middle])
        await writer.drain()
        self._reach(half_way)
        for start in range(middle, len(octets), _GULP_BYTES):
            writer.write(octets[start : start + _GULP_BYTES])
            await writer.drain()
            if start > 2 * _GULP_BYTES:
                self._reach(at_each)

    async def _say(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, line: str, code: int, after: str = ""
    ) -> None:
        writer.write(line.encode() + b"\r\n")
        await writer.drain()
        if after:
            self._reach(after)
        await self._expect(reader, code)

    async def _expect(self, reader: asyncio.StreamReader, wanted: int) -> None:
        code, _ = await self._answer(reader)
        if code != wanted:
            self._refused(code)
            raise EOFError(f"{code} instead of {wanted}")

    async def _answer(self, reader: asyncio.StreamReader) -> tuple[int, str]:
        while line := await reader.readline():
            if line[3:4] != b"-":
                return int(line[:3]), line.decode().strip()
        raise EOFError

    # HTTP

    async def _by_http(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._http_port)
        try:
            while self._going:
                await self._one_by_http(reader, writer)
                await self._pause()
        finally:
            writer.close()

    async def _one_by_http(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        mark, recipients = self._sent.new(self._random)
        text = self._content(mark, "Grüße from the quick brown fox.\n")
        mail: dict[str, object] = {"from": "shop@example.com", "to": recipients, "subject": mark, "text": text}
        if len(text) > _BIG_BYTES + 100:
            mail["text"] = "See the file.\n"
            mail["attachments"] = [{"name": "fox.txt", "content": base64.b64encode(text.encode()).decode()}]
        body = json.dumps(mail).encode()
        head = f"POST /v1/messages HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {self._token}\r\n"
        writer.write(f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode())
        await writer.drain()
        self._reach("in-http-head")
        await self._in_gulps(writer, body, "in-http-body", "in-http-upload")
        self._reach("in-http-sent")
        answer = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = next(int(line[15:]) for line in answer.split("\r\n") if line.lower().startswith("content-length:"))
        said = json.loads(await reader.readexactly(length))
        if answer.startswith("HTTP/1.1 202"):
            self._sent.acknowledged[mark] = said["id"]
            self._reach("in-http-after-202")
        else:
            self._refused(int(answer[9:12]))

    def _refused(self, code: int) -> None:
        if code not in (421, 451, 452, 454, 503):
            raise AssertionError(f"the gateway answered {code}")
        self._sent.refused += 1
