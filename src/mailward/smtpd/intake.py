"""From a mail that the door has received to a submission: completed, its options read and left out."""

from dataclasses import dataclass

from mailward.delivery.idempotency import Idempotency, check_key, of_mail
from mailward.delivery.lanes import lane_of
from mailward.delivery.submission import Submission
from mailward.ids import MessageId, UserId
from mailward.message.complete import Completed, complete
from mailward.message.content import Uploaded
from mailward.message.envelope import Envelope
from mailward.message.options import NAMES, MailOptions, read_options


@dataclass(frozen=True, slots=True)
class Received:
    """What the session knows of a mail beside its content."""

    id: MessageId
    reverse_path: str
    recipients: tuple[str, ...]
    smtputf8: bool
    trace: bytes  #: the Received line up to its id
    sender: UserId


def submission(received: Received, content: bytes, *, hostname: str, now_us: int) -> Submission:
    """Return the submission of a mail. Raises InvalidArgument."""
    completed, options = read(received, content, hostname=hostname, now_us=now_us)
    idempotency = None
    if options is not None and options.idempotency_key is not None:
        idempotency = of_mail(options.idempotency_key, received.reverse_path, received.recipients, content)
    return submitted(received, completed, options, completed.content, idempotency)


def read(received: Received, content: bytes, *, hostname: str, now_us: int) -> tuple[Completed, MailOptions | None]:
    """Return a mail or its beginning completed, and its options; None when it has none. Raises InvalidArgument."""
    completed = complete(
        content,
        message_id=received.id,
        date_us=now_us,
        domain=hostname,
        received=received.trace,
        options=NAMES,
        lines_checked=True,
    )
    if not completed.options:
        return completed, None
    options = read_options(completed.options)
    if options.idempotency_key is not None:
        check_key(options.idempotency_key)
    return completed, options


def submitted(
    received: Received,
    completed: Completed,
    options: MailOptions | None,
    content: bytes | Uploaded,
    idempotency: Idempotency | None,
) -> Submission:
    """Return the submission of a mail that was `read`."""
    recipients = received.recipients
    if len(recipients) > 1:
        recipients = tuple(dict.fromkeys(recipients))
    # A client that says SMTPUTF8 for safety must not make the message one that few providers take.
    smtputf8 = received.smtputf8 and (
        completed.has_utf8_fields or not received.reverse_path.isascii() or not all(map(str.isascii, recipients))
    )
    envelope = Envelope(received.reverse_path, recipients, smtputf8)
    if options is None:
        return Submission(
            id=received.id,
            envelope=envelope,
            content=content,
            subject=completed.subject,
            sender=received.sender,
            ingress="smtp",
        )
    return Submission(
        id=received.id,
        envelope=envelope,
        content=content,
        subject=completed.subject,
        sender=received.sender,
        ingress="smtp",
        tags=options.tags,
        lane=lane_of(options.lane),
        lifetime_s=options.ttl_s,
        expires_at_us=options.expires_at_us,
        idempotency=idempotency,
    )
