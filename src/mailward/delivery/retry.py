"""What follows an outcome: the schedule of attempts, the lifetime, and what is done about a doubt."""

from dataclasses import dataclass

from mailward.delivery.status import Status
from mailward.transport.outcome import Accepted, Bounced, Outcome, Uncertain

_SECOND_US = 1_000_000
_JITTER = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """When to try again, how long, and how often after a doubt."""

    #: Seconds to wait after failed attempt 1, 2, 3 ...; the last one repeats.
    schedule_s: tuple[int, ...] = (60, 300, 900, 3600, 14_400)
    lifetime_s: int = 72 * 3600  #: from the submission; no attempt starts after it
    uncertain_retries: int = 1  #: attempts that may follow doubtful ones; 0: held for the operator at once


@dataclass(frozen=True, slots=True)
class Verdict:
    """The state that a recipient enters, and when it is tried again."""

    status: Status
    next_attempt_at_us: int | None  #: None: final, or (UNCERTAIN) held for the operator


def retry_delay_us(policy: RetryPolicy, attempt: int, jitter: float) -> int:
    """Return how long to wait after failed attempt number `attempt` (1 = the first).

    `jitter`, from 0 up to 1, lengthens the wait by up to a fifth: mail that failed together does not come back as one
    wave. Never shorter than the schedule says. Raises ValueError if attempt < 1.
    """
    if attempt < 1:
        raise ValueError(f"attempts are counted from 1, got {attempt}")
    seconds = policy.schedule_s[min(attempt, len(policy.schedule_s)) - 1]
    return int(seconds * _SECOND_US * (1 + _JITTER * jitter))


_FINAL: dict[type[Outcome], Verdict] = {
    Accepted: Verdict(Status.ACCEPTED, None),
    Bounced: Verdict(Status.BOUNCED, None),
}


def judge(
    outcome: Outcome,
    policy: RetryPolicy,
    *,
    attempt: int,
    doubts: int,
    uncertain_retries: int | None,
    now_us: int,
    expires_at_us: int,
    jitter: float,
) -> Verdict:
    """Return what becomes of a leased recipient after `outcome`.

    `attempt`: number of the attempt that ended, from 1. `doubts`: how many before it ended uncertain.
    `uncertain_retries`: of the message or provider; None: the policy's. A deferral whose next attempt would come after
    the lifetime expires now: waiting longer would change nothing. With an earlier doubt it stays in doubt instead, and
    is held at the end: a refusal of today does not tell what became of the copy of then.
    """
    final = _FINAL.get(type(outcome))
    if final is not None:
        return final
    if isinstance(outcome, Uncertain):
        return after_doubt(
            policy,
            attempt=attempt,
            doubts=doubts + 1,
            uncertain_retries=uncertain_retries,
            now_us=now_us,
            expires_at_us=expires_at_us,
            jitter=jitter,
        )
    waiting = Status.UNCERTAIN if doubts else Status.DEFERRED
    next_at_us = now_us + retry_delay_us(policy, attempt, jitter)
    return overdue(waiting) if next_at_us >= expires_at_us else Verdict(waiting, next_at_us)


def after_doubt(
    policy: RetryPolicy,
    *,
    attempt: int,
    doubts: int,
    uncertain_retries: int | None,
    now_us: int,
    expires_at_us: int,
    jitter: float,
) -> Verdict:
    """Return what becomes of a recipient when attempt number `attempt` ended in doubt, the `doubts`-th time for it.

    Held once `uncertain_retries` are used up, or when the next attempt would come after the lifetime. It never expires:
    that would tell the sender it was not handed over, which nobody knows.
    """
    allowed = policy.uncertain_retries if uncertain_retries is None else uncertain_retries
    next_at_us = now_us + retry_delay_us(policy, attempt, jitter)
    if doubts > allowed or next_at_us >= expires_at_us:
        return Verdict(Status.UNCERTAIN, None)
    return Verdict(Status.UNCERTAIN, next_at_us)


def overdue(status: Status) -> Verdict:
    """Return what becomes of a waiting recipient whose lifetime has passed: expired, or held when in doubt."""
    return Verdict(Status.UNCERTAIN if status is Status.UNCERTAIN else Status.EXPIRED, None)
