"""What a server's dialogue leads to, for the application to act on; all without I/O."""

from dataclasses import dataclass

from mailward.smtp.auth import Credentials
from mailward.smtp.reply import Reply


@dataclass(frozen=True, slots=True)
class MessageReceived:
    """A whole message; answer with `accept` (250, responsibility is ours) or `reject`."""

    reverse_path: str  #: "" = null reverse-path
    recipients: tuple[str, ...]  #: those accepted, in order, as given
    content: bytes  #: dots unstuffed, CRLF line ends only, ends with CRLF unless empty; follows the pieces
    smtputf8: bool  #: MAIL had the SMTPUTF8 parameter


@dataclass(frozen=True, slots=True)
class PieceReceived:
    """The beginning of a large message, or what follows that. No answer is owed before MessageReceived."""

    content: bytes  #: as in MessageReceived, never empty
    smtputf8: bool


@dataclass(frozen=True, slots=True)
class MessageRefused:
    """A message of which there were pieces cannot be taken; answer with `reject` once they are forgotten."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class StartTls:
    """220 was answered: send what is to be sent, shake hands, then call `tls_started`."""


@dataclass(frozen=True, slots=True)
class Closed:
    """The dialogue is over: send what is to be sent and hang up."""

    reason: str  #: for the log: "quit", "too many errors", ...


Event = Credentials | PieceReceived | MessageReceived | MessageRefused | StartTls | Closed
