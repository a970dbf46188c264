"""The writer as a process of its own: what the event loop and SQLite would take from each other as threads, both keep.

Two threads of one interpreter take turns. At fifty connections a message costs 0.1 ms in the store; in a thread that is
missing to the loop, and every hand-over waits for the interpreter's lock besides.
"""

import asyncio
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from mailward.db.frames import FrameReader, commit_pieces, pieces
from mailward.db.transaction import Dialect
from mailward.db.writer import Commit, Failed, Results
from mailward.errors import Unavailable

_SEND_BUFFER_BYTES = 4 << 20  #: the system gives what it allows: net.core.wmem_max


class ProcessWriter(asyncio.Protocol):
    """A Writer that has `perform` run in a store process (child.py)."""

    dialect: Dialect

    def __init__(self) -> None:
        self.deliver: Callable[[Results | None], None] = lambda results: None
        self._frames = FrameReader()
        self._process: subprocess.Popen[bytes]
        self._transport: asyncio.WriteTransport
        self._ready: asyncio.Future[Results] | None = asyncio.get_running_loop().create_future()

    @classmethod
    async def start(cls) -> "ProcessWriter":
        """Start the process, which needs a moment: `open` it when the database is ready for it."""
        writer = cls()
        ours, theirs = socket.socketpair()
        with theirs:
            writer._process = _spawn(theirs)
        ours.setblocking(False)
        # A commit with contents in it is handed over at once, and not a little whenever either side has a core.
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        await asyncio.get_running_loop().create_unix_connection(lambda: writer, sock=ours)
        return writer

    async def open(self, url: str | Path, **options: Any) -> None:
        """Have it connect to `url`; `options` as for connector. Raises what connecting raises."""
        assert self._ready is not None
        self._transport.writelines(pieces((url, options)))
        (answer,) = await self._ready
        self._ready = None
        if isinstance(answer, Failed):
            raise answer.error
        self.dialect = answer

    def send(self, commit: Commit) -> None:
        self._transport.writelines(commit_pieces(commit))

    def abort(self) -> None:
        self._process.send_signal(signal.SIGUSR1)

    async def aclose(self) -> None:
        if not self._transport.is_closing():
            self._transport.write_eof()
        await asyncio.to_thread(self._process.wait)

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)

    def data_received(self, data: bytes) -> None:
        for results in self._frames.feed(data):
            if self._ready is None:
                self.deliver(results)
            else:
                self._ready.set_result(results)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._ready is None:
            self.deliver(None)
        elif not self._ready.done():
            self._ready.set_exception(Unavailable("DB-Jm2s", "the store process has ended"))


def _spawn(theirs: socket.socket) -> "subprocess.Popen[bytes]":
    """Start the process. Spawned, not forked: it shares no lock and no half of a running loop with us."""
    command = [sys.executable, "-m", "mailward.db.child", str(theirs.fileno())]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()])
