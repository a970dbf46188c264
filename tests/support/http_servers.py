"""HTTP receivers to be tested against: one that misbehaves by script, on bare sockets, and shares no code with ours."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from tests.support.smtp_servers import Fault

Behaviour = bytes | Fault | int
HttpScript = dict[str, Behaviour | list[Behaviour]]
"""Moment → what is done each time it comes; of a list, one after the other, and the last for ever.

Moments: ACCEPT (a connection), HEAD (a request's head was read), BODY (its body too). An int is a status to answer;
an int at HEAD is answered at once and the connection closed. Without an entry for BODY the answer is 200.
"""


@dataclass
class Posted:
    """One request that came in full."""

    target: str
    fields: dict[str, str]  #: lower-case names
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def recipient(self) -> str:
        return str(self.json["contextInfo"]["recipientEmailAddress"])


@dataclass
class ScriptedReceiver:
    """What one saw; `port` is where it listens on loopback."""

    script: HttpScript
    port: int = 0
    scheme: str = "http"
    connections: int = 0
    heads: int = 0
    posted: list[Posted] = field(default_factory=list)
    _counts: dict[str, int] = field(default_factory=dict)
    _writers: list[asyncio.StreamWriter] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}/mail?from=mailward"

    def hang_up(self) -> None:
        """Close every connection."""
        for writer in self._writers:
            writer.close()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.append(writer)
        try:
            await self._answer("ACCEPT", writer)
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                self.heads += 1
                if await self._answer("HEAD", writer):
                    return
                fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
                body = await reader.readexactly(int(fields["content-length"]))
                self.posted.append(Posted(head[0].split(" ")[1], fields, body))
                await self._answer("BODY", writer, 200)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            with suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()

    async def _answer(self, moment: str, writer: asyncio.StreamWriter, default: Behaviour | None = None) -> bool:
        behaviour = self.script.get(moment, default)
        if isinstance(behaviour, list):
            count = self._counts[moment] = self._counts.get(moment, 0) + 1
            behaviour = behaviour[min(count, len(behaviour)) - 1]
        if behaviour is None:
            return False
        if behaviour is Fault.HANG:
            await asyncio.Event().wait()
        if behaviour is Fault.DROP:
            raise ConnectionResetError
        if isinstance(behaviour, int):
            behaviour = b"HTTP/1.1 %d Scripted\r\nContent-Length: 2\r\n\r\nok" % behaviour
        assert isinstance(behaviour, bytes)
        writer.write(behaviour)
        await writer.drain()
        return True


@asynccontextmanager
async def scripted_receiver(
    script: HttpScript | None = None, *, tls: ssl.SSLContext | None = None
) -> AsyncIterator[ScriptedReceiver]:
    """Run a scripted receiver on a free port of 127.0.0.1."""
    scripted = ScriptedReceiver(script or {}, scheme="https" if tls else "http")
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await scripted.serve(reader, writer)
        except asyncio.CancelledError:
            pass
        finally:
            tasks.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    scripted.port = server.sockets[0].getsockname()[1]
    try:
        yield scripted
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
