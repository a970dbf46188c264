"""Between protobuf messages of the MessageService and the message and delivery rooms' types, both ways."""

from google.protobuf.timestamp_pb2 import Timestamp

from mailward.api.convert import timestamp
from mailward.delivery.status import Status, is_final
from mailward.delivery.views import (
    AttemptView,
    MessageFilter,
    MessageView,
    RecipientView,
    ResultView,
    overall,
)
from mailward.errors import InvalidArgument
from mailward.ids import UserId, format_message_id
from mailward.message.address import parse_addr_spec
from mailward.message.draft import Attachment, Draft, make_draft
from mailward.message.envelope import Envelope
from mailward.message.options import MAX_LIFETIME_S
from mailward.proto.mailward.v1 import messages_pb2 as proto

#: Fields of a message in parts: beside `raw` they would say things twice.
_PARTS = ("from", "to", "cc", "bcc", "reply_to", "subject", "text", "html", "headers", "attachments")


def draft(request: proto.SendMessageRequest, max_recipients: int) -> Draft:
    """Return the draft that `request` describes. Raises InvalidArgument with a pointer."""
    if request.HasField("envelope"):
        raise InvalidArgument("MESSAGE-envelope", "an envelope goes with raw only", pointer="/envelope")
    return make_draft(
        from_=getattr(request, "from"),
        to=request.to,
        cc=request.cc,
        bcc=request.bcc,
        reply_to=request.reply_to,
        subject=request.subject,
        text=request.text,
        html=request.html,
        headers=dict(request.headers),
        attachments=[
            Attachment(given.name, given.content_type, given.content, given.content_id) for given in request.attachments
        ],
        max_recipients=max_recipients,
    )


def raw_envelope(request: proto.SendMessageRequest, max_recipients: int) -> Envelope:
    """Return the envelope of a request with `raw`. Raises InvalidArgument with a pointer.

    `smtputf8` says what the addresses need; the header section may need it too.
    """
    for name in _PARTS:
        if getattr(request, name):
            raise InvalidArgument(
                "MESSAGE-both", "give either raw and envelope, or the parts of a message", pointer=f"/{name}"
            )
    if not request.HasField("envelope"):
        raise InvalidArgument("MESSAGE-bare", "raw needs an envelope", pointer="/envelope")
    sender, to = getattr(request.envelope, "from"), request.envelope.to
    if not 1 <= len(to) <= max_recipients:
        raise InvalidArgument(
            "MESSAGE-nobody", f"an envelope has 1 to {max_recipients} recipients", pointer="/envelope/to"
        )
    mailboxes = [parse_addr_spec(text, pointer=f"/envelope/to/{n}") for n, text in enumerate(to)]
    reverse_path = parse_addr_spec(sender, pointer="/envelope/from") if sender else None
    return Envelope(
        reverse_path="" if reverse_path is None else reverse_path.addr_spec,
        recipients=tuple(dict.fromkeys([mailbox.addr_spec for mailbox in mailboxes])),
        smtputf8=any(one is not None and one.needs_smtputf8 for one in (reverse_path, *mailboxes)),
    )


def lifetime(request: proto.SendMessageRequest, now_us: int) -> tuple[int | None, int | None]:
    """Return the lifetime in seconds, or the moment in µs, that `request` asks for. Raises InvalidArgument."""
    if not request.HasField("expires_at"):
        return request.ttl or None, None
    if request.ttl:
        raise InvalidArgument("MESSAGE-lifetime", "give either ttl or expires_at", pointer="/ttl")
    at_us = us(request.expires_at)
    if at_us > now_us + MAX_LIFETIME_S * 1_000_000:
        raise InvalidArgument("MESSAGE-late", "expires_at lies more than 30 days ahead", pointer="/expires_at")
    return None, at_us


def filter_of(request: proto.ListMessagesRequest, sender: UserId | None) -> MessageFilter:
    """Return what `request` filters by, confined to `sender`. Raises InvalidArgument with a pointer."""
    try:
        status = Status(request.state) if request.state else None
    except ValueError:
        raise InvalidArgument("MESSAGE-state", f"a state is one of {', '.join(Status)}", pointer="/state") from None
    recipient = request.recipient
    if "@" in recipient:  # The address as it is stored: the domain in A-labels.
        recipient = parse_addr_spec(recipient, pointer="/recipient").addr_spec
    return MessageFilter(
        sender=sender,
        status=status,
        recipient=recipient,
        tag=request.tag,
        since_us=us(request.created_after) if request.HasField("created_after") else None,
        until_us=us(request.created_before) if request.HasField("created_before") else None,
    )


def us(at: Timestamp) -> int:
    """Return the moment in µs since 1970."""
    return at.seconds * 1_000_000 + at.nanos // 1_000


def message(view: MessageView, provider: str) -> proto.Message:
    """Return a message as the API shows it. `provider`: see MessageView.waiting_for."""
    return proto.Message(
        id=format_message_id(view.id),
        state=view.status.value,
        recipients=[_recipient(one) for one in view.recipients],
        attempts=[_attempt(one) for one in view.attempts],
        subject=view.subject,
        tags=view.tags,
        metadata=view.metadata,
        size_bytes=view.size_bytes,
        created_at=timestamp(view.created_at_us),
        waiting_for=view.waiting_for(provider),
        lane=view.lane,
        expires_at=timestamp(view.expires_at_us),
        replay_of="" if view.replay_of is None else format_message_id(view.replay_of),
        **{"from": view.reverse_path},
    )


def _recipient(view: RecipientView) -> proto.Recipient:
    next_at_us = view.next_attempt_at_us
    return proto.Recipient(
        address=view.address,
        state=view.status.value,
        next_attempt_at=None if next_at_us is None else timestamp(next_at_us),
        attempts=view.attempts,
        last_reply=None if view.last_result is None else _reply(view.last_result),
        settled_at=timestamp(view.since_us) if is_final(view.status) else None,
        held=view.held,
    )


def _attempt(view: AttemptView) -> proto.Attempt:
    return proto.Attempt(
        id=str(view.id),
        provider_id=view.provider_id,
        started_at=timestamp(view.opened_at_us),
        ended_at=None if view.closed_at_us is None else timestamp(view.closed_at_us),
        outcome=overall([result.status for result in view.results]).value if view.results else "",
        recipients=[_result(result) for result in view.results]
        or [proto.AttemptRecipient(address=address) for address in view.addresses],
        route=view.route,
    )


def _result(view: ResultView) -> proto.AttemptRecipient:
    return proto.AttemptRecipient(
        address=view.address, outcome=view.status.value, reply=_reply(view), stage=view.stage, fault=view.fault
    )


def _reply(view: ResultView) -> proto.Reply:
    return proto.Reply(code=view.code, enhanced=view.enhanced, text=view.text)
