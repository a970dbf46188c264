"""POST /v1/messages for the everyday message, without a task, a descriptor and a message class per request.

Whatever is in any way out of the ordinary is left to the ordinary way: None is returned, nothing has happened, and
RestGateway answers. So there is one spelling of every error. What is taken here is answered as there, which a
differential test shows.
"""

from asyncio import Future, get_running_loop
from collections.abc import Callable
from functools import partial

import msgspec

from mailward import metrics
from mailward.access.access import Access
from mailward.access.roles import MESSAGE_SEND
from mailward.api.hosts import Hosts
from mailward.api.messages import MessageLimits
from mailward.delivery.submission import Submission, Submissions
from mailward.errors import MailwardError
from mailward.ids import MessageId, format_message_id
from mailward.message.draft import make_draft
from mailward.message.mime import compose
from mailward.rpc.http import Request, Response
from mailward.rpc.rest import RestGateway
from mailward.rpc.service import Code

PATH = "/v1/messages"
_MAX_BODY = 65_536  # what may be read and composed on the event loop
_SCHEME = "Bearer "

#: Refused in every string, or, behind another backslash, a text that speaks of it.
_NUL = b"\\u0000"

#: Fields that say nothing to us beyond what is looked at here. Any other field is a reason to look closely.
_PLAIN_FIELDS = frozenset(
    {
        b"host", b"user-agent", b"accept", b"accept-encoding", b"accept-language", b"content-type", b"content-length",
        b"authorization", b"connection", b"x-request-id", b"origin", b"referer", b"x-forwarded-for",
    }
)  # fmt: skip


class _Message(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """What a SendMessageRequest has most often."""

    from_: str = msgspec.field(name="from")
    to: list[str] | msgspec.UnsetType = msgspec.UNSET
    cc: list[str] | msgspec.UnsetType = msgspec.UNSET
    bcc: list[str] | msgspec.UnsetType = msgspec.UNSET
    reply_to: list[str] | msgspec.UnsetType = msgspec.UNSET
    subject: str | msgspec.UnsetType = msgspec.UNSET
    text: str | msgspec.UnsetType = msgspec.UNSET
    html: str | msgspec.UnsetType = msgspec.UNSET


_decode = msgspec.json.Decoder(_Message).decode


class Quick:
    """What comes first at POST /v1/messages; see App's shortcuts."""

    def __init__(
        self,
        access: Access,
        submissions: Submissions,
        rest: RestGateway,
        *,
        hosts: Hosts,
        draw_id: Callable[[], int],
        now_us: Callable[[], int],
        limits: MessageLimits,
    ) -> None:
        self._access = access
        self._submissions = submissions
        self._rest = rest
        self._hosts = hosts
        self._method = rest.method("POST", PATH)
        self._counted = metrics.rpc_calls.labels("rest", self._method.path, Code.OK.name)
        self._draw_id = draw_id
        self._now_us = now_us
        self._limits = limits

    def __call__(self, request: Request) -> Future[Response] | None:
        """Return the answer to come, or None when this is a matter for the ordinary way."""
        if request.method != "POST" or request.query or not 0 < len(request.body) <= _MAX_BODY:
            return None
        for name, _ in request.headers.raw:
            if name not in _PLAIN_FIELDS:
                return None
        get = request.headers.get
        if self._hosts.domains and self._hosts.stranger({"host": get("host")}) is not None:
            return None
        if not get("content-type", _JSON).startswith(_JSON) or not (token := get("authorization")).startswith(_SCHEME):
            return None
        caller = self._access.remembered(token[len(_SCHEME) :])
        if caller is None or MESSAGE_SEND not in caller.permissions:
            return None
        try:
            given = _decode(request.body)
            if _names_one_twice(given, request.body) or _NUL in request.body:
                return None
            draft = make_draft(
                from_=given.from_,
                to=given.to or (),
                cc=given.cc or (),
                bcc=given.bcc or (),
                reply_to=given.reply_to or (),
                subject=given.subject or "",
                text=given.text or "",
                html=given.html or "",
                max_recipients=self._limits.recipients,
            )
        except (msgspec.MsgspecError, UnicodeDecodeError, MailwardError):
            return None
        if not draft.is_small or _breaks_a_rule(given):
            return None
        id = MessageId(self._draw_id())
        content = compose(draft, message_id=id, date_us=self._now_us())
        if len(content) > self._limits.message_bytes:
            return None
        submission = Submission(
            id=id,
            envelope=draft.envelope,
            content=content,
            subject=draft.subject,
            sender=caller.user_id,
            ingress="http",
        )
        answer: Future[Response] = get_running_loop().create_future()
        self._submissions.submit(submission).add_done_callback(partial(self._stored, request, answer))
        return answer

    def _stored(self, request: Request, answer: Future[Response], stored: Future[MessageId]) -> None:
        error = stored.exception()
        if error is None:
            self._counted.inc()
            body = b'{"id":"%b","state":"queued"}' % format_message_id(stored.result()).encode()
            answer.set_result(self._rest.succeeded(request, self._method, body))
        elif isinstance(error, Exception):
            answer.set_result(self._rest.failed(request, self._method, error))


_JSON = "application/json"


def _names_one_twice(given: _Message, body: bytes) -> bool:
    """Whether a field may be given twice: protojson refuses that, msgspec takes the last one.

    Only names and strings have quotation marks, two each, if none is escaped. With a backslash before a backslash,
    which is rare, one cannot tell by counting.
    """
    strings = 0
    for value in (given.from_, given.to, given.cc, given.bcc, given.reply_to, given.subject, given.text, given.html):
        if value is not msgspec.UNSET:
            strings += 1 + (len(value) if type(value) is list else 1)
    marks = body.count(b'"')
    if b"\\" in body:
        if b"\\\\" in body:
            return True
        marks -= body.count(b'\\"')
    return marks != 2 * strings


def _breaks_a_rule(given: _Message) -> bool:
    """Whether one of the rules of the .proto file is broken that `make_draft` does not know."""
    reply_to = given.reply_to
    return (
        len(given.from_) > 1000
        or (reply_to is not msgspec.UNSET and len(reply_to) > 100)
        or any(one is not msgspec.UNSET and len(one) > 1000 for one in (given.to, given.cc, given.bcc))
    )
