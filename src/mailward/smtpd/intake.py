"""From a mail that the door has received to a submission: completed, its options read and left out."""

from dataclasses import dataclass

from mailward.delivery.idempotency import Idempotency, keyed
from mailward.delivery.lanes import lane_of
from mailward.delivery.submission import Submission
from mailward.errors import InvalidArgument
from mailward.ids import MessageId, UserId
from mailward.message.complete import complete
from mailward.message.envelope import Envelope
from mailward.message.options import NAMES, lasting_parts, read_options
from mailward.smtp.server import MessageReceived


@dataclass(frozen=True, slots=True)
class Received:
    """A mail, and what the session knows of it."""

    event: MessageReceived
    id: MessageId
    reverse_path: str
    recipients: tuple[str, ...]
    trace: bytes  #: the Received line up to its id
    sender: UserId


def submission(received: Received, *, hostname: str, now_us: int) -> Submission:
    """Return the submission of a mail. Takes a millisecond for every megabyte. Raises InvalidArgument."""
    event = received.event
    completed = complete(
        event.content,
        message_id=received.id,
        date_us=now_us,
        domain=hostname,
        received=received.trace,
        options=NAMES,
        lines_checked=True,
    )
    recipients = received.recipients
    if len(recipients) > 1:
        recipients = tuple(dict.fromkeys(recipients))
    # A client that says SMTPUTF8 for safety must not make the message one that few providers take.
    smtputf8 = event.smtputf8 and (
        completed.has_utf8_fields or not received.reverse_path.isascii() or not all(map(str.isascii, recipients))
    )
    envelope = Envelope(received.reverse_path, recipients, smtputf8)
    if not completed.options:
        return Submission(
            id=received.id,
            envelope=envelope,
            content=completed.content,
            subject=completed.subject,
            sender=received.sender,
            ingress="smtp",
        )
    options = read_options(completed.options)
    if options.ttl_s is not None and options.expires_at_us is not None:
        raise InvalidArgument("SMTPD-lifetime", "give X-Mailward-TTL or X-Mailward-Expires-At, not both")
    return Submission(
        id=received.id,
        envelope=envelope,
        content=completed.content,
        subject=completed.subject,
        sender=received.sender,
        ingress="smtp",
        tags=options.tags,
        lane=lane_of(options.lane),
        lifetime_s=options.ttl_s,
        expires_at_us=options.expires_at_us,
        idempotency=_idempotency(options.idempotency_key, envelope, event.content),
    )


def _idempotency(key: str | None, envelope: Envelope, content: bytes) -> Idempotency | None:
    if key is None:
        return None
    who = "\n".join((envelope.reverse_path, *sorted(envelope.recipients)))
    return keyed(key, (who.encode(), *lasting_parts(content)))
