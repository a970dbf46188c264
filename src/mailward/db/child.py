"""The store process: performs commits for the gateway that started it, one after the other (see process.py).

    python -m mailward.db.child FD        FD: a stream socket to the gateway

It ends when the gateway closes its side, or dies: what is in hand then is finished, and told to nobody.
"""

import contextlib
import gc
import select
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from typing import Any

from mailward.db.connect import connector
from mailward.db.frames import FrameReader, frame, results_frame
from mailward.db.transaction import Connection
from mailward.db.writer import Failed, perform
from mailward.errors import MailwardError

_IDLE_S = 1.0
_RECEIVE_BYTES = 1 << 20


def main() -> None:
    """Serve until the gateway is gone."""
    # Ctrl-C goes to the whole group of processes; the gateway stops in order and needs its store until then.
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    with socket.socket(fileno=int(sys.argv[1])) as gateway, contextlib.suppress(BrokenPipeError, ConnectionResetError):
        _serve(gateway)


def _serve(gateway: socket.socket) -> None:
    frames = FrameReader()
    first = next(_received(gateway, frames, None), None)
    if first is None:  # The gateway found something wrong and needs no store.
        return
    url, options = first
    try:
        connection = connector(url, **options)(read_only=False)
    except MailwardError as error:
        gateway.sendall(results_frame([Failed(error)]))
        return
    gateway.sendall(frame([connection.dialect]))
    threading.Thread(target=_abort_on_signal, args=(connection,), daemon=True).start()
    # What lives as long as the process is no garbage; a commit's tuples die by their reference counts.
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)
    try:
        for commit in _received(gateway, frames, connection):
            gateway.sendall(results_frame(perform(connection, commit)))
    finally:
        connection.close()


def _received(gateway: socket.socket, frames: FrameReader, connection: Connection | None) -> Iterator[Any]:
    """Yield what the gateway sends; after a second of silence `connection` may do its housekeeping."""
    while True:
        if connection is not None and not select.select([gateway], [], [], _IDLE_S)[0]:
            connection.idle()
        data = gateway.recv(_RECEIVE_BYTES)
        if not data:
            return
        yield from frames.feed(data)


def _abort_on_signal(connection: Connection) -> None:
    """Make the statement in hand fail whenever the gateway says that it takes too long."""
    while True:
        signal.sigwait({signal.SIGUSR1})
        connection.abort()


if __name__ == "__main__":
    main()
