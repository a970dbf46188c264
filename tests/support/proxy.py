"""A way to PostgreSQL that can be cut: a unix socket of its own, between one node and the server."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

_SOCKET = ".s.PGSQL.5432"


class Proxy:
    """Passes bytes on, until it is cut: then nothing goes through and connections stay open, as when a cable is out."""

    def __init__(self, folder: Path, server: Path) -> None:
        """`folder`, made here, is the host to connect to; `server` the folder of the server's socket."""
        self.folder = folder
        self._server = server / _SOCKET
        self._open = asyncio.Event()
        self._open.set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Proxy:
        self.folder.mkdir()
        self._listener = await asyncio.start_unix_server(self._connect, self.folder / _SOCKET)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listener.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        self._open.clear()

    def mend(self) -> None:
        self._open.set()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_unix_connection(self._server)
        for source, target in ((reader, server_writer), (server_reader, writer)):
            task = asyncio.create_task(self._pass_on(source, target))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass_on(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                await self._open.wait()
                target.write(data)
                await target.drain()
        target.close()
