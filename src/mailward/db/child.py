"""The store process: performs commits for the gateway that started it, one after the other (see process.py).

    python -m mailward.db.child FD        FD: a stream socket to the gateway

It ends when the gateway closes its side, or dies: what is in hand then is finished, and told to nobody.
"""

import contextlib
import gc
import pickle
import select
import signal
import socket
import sys
import threading

from mailward.db.connect import connector
from mailward.db.frames import commit_of, frame, results_frame
from mailward.db.heap import return_large_blocks
from mailward.db.transaction import Connection
from mailward.db.writer import Failed, perform
from mailward.errors import MailwardError

_IDLE_S = 1.0
_BUFFER_BYTES = 1 << 18


def main() -> None:
    """Serve until the gateway is gone."""
    return_large_blocks()
    # Ctrl-C goes to the whole group of processes; the gateway stops in order and needs its store until then.
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    with socket.socket(fileno=int(sys.argv[1])) as gateway, contextlib.suppress(BrokenPipeError, ConnectionResetError):
        _serve(gateway)


def _serve(gateway: socket.socket) -> None:
    # Reads large values straight into the bytes that they become.
    wire = gateway.makefile("rb", _BUFFER_BYTES)
    try:
        url, options = pickle.load(wire)
    except EOFError:  # The gateway found something wrong and needs no store.
        return
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
        while True:
            # The gateway sends no commit before it has the results of the last, so nothing waits in the buffer.
            if not select.select([gateway], [], [], _IDLE_S)[0]:
                connection.idle()
            try:
                commit = commit_of(pickle.load(wire))
            except (EOFError, pickle.UnpicklingError):  # Ended, perhaps in the middle of a commit.
                return
            results = perform(connection, commit)
            del commit  # Contents may be large, and the next commit long in coming.
            gateway.sendall(results_frame(results))
    finally:
        connection.close()


def _abort_on_signal(connection: Connection) -> None:
    """Make the statement in hand fail whenever the gateway says that it takes too long."""
    while True:
        signal.sigwait({signal.SIGUSR1})
        connection.abort()


if __name__ == "__main__":
    main()
