"""What a finished message says, for those who do not read MIME: subject, texts, ids (pure)."""

import email
import email.policy
from dataclasses import dataclass
from email.message import EmailMessage


@dataclass(frozen=True, slots=True, kw_only=True)
class Extract:
    """The parts of a message that a generic receiver can use; "" for what it does not have."""

    subject: str  #: decoded
    text: str  #: the plain text body, lines ended by "\\n"
    html: str
    message_id: str  #: with its angle brackets
    sender: str  #: the From field, decoded
    reply_to: str
    to: str
    cc: str


def extract(content: bytes) -> Extract:
    """Return what RFC 5322 message `content` says. Never raises: what cannot be read is ""."""
    message = email.message_from_bytes(content, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    return Extract(
        subject=_field(message, "Subject"),
        text=_body(message, "plain"),
        html=_body(message, "html"),
        message_id=_field(message, "Message-ID"),
        sender=_field(message, "From"),
        reply_to=_field(message, "Reply-To"),
        to=_field(message, "To"),
        cc=_field(message, "Cc"),
    )


def _field(message: EmailMessage, name: str) -> str:
    try:
        return str(message[name] or "").strip()
    except Exception:  # The parser of the standard library trips over some broken fields, each in its own way.
        return ""


def _body(message: EmailMessage, kind: str) -> str:
    try:
        part = message.get_body((kind,))
        return "" if part is None else str(part.get_content()).replace("\r\n", "\n")
    except Exception:  # an unknown charset, a broken encoding
        return ""
