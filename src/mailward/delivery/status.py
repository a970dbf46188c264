"""Recipient states, and what an outcome makes of them (ARCHITECTURE, recipient states)."""

from enum import StrEnum

from mailward.transport.outcome import Accepted, Bounced, Deferred, Outcome, Uncertain


class Status(StrEnum):
    """Where a recipient stands. The value is what is stored and what doors show."""

    QUEUED = "queued"  #: submission committed; waits for a node
    SENDING = "sending"  #: leased: a node holds it, in memory or on the wire
    DEFERRED = "deferred"  #: refused for now; waits for its next attempt
    UNCERTAIN = "uncertain"  #: the final dot of some attempt went out and no answer was recorded; waits, or is held
    ACCEPTED = "accepted"  #: the provider took it; final until the provider reports
    DELIVERED = "delivered"  #: the provider reported that the recipient's server took it
    BOUNCED = "bounced"  #: refused for good
    EXPIRED = "expired"  #: older than its lifetime, not handed over
    SUPPRESSED = "suppressed"  #: on the suppression list, never tried
    CANCELED = "canceled"  #: by the operator, before hand-over


#: States in which a recipient may be leased once its next attempt is due.
WAITING = frozenset({Status.QUEUED, Status.DEFERRED, Status.UNCERTAIN})


def is_final(status: Status) -> bool:
    """Tell whether no further attempt will follow from `status`. ACCEPTED counts, though the provider may report."""
    return status not in WAITING and status is not Status.SENDING


def status_after(outcome: Outcome) -> Status:
    """Return the state that follows a leased recipient's `outcome`, before lifetime and policy are looked at."""
    return _AFTER[type(outcome)]


_AFTER: dict[type[Outcome], Status] = {
    Accepted: Status.ACCEPTED,
    Deferred: Status.DEFERRED,
    Bounced: Status.BOUNCED,
    Uncertain: Status.UNCERTAIN,  # The final dot went out and no answer came back.
}
