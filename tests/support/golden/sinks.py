"""Small SMTP servers for the test-mail sessions: each mode has a loopback port of its own and keeps what it gets.

plain             accepts everything, offers no AUTH
auth / login      offers AUTH PLAIN LOGIN / AUTH LOGIN; accepts USER with PASSWORD only
cram              offers AUTH CRAM-MD5 only
refuse_sender, refuse_recipient, refuse_data   answer 5yz at that command
refuse_greeting   greets with 554
silent            accepts the connection and never says anything
tls / starttls    implicit TLS / STARTTLS with a self-signed certificate
closed            a port nobody listens on
"""

import base64
import contextlib
import queue
import socket
import socketserver
import ssl
import threading
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.golden.certificate import self_signed
from tests.support.program import free_port
from tests.support.waiting import PATIENCE_S

USER, PASSWORD = "relay", "correct horse"

_OFFERS = {
    "auth": ["AUTH PLAIN LOGIN"],
    "login": ["AUTH LOGIN"],
    "cram": ["AUTH CRAM-MD5"],
    "starttls": ["STARTTLS"],
}
_MECHANISMS = {"auth": ("PLAIN", "LOGIN"), "login": ("LOGIN",)}
_MODES = {*_OFFERS, "plain", "refuse_sender", "refuse_recipient", "refuse_data", "refuse_greeting", "silent", "tls"}


@dataclass
class Mail:
    """What a sink saw of one mail."""

    ehlo: str = ""
    sender: str = ""  #: the MAIL command
    recipients: list[str] = field(default_factory=list)  #: the RCPT commands
    auth: dict[str, str] | None = None  #: mechanism, user, password
    data: bytes = b""


class _Handler(socketserver.StreamRequestHandler):
    server: "_Server"

    def handle(self) -> None:
        with contextlib.suppress(OSError, EOFError):  # the client went away
            self.peer: socket.socket = self.request
            self.lines = self.peer.makefile("rb")
            self.converse()

    def say(self, line: str) -> None:
        self.peer.sendall(line.encode() + b"\r\n")

    def read(self) -> str:
        line: bytes = self.lines.readline()
        if not line:
            raise EOFError
        return line.decode("utf-8", "surrogateescape").rstrip("\r\n")

    def start_tls(self) -> None:
        assert self.server.tls is not None
        self.peer = self.server.tls.wrap_socket(self.peer, server_side=True)
        self.lines = self.peer.makefile("rb")

    def converse(self) -> None:
        mode, mail = self.server.mode, Mail()
        if mode == "silent":
            self.lines.read()
            return
        if mode == "tls":
            self.start_tls()
        if mode == "refuse_greeting":
            self.say("554 no service")
            return
        self.say("220 sink ESMTP")
        while True:
            line = self.read()
            match line[:4].upper():
                case "EHLO":
                    mail.ehlo = line[5:]
                    for offer in ["sink", *_OFFERS.get(mode, [])]:
                        self.say("250-" + offer)
                    self.say("250 8BITMIME")
                case "AUTH":
                    self.say(self.authenticate(line, mail))
                case "STAR" if mode == "starttls":
                    self.say("220 go ahead")
                    self.start_tls()
                case "MAIL":
                    mail.sender = line
                    self.say("550 sender refused" if mode == "refuse_sender" else "250 ok")
                case "RCPT":
                    mail.recipients.append(line)
                    self.say("550 recipient refused" if mode == "refuse_recipient" else "250 ok")
                case "DATA" if mode == "refuse_data":
                    self.say("554 data refused")
                case "DATA":
                    self.take(mail)
                    mail = Mail(ehlo=mail.ehlo)
                case "QUIT":
                    self.say("221 bye")
                    return
                case verb:
                    self.say("250 ok" if verb in ("HELO", "RSET", "NOOP") else "502 unknown")

    def take(self, mail: Mail) -> None:
        self.say("354 end with .")
        while (line := self.lines.readline()) not in (b".\r\n", b""):
            mail.data += line.removeprefix(b".")
        self.server.mails.put(mail)
        self.say("250 kept")

    def authenticate(self, line: str, mail: Mail) -> str:
        """Hold the SASL exchange and return the last reply."""
        _, mechanism, *initial = line.split()
        if mechanism.upper() not in _MECHANISMS.get(self.server.mode, ()):
            return "504 mechanism not offered"
        if mechanism.upper() == "PLAIN":
            _, user, password = (_decoded(initial[0]) if initial else self.ask("")).split("\0")
        else:
            user = _decoded(initial[0]) if initial else self.ask("Username:")
            password = self.ask("Password:")
        mail.auth = {"mechanism": mechanism.upper(), "user": user, "password": password}
        return "235 ok" if (user, password) == (USER, PASSWORD) else "535 credentials refused"

    def ask(self, prompt: str) -> str:
        self.say("334 " + base64.b64encode(prompt.encode()).decode())
        return _decoded(self.read())


def _decoded(text: str) -> str:
    return base64.b64decode(text).decode()


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, mode: str, tls: ssl.SSLContext | None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.mode, self.tls = mode, tls
        self.mails: queue.Queue[Mail] = queue.Queue()


class Sinks:
    """`address("plain")` is where that sink listens (started at first use), `next_mail("plain")` what it got."""

    def __init__(self, folder: Path) -> None:
        """`folder`: for the certificate of the TLS sinks."""
        self._folder = folder
        self._servers: dict[str, _Server] = {}

    def address(self, mode: str) -> str:
        if mode == "closed":
            return f"127.0.0.1:{free_port()}"
        if mode not in _MODES:
            raise KeyError(mode)
        if mode not in self._servers:
            server = self._servers[mode] = _Server(mode, self._tls() if mode in ("tls", "starttls") else None)
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return f"127.0.0.1:{self._servers[mode].server_address[1]}"

    def next_mail(self, mode: str, within_s: float = PATIENCE_S) -> Mail | None:
        """Return the oldest mail that was not asked for yet, or None when none comes within `within_s`."""
        self.address(mode)
        try:
            return self._servers[mode].mails.get(timeout=within_s)
        except queue.Empty:
            return None

    def forget(self) -> None:
        """Drop the mails nobody asked for."""
        for server in self._servers.values():
            with contextlib.suppress(queue.Empty):
                while True:
                    server.mails.get_nowait()

    def close(self) -> None:
        for server in self._servers.values():
            server.shutdown()
            server.server_close()

    def _tls(self) -> ssl.SSLContext:
        certificate, key = self_signed(self._folder)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        return context
