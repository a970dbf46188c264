"""What a node holds and what it tells the queue: plain values, so that the writer may live in another process."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, auto
from typing import NamedTuple

import orjson

from mailward.ids import AttemptId, InstanceId, MessageId, ProviderId, UserId
from mailward.message.content import Content
from mailward.message.envelope import Envelope


class Lane(IntEnum):
    """Which queue a message waits in; lower ones are claimed first. Stored as the number."""

    OTP = 0
    TRANSACTIONAL = 1
    BULK = 2


LANE_NAMES = tuple(lane.name.lower() for lane in Lane)


class Owner(NamedTuple):
    """A node in one of its lives. What an earlier life holds is void once the next began."""

    node: int  #: 0-255
    epoch: int


class Mark(NamedTuple):
    """An attempt that is recorded as open: from then on, silence means doubt."""

    attempt_id: AttemptId
    provider_id: ProviderId


class Due(NamedTuple):
    """A recipient of a lease."""

    n: int  #: position in the message's envelope, from 0
    attempts: int  #: that ended before
    doubts: int  #: those of them that ended uncertain


class Phase(IntEnum):
    """How far a lease has come in its node."""

    RESERVED = auto()  #: its submission is being committed
    READY = auto()  #: waits in memory
    SENDING = auto()  #: in a conversation, before the point of no return
    HANDED_OVER = auto()  #: the open attempt is durable and the final dot may have left: never give it back
    ENDED = auto()  #: how it ended is known and being recorded


@dataclass(slots=True, eq=False)
class Lease:
    """A message with the recipients that this node holds; `envelope.recipients` and `due` run in parallel."""

    message_id: MessageId
    owner: Owner
    lane: Lane
    envelope: Envelope
    content: Content
    due: tuple[Due, ...]
    created_at_us: int
    expires_at_us: int
    uncertain_retries: int | None
    phase: Phase
    mark: Mark | None = None  #: the attempt, once it was decided on
    opened: bool = False  #: `mark` is durable
    tried: tuple[ProviderId, ...] = ()  #: who could not take it since it was leased, by their own fault
    route: str = ""  #: why it goes to another provider than the active one; "" when it does not


def reserved(
    message_id: MessageId,
    owner: Owner,
    lane: Lane,
    envelope: Envelope,
    content: Content,
    created_at_us: int,
    expires_at_us: int,
    uncertain_retries: int | None,
) -> Lease:
    """Return a lease on all recipients of a message that is about to be committed."""
    due = tuple([Due(n, 0, 0) for n in range(len(envelope.recipients))])
    return Lease(
        message_id, owner, lane, envelope, content, due, created_at_us, expires_at_us, uncertain_retries, Phase.RESERVED
    )


def onward(lease: Lease, positions: Sequence[int], *, tried: tuple[ProviderId, ...], route: str) -> Lease:
    """Return a lease on those recipients of `lease` (by position) that go to another provider."""
    envelope = lease.envelope
    recipients = tuple([envelope.recipients[n] for n in positions])
    return Lease(
        lease.message_id,
        lease.owner,
        lease.lane,
        Envelope(envelope.reverse_path, recipients, envelope.smtputf8),
        lease.content,
        tuple([lease.due[n] for n in positions]),
        lease.created_at_us,
        lease.expires_at_us,
        lease.uncertain_retries,
        Phase.READY,
        tried=tried,
        route=route,
    )


class Replay(NamedTuple):
    """On whose order an earlier message is sent again."""

    of: MessageId
    instance: InstanceId
    editor: UserId
    operation: str  #: what the records of one bulk action have in common; "": it was asked for alone


class NewMessage(NamedTuple):
    """A submission, as `queue.submit` stores it. Flat, like those below: nested values are dear on the way there."""

    id: MessageId
    sender: str
    reverse_path: str
    subject: str
    content: bytes
    smtputf8: bool
    ingress: str
    tags: str  #: JSON
    metadata: str  #: JSON
    created_at_us: int
    expires_at_us: int
    uncertain_retries: int | None
    lane: int
    addresses: tuple[str, ...]
    node: int | None  #: whose life is to lease it in the same commit; None: it waits in the queue
    epoch: int | None
    attempt_id: AttemptId | None = None  #: and an attempt to open in the same commit; needs `node`
    provider_id: ProviderId | None = None
    key: str = ""  #: idempotency key; "": none
    fingerprint: str = ""  #: of what was submitted under `key`
    replay: Replay | None = None  #: the message that it sends again
    stored_bytes: int = 0  #: of the content, in pieces that come before `content`

    @property
    def size_bytes(self) -> int:
        return self.stored_bytes + len(self.content)


class OpenAttempt(NamedTuple):
    """An attempt about to pass the point of no return."""

    message_id: MessageId
    attempt_id: AttemptId
    provider_id: ProviderId
    node: int
    epoch: int
    ns: tuple[int, ...]  #: which recipients
    at_us: int


#: What becomes of one recipient: its n, state, next attempt, and 1 when this one ended uncertain for it, else 0.
Ended = tuple[int, str, int | None, int]


class CloseAttempt(NamedTuple):
    """An attempt that ended, and where it leaves its recipients. Up to `results` in the order of `close_attempts`."""

    message_id: MessageId
    attempt_id: AttemptId
    provider_id: ProviderId
    node: int
    epoch: int
    at_us: int
    results: str  #: JSON, as in attempts.results
    ended: tuple[Ended, ...]


def numbers(ns: Sequence[int]) -> str:
    """Return `ns` as a JSON array, as in attempts.recipients."""
    return "[0]" if len(ns) == 1 and ns[0] == 0 else orjson.dumps(list(ns)).decode()


class GivenBack(NamedTuple):
    """A lease returned untried."""

    message_id: MessageId
    owner: Owner
    ns: tuple[int, ...]
    mark: Mark | None  #: an open attempt that never reached the wire; it is forgotten
    at_us: int


def given_back(lease: Lease, at_us: int) -> GivenBack:
    """Return what to give back for `lease`."""
    return GivenBack(lease.message_id, lease.owner, tuple(due.n for due in lease.due), lease.mark, at_us)
