"""A draft: what a caller asks to be composed, checked field by field, with pointers to what is wrong."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from mailward.errors import InvalidArgument
from mailward.message.address import CONTROLS, Mailbox, parse_mailbox
from mailward.message.envelope import Envelope
from mailward.message.headers import check_header, clean

MAX_SUBJECT_CHARACTERS = 998
MAX_FIELD_OCTETS = 65_536  #: all header fields of a caller together
MAX_ATTACHMENTS = 100
_SMALL_CHARACTERS = 65_536
_SMALL_HTML_CHARACTERS = 4_096

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_is_content_type = re.compile(rf'{_TOKEN}/{_TOKEN}(?: *; *{_TOKEN}=(?:{_TOKEN}|"[ !#-\[\]-~]*"))*').fullmatch
_is_content_id = re.compile(r"[!-;=?-~]{1,240}").fullmatch

_sender = lru_cache(maxsize=1024)(parse_mailbox)  # An application has few senders and many recipients.


@dataclass(frozen=True, slots=True)
class Attachment:
    """A part beside the text: Attachment("invoice.pdf", "application/pdf", b"%PDF...")."""

    name: str  #: file name, any characters but controls; "" = none
    content_type: str  #: e.g. "text/calendar; method=REQUEST"; "" = application/octet-stream
    content: bytes
    content_id: str = ""  #: without angle brackets; set: the HTML refers to it as "cid:..."


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A message to compose. Made by `make_draft`, which checks it; `mime.compose` trusts it."""

    from_: Mailbox
    to: tuple[Mailbox, ...] = ()
    cc: tuple[Mailbox, ...] = ()
    bcc: tuple[Mailbox, ...] = ()  #: in the envelope only
    reply_to: tuple[Mailbox, ...] = ()
    subject: str = ""  #: decoded
    text: str = ""
    html: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)  #: lower-case name → the whole field with CRLF
    attachments: tuple[Attachment, ...] = ()

    @property
    def is_small(self) -> bool:
        """Whether composing takes microseconds, so that it may be done on the event loop."""
        if self.attachments or len(self.text) + len(self.html) > _SMALL_CHARACTERS:
            return False
        return bool(self.text) or len(self.html) <= _SMALL_HTML_CHARACTERS

    @property
    def envelope(self) -> Envelope:
        """From the sender to everybody in To, Cc and Bcc, each once."""
        mailboxes = self.to + self.cc + self.bcc
        return Envelope(
            reverse_path=self.from_.addr_spec,
            recipients=tuple(dict.fromkeys([mailbox.addr_spec for mailbox in mailboxes])),
            smtputf8=any(mailbox.needs_smtputf8 for mailbox in (self.from_, *mailboxes, *self.reply_to)),
        )


def make_draft(
    *,
    from_: str,
    to: Sequence[str] = (),
    cc: Sequence[str] = (),
    bcc: Sequence[str] = (),
    reply_to: Sequence[str] = (),
    subject: str = "",
    text: str = "",
    html: str = "",
    headers: Mapping[str, str] | Sequence[tuple[str, str]] = (),
    attachments: Sequence[Attachment] = (),
    max_recipients: int = 1000,
) -> Draft:
    """Return the draft of what a caller gave. Raises InvalidArgument with a pointer such as "/to/0".

    A header value may hold encoded-words: they are decoded, checked, and encoded again by us.
    """
    count = len(to) + len(cc) + len(bcc)
    if count == 0:
        raise InvalidArgument("MESSAGE-o3Kb", "a message needs a recipient in to, cc or bcc", pointer="/to")
    if count > max_recipients:
        raise InvalidArgument("MESSAGE-g8Vz", f"a message has at most {max_recipients} recipients", pointer="/to")
    if len(reply_to) > max_recipients:
        raise InvalidArgument(
            "MESSAGE-l4Fq", f"a message has at most {max_recipients} reply addresses", pointer="/reply_to"
        )
    if not (text or html or attachments):
        raise InvalidArgument("MESSAGE-s6Di", "a message needs a text, an html or an attachment", pointer="/text")
    _check_encodable(text, "/text")
    _check_encodable(html, "/html")
    if len(attachments) > MAX_ATTACHMENTS:
        raise InvalidArgument(
            "MESSAGE-v1Xr", f"a message has at most {MAX_ATTACHMENTS} attachments", pointer="/attachments"
        )
    return Draft(
        from_=_sender(from_, pointer="/from"),
        to=_mailboxes(to, "/to"),
        cc=_mailboxes(cc, "/cc"),
        bcc=_mailboxes(bcc, "/bcc"),
        reply_to=_mailboxes(reply_to, "/reply_to"),
        subject=_subject(subject),
        text=text,
        html=html,
        fields=_fields(headers) if headers else {},
        attachments=tuple([_attachment(given, f"/attachments/{index}") for index, given in enumerate(attachments)]),
    )


def _mailboxes(texts: Sequence[str], pointer: str) -> tuple[Mailbox, ...]:
    return tuple([parse_mailbox(text, pointer=f"{pointer}/{index}") for index, text in enumerate(texts)])


def _subject(subject: str) -> str:
    if not subject or subject.isspace():
        return ""
    if len(subject) > MAX_SUBJECT_CHARACTERS:
        raise InvalidArgument(
            "MESSAGE-i7Ws", f"a subject has at most {MAX_SUBJECT_CHARACTERS} characters", pointer="/subject"
        )
    return clean(subject, "/subject")


def _fields(headers: Mapping[str, str] | Sequence[tuple[str, str]]) -> dict[str, str]:
    fields: dict[str, str] = {}
    octets = 0
    for name, value in headers.items() if isinstance(headers, Mapping) else headers:
        written = check_header(name, value)
        octets += len(written)
        if octets > MAX_FIELD_OCTETS:
            raise InvalidArgument(
                "MESSAGE-B2pd", f"the headers are longer than {MAX_FIELD_OCTETS} octets together", pointer="/headers"
            )
        if name.lower() in fields:
            raise InvalidArgument("MESSAGE-C9mn", f"the header {name} is given twice", pointer="/headers")
        fields[name.lower()] = written
    return fields


def _attachment(given: Attachment, pointer: str) -> Attachment:
    """Return `given` with its defaults filled in and brackets around its content id removed."""
    name = given.name.strip()
    if CONTROLS.search(name) or "\t" in name or len(name) > 255:
        raise InvalidArgument(
            "MESSAGE-D4fe",
            "a file name has at most 255 characters and none of them is a control",
            pointer=f"{pointer}/name",
        )
    content_type = given.content_type.strip() or "application/octet-stream"
    if len(content_type) > 255 or not _is_content_type(content_type):
        raise InvalidArgument(
            "MESSAGE-E6ty", "a content type looks like type/subtype; name=value", pointer=f"{pointer}/content_type"
        )
    if content_type.lower().startswith("multipart/"):
        raise InvalidArgument("MESSAGE-F8uj", "an attachment cannot be a multipart", pointer=f"{pointer}/content_type")
    content_id = given.content_id
    if content_id.startswith("<") and content_id.endswith(">"):
        content_id = content_id[1:-1]
    if content_id and not _is_content_id(content_id):
        raise InvalidArgument(
            "MESSAGE-H1ol", "a content id is 1 to 240 printable ASCII characters", pointer=f"{pointer}/content_id"
        )
    return Attachment(name, content_type, given.content, content_id)


def _check_encodable(text: str, pointer: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidArgument("MESSAGE-J3bw", "half of a surrogate pair is not a character", pointer=pointer) from None
