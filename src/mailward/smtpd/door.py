"""What the submission door is told: its settings, and the functions through which it reaches the rest of the house."""

import ssl
from asyncio import Future
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from ipaddress import ip_address

from mailward.access.standing import Standing
from mailward.delivery.submission import Submission
from mailward.delivery.upload import Upload
from mailward.ids import MessageId, UserId
from mailward.peer import IpNetwork, address_of, is_in

_OPEN_SENDER = UserId("smtp-open")


@dataclass(frozen=True, slots=True, kw_only=True)
class SmtpdSettings:
    """How the door behaves. Times in seconds."""

    hostname: str  #: in the banner, in EHLO, and behind "by" in Received
    max_size_bytes: int = 25 * 1024 * 1024  #: of one message, announced as SIZE
    max_recipients: int = 1000  #: of one message
    max_connections: int = 1000  #: at once; further ones are told 421 and closed
    command_s: float = 300.0  #: from our reply to the end of the next command (RFC 5321 4.5.3.2.7)
    data_s: float = 600.0  #: from our 354 to the final dot
    handshake_s: float = 10.0  #: a TLS handshake
    max_auth_failures: int = 3  #: refused credentials after which we hang up
    auth_delay_s: float = 1.0  #: before the first refusal; each further one takes as much longer
    require_auth: bool = True  #: MAIL needs AUTH, except from `open_networks`
    open_networks: tuple[IpNetwork, ...] = ()  #: whose hosts submit without AUTH
    open_sender: UserId = _OPEN_SENDER  #: who a message without AUTH is filed under
    tls: ssl.SSLContext | None = None  #: for STARTTLS, or from the first byte on a listener of implicit TLS

    def is_open_to(self, peer: str) -> bool:
        """Whether the host with IP address `peer` submits without AUTH."""
        if not self.require_auth:
            return True
        return is_in(ip_address(peer), self.open_networks)


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """The rest of the house, as the door sees it; given by the composition root."""

    #: (user name as free text, token, IP address of the client) → who that is and may do for as long as the session
    #: lasts, or None for no valid token of somebody who may send. Raises TooManyFailures.
    authenticate: Callable[[str, str, str], Awaitable[Standing | None]]
    #: (IP address of the client, reason) counts credentials that need no look. Raises TooManyFailures.
    refuse: Callable[[str, str], Awaitable[None]]
    #: Resolved after the commit; MailwardError when it was not stored.
    submit: Callable[[Submission], Future[MessageId]]
    #: Begins to store the content of a large message; the function is called whenever there is room for more of it.
    upload: Callable[[MessageId, Callable[[], None]], Upload]
    draw_id: Callable[[], MessageId]
    now_us: Callable[[], int]


def client_of(peername: object) -> tuple[str, bool]:
    """Return the client's IP address and whether it is this machine's loopback."""
    address = address_of(str(peername[0])) if isinstance(peername, tuple) else None
    if address is None:
        return "0.0.0.0", False  # A socket that knows no address is trusted with nothing.
    return str(address), address.is_loopback
