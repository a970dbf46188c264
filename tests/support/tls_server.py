"""A mail server on OpenSSL's blocking sockets: unlike asyncio's, they say by an alert why they refuse a handshake."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from types import TracebackType

from tests.support.smtp_servers import DEFAULTS
from tests.support.waiting import PATIENCE_S


class TlsServer:
    """TLS from the start, or by STARTTLS. Use as a context manager; `mails` counts what it took."""

    def __init__(self, context: ssl.SSLContext, *, starttls: bool = False) -> None:
        self.context = context  #: of the connections from now on
        self._starttls = starttls
        self.mails = 0
        self.clients: list[bytes | None] = []  #: the certificate that each client showed, in DER
        self.heloes: list[str] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: socket.socket | None = None  # the connection that is being served
        self._thread = threading.Thread(target=self._listen)

    def __enter__(self) -> TlsServer:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        if self._open is not None:
            with contextlib.suppress(OSError):
                self._open.shutdown(socket.SHUT_RDWR)
        self._thread.join(PATIENCE_S)

    def _listen(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.settimeout(PATIENCE_S)
            self._open = connection
            try:
                self._serve(connection)
            except OSError:  # ssl.SSLError is one.
                connection.close()

    def _serve(self, connection: socket.socket) -> None:
        if self._starttls:
            connection.sendall(DEFAULTS["BANNER"])  # type: ignore[arg-type]
            connection.recv(1000)
            connection.sendall(b"250-x\r\n250 STARTTLS\r\n")
            connection.recv(1000)
            connection.sendall(b"220 go\r\n")
        with self.context.wrap_socket(connection, server_side=True) as tls:
            self._open = tls
            if not self._starttls:
                tls.sendall(DEFAULTS["BANNER"])  # type: ignore[arg-type]
            self.clients.append(tls.getpeercert(binary_form=True))
            lines = tls.makefile("rb")
            while line := lines.readline():
                verb = line[:4].decode().strip().upper()
                if verb == "EHLO":
                    self.heloes.append(line[5:].decode().strip())
                    tls.sendall(b"250 x\r\n")
                    continue
                tls.sendall(DEFAULTS[verb])  # type: ignore[arg-type]
                if verb == "DATA":
                    while lines.readline() not in (b".\r\n", b""):
                        pass
                    self.mails += 1
                    tls.sendall(DEFAULTS["FINAL"])  # type: ignore[arg-type]
