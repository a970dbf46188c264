"""What is shown of messages, and what is derived for it. No storage, no wire format."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from mailward.delivery.status import Status
from mailward.ids import AttemptId, MessageId, ProviderId, UserId
from mailward.transport.outcome import Fault

#: From the least settled: a message is as far as the recipient that has come least far.
_UNSETTLED_FIRST = (
    Status.UNCERTAIN,
    Status.DEFERRED,
    Status.QUEUED,
    Status.SENDING,
    Status.BOUNCED,
    Status.EXPIRED,
    Status.SUPPRESSED,
    Status.CANCELED,
    Status.ACCEPTED,
    Status.DELIVERED,
)

#: What others than those who manage providers see of trouble with one.
VEIL = "trouble with the provider; those who manage it see which"

HELD = "a decision: nobody knows whether the provider took it"


def overall(statuses: Iterable[Status]) -> Status:
    """Return the least settled of `statuses`, trouble before success."""
    return min(statuses, key=_UNSETTLED_FIRST.index)


@dataclass(frozen=True, slots=True)
class ResultView:
    """What one attempt did to one recipient."""

    address: str
    status: Status  #: accepted, deferred, bounced or uncertain; what the attempt said, before any policy
    stage: str  #: transport.outcome.Stage; where it was decided
    fault: str  #: transport.outcome.Fault; "" when nobody's
    code: int  #: reply code, the server's or one made here
    enhanced: str  #: enhanced status code; "" when none was sent
    text: str


@dataclass(frozen=True, slots=True)
class AttemptView:
    """One attempt: a conversation with a provider about some recipients of a message."""

    id: AttemptId
    provider_id: ProviderId
    opened_at_us: int
    closed_at_us: int | None  #: None while it runs, or while nobody has found out how it ended
    addresses: tuple[str, ...]  #: whom it was for
    results: tuple[ResultView, ...]  #: empty while it is open
    route: str = ""  #: why it went to another provider than the active one; "" when it did not


@dataclass(frozen=True, slots=True)
class RecipientView:
    """Where one recipient stands."""

    address: str
    status: Status
    since_us: int  #: when it entered the state
    attempts: int  #: that ended
    next_attempt_at_us: int | None  #: None when leased, held or final
    last_result: ResultView | None  #: of the latest attempt that ended

    @property
    def held(self) -> bool:
        """Whether it waits for an operator: no attempt will follow by itself."""
        return self.status is Status.UNCERTAIN and self.next_attempt_at_us is None


@dataclass(frozen=True, slots=True)
class MessageView:
    """A message without its content."""

    id: MessageId
    sender: UserId
    reverse_path: str
    subject: str
    size_bytes: int
    smtputf8: bool
    ingress: str
    lane: str
    tags: tuple[str, ...]
    metadata: Mapping[str, str]
    created_at_us: int
    expires_at_us: int
    recipients: tuple[RecipientView, ...]  #: in the order of the envelope
    attempts: tuple[AttemptView, ...]  #: oldest first
    replay_of: MessageId | None = None  #: the message that it sends again

    @property
    def status(self) -> Status:
        return overall(recipient.status for recipient in self.recipients)

    def waiting_for(self, provider: str) -> str:
        """Return why nothing happens now, "" when nothing holds it up.

        `provider`: what is wrong with the way out, e.g. "no active provider"; "" when it is open.
        """
        if any(recipient.next_attempt_at_us is not None for recipient in self.recipients) and provider:
            return provider
        return HELD if any(recipient.held for recipient in self.recipients) else ""


def veiled(view: MessageView) -> MessageView:
    """Return `view` for whoever may not manage providers: what went wrong on the way to one is none of their business.

    Whether its host exists, is allowed or listens, and what it says to a login, would tell them about the network and
    the provider's account. What it says of the mail and its recipients stays.
    """
    return replace(
        view,
        recipients=tuple([replace(one, last_result=_veiled(one.last_result)) for one in view.recipients]),
        attempts=tuple(
            [
                replace(one, results=tuple(map(_veiled, one.results)), route=VEIL if one.route else "")
                for one in view.attempts
            ]
        ),
    )


_Result = TypeVar("_Result", ResultView, ResultView | None)


def _veiled(result: _Result) -> _Result:
    if result is None or result.fault != Fault.PROVIDER.value:
        return result
    return replace(result, stage="", code=0, enhanced="", text=VEIL)


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageFilter:
    """Which messages to list; fields that are set must all match."""

    sender: UserId | None = None  #: only messages of this submitter
    status: Status | None = None  #: at least one recipient is in this state
    recipient: str = ""  #: at least one recipient has this address, compared without regard to case
    tag: str = ""
    since_us: int | None = None  #: created at or after
    until_us: int | None = None  #: created before


@dataclass(frozen=True, slots=True)
class MessagePage:
    """Newest first. A page may be short, even empty, while `cursor` is set: the scan of one call is bounded."""

    messages: tuple[MessageView, ...]
    cursor: str  #: pass it to get the next page; "" when there is no more
