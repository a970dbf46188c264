"""Mailward's own MessageService: hand mail over, and follow it."""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain

from mailward import log
from mailward.access.tokens import Caller
from mailward.api import convert_messages as convert
from mailward.db.database import Database
from mailward.delivery import queries
from mailward.delivery.idempotency import Idempotency, check_key, keyed, of_mail
from mailward.delivery.lanes import lane_of
from mailward.delivery.status import Status
from mailward.delivery.submission import Submission, Submissions
from mailward.delivery.views import VEIL, MessageView, veiled
from mailward.errors import InvalidArgument, MailwardError, NotFound, TooLarge, refusal_reason
from mailward.ids import MessageId, UserId, format_message_id, parse_message_id
from mailward.message.complete import complete, further
from mailward.message.content import PIECE_BYTES, Uploaded, cut
from mailward.message.envelope import Envelope
from mailward.message.mime import compose_parts
from mailward.message.options import NAMES, NO_OPTIONS, MailOptions, read_options
from mailward.proto.mailward.v1 import messages_pb2 as proto
from mailward.rpc.service import Call

_SMALL_BYTES = 65_536  # what may be looked through on the event loop
_PAGE_SIZE = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageLimits:
    """What a submission by HTTP or gRPC may be."""

    message_bytes: int = 25 << 20  #: of the message as it will be sent
    recipients: int = 1_000


class Messages:
    """The implementation that is registered for mailward.v1.MessageService. The guard has checked the permissions."""

    def __init__(
        self,
        database: Database,
        submissions: Submissions,
        *,
        draw_id: Callable[[], int],
        now_us: Callable[[], int],
        hostname: str,
        waits_for: Callable[[], str],
        limits: MessageLimits | None = None,
    ) -> None:
        """`hostname`: for a Message-ID when From has no domain for it.

        `waits_for`: what keeps mail from leaving through the active provider now, "" when nothing does.
        """
        self._database = database
        self._submissions = submissions
        self._draw_id = draw_id
        self._now_us = now_us
        self._hostname = hostname
        self._waits_for = waits_for
        self._limits = limits or MessageLimits()

    async def send_message(self, request: proto.SendMessageRequest, call: Call) -> proto.SendMessageResponse:
        """Accept a message: it is on disk when this returns."""
        try:
            return await self._accept(request, call)
        except MailwardError as error:
            ingress = "http" if call.protocol == "rest" else "grpc"
            log.message_refused(ingress=ingress, reason=refusal_reason(error), detail=str(error))
            raise

    async def _accept(self, request: proto.SendMessageRequest, call: Call) -> proto.SendMessageResponse:
        id = MessageId(self._draw_id())
        lane = lane_of(request.lane)
        lifetime_s, expires_at_us = convert.lifetime(request, self._now_us())
        idempotency = await _idempotency(request, call)
        options = NO_OPTIONS
        if raw := request.raw:  # A copy of it, each time.
            envelope, content, subject, options = await self._taken_whole(request, raw, id)
            if idempotency is None and (key := options.idempotency_key) is not None:
                args = key, envelope.reverse_path, envelope.recipients, raw
                idempotency = await asyncio.to_thread(of_mail, *args)
        else:
            envelope, content, subject = await self._composed(request, id)
        ends = lifetime_s is not None or expires_at_us is not None
        submission = Submission(
            id=id,
            envelope=envelope,
            content=content,
            subject=subject,
            sender=call.caller.user_id,
            ingress="http" if call.protocol == "rest" else "grpc",
            # What the request says counts before what the mail says of itself.
            tags=tuple(request.tags) or options.tags,
            metadata=dict(request.metadata),
            lane=lane if request.lane else lane_of(options.lane),
            lifetime_s=lifetime_s if ends else options.ttl_s,
            expires_at_us=expires_at_us if ends else options.expires_at_us,
            uncertain_retries=request.uncertain_retries if request.HasField("uncertain_retries") else None,
            idempotency=idempotency,
        )
        id = await self._submissions.submit(submission)
        return proto.SendMessageResponse(id=format_message_id(id), state=Status.QUEUED.value)

    async def _composed(
        self, request: proto.SendMessageRequest, id: MessageId
    ) -> tuple[Envelope, bytes | Uploaded, str]:
        size_bytes = sum(len(given.content) for given in request.attachments)
        if size_bytes > self._limits.message_bytes:
            raise TooLarge("MESSAGE-attachments", "the attachments are too large", pointer="/attachments")
        draft = convert.draft(request, self._limits.recipients)
        parts = compose_parts(draft, message_id=id, date_us=self._now_us())
        if draft.is_small:
            content: bytes | Uploaded = b"".join(self._fitting(parts))
        else:
            pieces = cut(self._fitting(parts))
            content = await asyncio.to_thread(next, pieces)
            if (second := await asyncio.to_thread(next, pieces, None)) is not None:
                content = await self._submissions.store(id, chain([content, second], pieces))
        return draft.envelope, content, draft.subject

    async def _taken_whole(
        self, request: proto.SendMessageRequest, raw: bytes, id: MessageId
    ) -> tuple[Envelope, bytes | Uploaded, str, MailOptions]:
        envelope = convert.raw_envelope(request, self._limits.recipients)
        pieces = cut([raw])
        try:
            first = next(pieces)
            take = partial(complete, first, message_id=id, date_us=self._now_us(), domain=self._hostname, options=NAMES)
            completed = take() if len(first) <= _SMALL_BYTES else await asyncio.to_thread(take)
            options = read_options(completed.options)
            lane_of(options.lane)
            if options.idempotency_key is not None:
                check_key(options.idempotency_key)
            content: bytes | Uploaded = completed.content
            if len(raw) > PIECE_BYTES:
                whole = chain([completed.content], further(pieces))
                content = await self._submissions.store(id, self._fitting(whole))
            elif len(content) > self._limits.message_bytes:
                raise self._too_large
        except InvalidArgument as error:
            raise InvalidArgument(error.id, error.message, pointer="/raw") from None
        if completed.has_utf8_fields:
            envelope = replace(envelope, smtputf8=True)
        return envelope, content, completed.subject, options

    def _fitting(self, parts: Iterable[bytes]) -> Iterator[bytes]:
        """Yield `parts`. Raises TooLarge when they become more than a message may have."""
        left = self._limits.message_bytes
        for part in parts:
            left -= len(part)
            if left < 0:
                raise self._too_large
            yield part

    @property
    def _too_large(self) -> TooLarge:
        return TooLarge("MESSAGE-size", f"the message is larger than {self._limits.message_bytes} bytes")

    async def get_message(self, request: proto.GetMessageRequest, call: Call) -> proto.Message:
        """Return one message and its timeline."""
        id = parse_message_id(request.id)
        if id is None:
            raise NotFound("MESSAGE-form", "no such message")
        view = await self._database.read(queries.get_message, id, _sees_only(call))
        return self._shown(view, call)

    async def list_messages(self, request: proto.ListMessagesRequest, call: Call) -> proto.ListMessagesResponse:
        """Return a page of messages, newest first."""
        filter = convert.filter_of(request, _sees_only(call))
        size = request.page_size or _PAGE_SIZE
        page = await self._database.read(queries.list_messages, filter, size, request.page_token)
        messages = [self._shown(view, call) for view in page.messages]
        for shown in messages:
            shown.ClearField("attempts")
        return proto.ListMessagesResponse(messages=messages, next_page_token=page.cursor)

    def _shown(self, view: MessageView, call: Call) -> proto.Message:
        caller: Caller = call.caller
        if caller.manages_providers:
            return convert.message(view, self._waits_for())
        return convert.message(veiled(view), self._waits_for() and VEIL)


async def _idempotency(request: proto.SendMessageRequest, call: Call) -> Idempotency | None:
    """Return the key of the call and what it stands for: the request, in whatever protocol it came."""
    key = call.metadata.get("idempotency-key")
    if key is None:
        return None
    check_key(key)
    if request.ByteSize() <= _SMALL_BYTES:
        return keyed(key, (request.SerializeToString(deterministic=True),))
    return await asyncio.to_thread(lambda: keyed(key, (request.SerializeToString(deterministic=True),)))


def _sees_only(call: Call) -> UserId | None:
    caller: Caller = call.caller
    return caller.sees_only
