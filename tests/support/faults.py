"""What can be wrong with a mail server: each fault by name, how it is staged, and what a test mail should report."""

import contextlib
import socket
import ssl
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.support.certificates import Certificates
from tests.support.program import free_port
from tests.support.smtp_servers import Drip, Script, scripted_server
from tests.support.smtp_servers import Fault as Does
from tests.support.tls_server import TlsServer

USER, PASSWORD = "relay", "correct horse"
WRONG_PIN = "00" * 32


def ehlo(*keywords: str) -> bytes:
    """Return an answer to EHLO that offers `keywords`."""
    lines = ["scripted", *keywords]
    return "".join(f"250{'-' if n < len(lines) - 1 else ' '}{line}\r\n" for n, line in enumerate(lines)).encode()


AUTH: Script = {"EHLO": ehlo("PIPELINING", "AUTH PLAIN LOGIN")}
STARTTLS: Script = {"EHLO": ehlo("STARTTLS"), "STAR": b"220 go\r\n"}


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A server with one fault, the provider that leads to it, and the finding."""

    name: str
    stage: str
    code: str
    words: str  #: part of what is said to have happened
    hint: str  #: part of the likely cause or of what to do
    script: Script = field(default_factory=dict)
    tls: str = "none"  #: the provider's mode
    login: bool = False  #: whether the provider has user and password
    pinned: bool = False  #: whether the provider pins another key
    trusts: bool = True  #: whether the provider's CA bundle is the server's authority
    to: str = "ada@example.net"
    #: "scripted", "implicit" (that with TLS from the start), "closed", "full" (never accepts), and of OpenSSL:
    #: "starttls", "old TLS", "wants a certificate"
    server: str = "scripted"
    certificate: str = "server"  #: the server's, a field of Certificates


FAULTS = (
    # -- the way there
    Fault(name="port closed", server="closed", stage="connect", code="connect_refused",
          words="refused", hint="587 and 465"),
    Fault(name="packets dropped", server="full", stage="connect", code="connect_timeout",
          words="no answer within", hint="firewall drops"),
    # -- banner
    Fault(name="silent banner", script={"BANNER": Does.HANG}, stage="banner", code="timeout",
          words="did not answer", hint="host and port"),
    Fault(name="banner drips", script={"BANNER": Drip(b"220 a server that takes its time\r\n", 0.6)},
          stage="banner", code="timeout", words="did not answer", hint="host and port"),
    Fault(name="cut before the banner", script={"BANNER": Does.DROP}, stage="banner", code="connection_lost",
          words="connection closed by the server", hint="server's log"),
    Fault(name="banner 554", script={"BANNER": b"554 5.7.1 no mail from here\r\n"}, stage="banner",
          code="banner_refused", words="554 5.7.1 no mail from here", hint="this machine's address"),
    Fault(name="banner 421", script={"BANNER": b"421 4.7.0 too many connections\r\n"}, stage="banner",
          code="service_unavailable", words="421 4.7.0", hint="limits connections"),
    Fault(name="another protocol", script={"BANNER": b"SSH-2.0-OpenSSH_9.2p1\r\n"}, stage="banner",
          code="protocol_error", words="SSH-2.0", hint="does not speak SMTP"),
    Fault(name="endless reply line", script={"BANNER": b"220 " + b"x" * 5000 + b"\r\n"}, stage="banner",
          code="protocol_error", words="longer than", hint="does not speak SMTP"),
    # -- EHLO
    Fault(name="EHLO refused", script={"EHLO": b"550 5.7.1 who?\r\n", "HELO": b"550 5.7.1 who are you?\r\n"},
          stage="ehlo", code="ehlo_refused", words="who are you?", hint="EHLO name"),
    Fault(name="cut in EHLO", script={"EHLO": Does.DROP}, stage="ehlo", code="connection_lost",
          words="closed by the server", hint="server's log"),
    Fault(name="EHLO unanswered", script={"EHLO": Does.HANG}, stage="ehlo", code="timeout",
          words="did not answer", hint="try again later"),
    # -- TLS
    Fault(name="plain text on a TLS port", tls="implicit", stage="tls", code="tls_port_speaks_plain",
          words="not in TLS", hint="Use STARTTLS"),
    Fault(name="TLS on a plain port", server="implicit", stage="banner", code="plain_port_speaks_tls",
          words="TLS", hint="Switch TLS on (implicit)"),
    Fault(name="TLS on a STARTTLS port", server="implicit", tls="starttls", stage="banner",
          code="plain_port_speaks_tls", words="TLS", hint="port 587"),
    Fault(name="STARTTLS missing", tls="starttls", stage="tls", code="starttls_not_offered",
          words="does not offer STARTTLS", hint="TLS port"),
    Fault(name="STARTTLS refused", tls="starttls", script={"EHLO": ehlo("STARTTLS"), "STAR": b"454 4.7.0 not now\r\n"},
          stage="tls", code="starttls_refused", words="454 4.7.0 not now", hint="Try again later"),
    Fault(name="clear text behind STARTTLS", tls="starttls", stage="tls", code="protocol_error",
          script=STARTTLS | {"STAR": b"220 go\r\n250 injected\r\n"}, words="unexpected reply", hint="host and port"),
    Fault(name="cut in the handshake", tls="starttls", script=STARTTLS | {"HANDSHAKE": Does.DROP}, stage="tls",
          code="tls_handshake_failed", words="TLS handshake failed", hint="hung up"),
    Fault(name="handshake unanswered", tls="implicit", script={"BANNER": Does.HANG}, stage="tls", code="tls_timeout",
          words="took too long", hint="Use STARTTLS"),
    Fault(name="certificate expired", tls="starttls", server="starttls", certificate="expired",
          stage="tls", code="tls_certificate_expired", words="expired", hint="renewed"),
    Fault(name="certificate for another name", tls="implicit", server="implicit", certificate="other_name",
          stage="tls", code="tls_name_mismatch", words="mismatch", hint="the certificate carries"),
    Fault(name="unknown authority", tls="implicit", server="implicit", trusts=False, stage="tls",
          code="tls_untrusted_certificate", words="unable to get local issuer", hint="CA bundle"),
    Fault(name="self-signed certificate", tls="starttls", server="starttls", stage="tls",
          certificate="self_signed", code="tls_untrusted_certificate", words="self", hint="pin the server's key"),
    Fault(name="another key than pinned", tls="implicit", server="implicit", pinned=True, stage="tls",
          code="tls_pin_mismatch", words="sha256:", hint="pin that"),
    Fault(name="TLS 1.1 only", tls="implicit", server="old TLS", stage="tls", code="tls_version_unsupported",
          words="TLS 1.2", hint="no longer safe"),
    Fault(name="client certificate demanded", tls="implicit", server="wants a certificate", stage="tls",
          code="tls_client_certificate_refused", words="certificate required", hint="client certificate and key"),
    # -- login
    Fault(name="no AUTH offered", login=True, stage="auth", code="auth_not_offered", words="does not offer AUTH",
          hint="remove user and password"),
    Fault(name="AUTH after STARTTLS only", login=True, script={"EHLO": ehlo("STARTTLS")}, stage="auth",
          code="auth_not_offered", words="does not offer AUTH", hint="Switch TLS on"),
    Fault(name="unknown mechanism only", login=True, script={"EHLO": ehlo("AUTH CRAM-MD5")}, stage="auth",
          code="auth_mechanism_unsupported", words="CRAM-MD5", hint="PLAIN or LOGIN"),
    Fault(name="wrong password", login=True, script=AUTH | {"AUTH": b"535 5.7.8 bad credentials\r\n"}, stage="auth",
          code="auth_rejected", words="535 5.7.8 bad credentials", hint="wrong"),
    Fault(name="app password wanted", login=True, stage="auth", code="auth_method_refused",
          script=AUTH | {"AUTH": b"534-5.7.9 Application-specific password\r\n534 5.7.9 required.\r\n"},
          words="534 5.7.9 Application-specific password required.", hint="app password"),
    Fault(name="TLS wanted before AUTH", login=True, stage="auth", code="tls_required",
          script=AUTH | {"AUTH": b"530 5.7.0 Must issue a STARTTLS command first\r\n"}, words="530", hint="587"),
    Fault(name="login cannot be checked", login=True, script=AUTH | {"AUTH": b"454 4.7.0 database down\r\n"},
          stage="auth", code="auth_unavailable", words="454 4.7.0", hint="may well be right"),
    Fault(name="too many logins", login=True, script=AUTH | {"AUTH": b"421 4.7.0 slow down\r\n"}, stage="auth",
          code="service_unavailable", words="421", hint="Try again later"),
    Fault(name="cut in AUTH", login=True, script=AUTH | {"AUTH": Does.DROP}, stage="auth", code="connection_lost",
          words="closed by the server", hint="server's log"),
    # -- sender
    Fault(name="login wanted before MAIL", script={"MAIL": b"530 5.7.0 Authentication required\r\n"}, stage="mail",
          code="auth_required", words="530 5.7.0", hint="user and the password"),
    Fault(name="sender refused", script={"MAIL": b"550 5.1.8 sender not verified\r\n"}, stage="mail",
          code="mail_refused", words="550 5.1.8", hint="Verify the sender"),
    Fault(name="quota used up", script={"MAIL": b"452 4.3.1 quota exceeded\r\n"}, stage="mail", code="quota_exceeded",
          words="452 4.3.1", hint="quota"),
    Fault(name="too many connections", script={"MAIL": b"421 4.3.2 too many connections\r\n"}, stage="mail",
          code="service_unavailable", words="421 4.3.2", hint="limits connections"),
    Fault(name="not now", script={"MAIL": b"451 4.3.0 try later\r\n"}, stage="mail", code="temporarily_refused",
          words="451 4.3.0", hint="Try again later"),
    Fault(name="size refused", script={"MAIL": b"552 5.3.4 too big\r\n"}, stage="mail", code="message_too_large",
          words="552 5.3.4", hint="larger than the server takes"),
    Fault(name="size announced", script={"EHLO": ehlo("SIZE 100")}, stage="mail", code="message_too_large",
          words="the provider takes 100", hint="Send less"),
    Fault(name="SMTPUTF8 missing", script={"EHLO": ehlo("8BITMIME")}, to="jürgen@example.net", stage="mail",
          code="smtputf8_not_offered", words="SMTPUTF8", hint="ASCII address"),
    Fault(name="cut in MAIL", script={"MAIL": Does.DROP}, stage="mail", code="connection_lost",
          words="closed by the server", hint="server's log"),
    Fault(name="MAIL unanswered", script={"MAIL": Does.HANG}, stage="mail", code="timeout", words="did not answer",
          hint="try again later"),
    # -- recipient
    Fault(name="greylisted", script={"RCPT": b"450 4.2.0 greylisted, come back\r\n"}, stage="rcpt",
          code="rcpt_deferred", words="450 4.2.0", hint="greylisting ends by itself"),
    Fault(name="recipient unknown", script={"RCPT": b"550 5.1.1 no such user\r\n"}, stage="rcpt", code="rcpt_refused",
          words="550 5.1.1", hint="recipient's address"),
    Fault(name="relaying denied", script={"RCPT": b"554 5.7.1 Relay access denied\r\n"}, stage="rcpt",
          code="relay_denied", words="554 5.7.1", hint="does not relay"),
    Fault(name="cut in RCPT", script={"EHLO": ehlo(), "RCPT": Does.DROP}, stage="rcpt", code="connection_lost",
          words="closed by the server", hint="server's log"),
    # -- content
    Fault(name="DATA refused", script={"DATA": b"554 5.5.1 no valid recipients\r\n"}, stage="data",
          code="data_refused", words="554 5.5.1", hint="server's words"),
    Fault(name="DATA accepted too soon", script={"DATA": b"250 2.0.0 thanks\r\n"}, stage="data",
          code="protocol_error", words="unexpected reply to DATA", hint="does not speak SMTP"),
    Fault(name="cut in DATA", script={"EHLO": ehlo(), "DATA": Does.DROP}, stage="data", code="connection_lost",
          words="closed by the server", hint="server's log"),
    Fault(name="looks like spam", script={"FINAL": b"554 5.7.1 spam\r\n"}, stage="final", code="content_refused",
          words="554 5.7.1 spam", hint="look like spam"),
    Fault(name="too large after all", script={"FINAL": b"552 5.3.4 too big\r\n"}, stage="final",
          code="message_too_large", words="552 5.3.4", hint="Send less"),
    Fault(name="daily quota", script={"FINAL": b"550 5.4.5 daily sending quota exceeded\r\n"}, stage="final",
          code="quota_exceeded", words="550 5.4.5", hint="quota"),
    Fault(name="cut after the final dot", script={"FINAL": Does.DROP}, stage="final", code="final_unanswered",
          words="closed by the server", hint="may have been delivered"),
    Fault(name="final dot unanswered", script={"FINAL": Does.HANG}, stage="final", code="final_unanswered",
          words="did not answer", hint="may have been delivered"),
)  # fmt: skip


#: Code → the deadline that passes before the fault is found.
WAITED_FOR = {
    "connect_timeout": "connect_s",
    "tls_timeout": "connect_s",
    "timeout": "command_s",
    "final_unanswered": "final_s",
}


@asynccontextmanager
async def staged(fault: Fault, certificates: Certificates) -> AsyncIterator[int]:
    """Run a server with `fault`; yield its port on 127.0.0.1."""
    context = certificates.server_context(getattr(certificates, fault.certificate))
    match fault.server:
        case "closed":
            yield free_port()
        case "full":
            with _full() as port:
                yield port
        case "starttls" | "old TLS" | "wants a certificate":
            if fault.server == "old TLS":
                _age(context)
            elif fault.server == "wants a certificate":
                context.verify_mode = ssl.CERT_REQUIRED
                context.load_verify_locations(certificates.ca)
            with TlsServer(context, starttls=fault.server == "starttls") as server:
                yield server.port
        case _:
            tls = context if fault.server == "implicit" else None
            async with scripted_server(fault.script, tls=tls) as scripted:
                yield scripted.port


@contextlib.contextmanager
def _full() -> Iterator[int]:
    """A port whose backlog is full: Linux drops what comes further, as a firewall does."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        address = listener.getsockname()
        for _ in range(2):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(address)
        yield int(address[1])


def _age(context: ssl.SSLContext) -> None:
    """Have `context` speak nothing newer than TLS 1.1."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
