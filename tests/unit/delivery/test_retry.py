"""When a recipient is tried again, and when not."""

from typing import Any

import pytest

from mailward.delivery.retry import RetryPolicy, Verdict, judge, overdue, retry_delay_us
from mailward.delivery.status import Status
from mailward.smtp.reply import Reply
from mailward.transport.outcome import Accepted, Bounced, Deferred, Fault, Outcome, Stage, Uncertain

SECOND = 1_000_000
HOUR = 3600 * SECOND
NOW = 1_790_000_000 * SECOND
POLICY = RetryPolicy()

ACCEPTED = Accepted(Reply(250, "2.0.0", "ok"))
BUSY = Deferred(Stage.FINAL, Fault.MESSAGE, Reply(451, "4.3.1", "busy"))
REFUSED = Bounced(Stage.RCPT, Fault.RECIPIENT, Reply(550, "5.1.1", "unknown"))
SILENCE = Uncertain(Reply(451, "4.4.2", "connection lost"))


def judged(outcome: Outcome, policy: RetryPolicy = POLICY, **changes: Any) -> Verdict:
    """Judge the first attempt of a fresh message, without jitter."""
    values: dict[str, Any] = {
        "attempt": 1,
        "doubts": 0,
        "uncertain_retries": None,
        "now_us": NOW,
        "expires_at_us": NOW + 72 * HOUR,
        "jitter": 0.0,
    }
    return judge(outcome, policy, **(values | changes))


@pytest.mark.parametrize(("attempt", "minutes"), [(1, 1), (2, 5), (3, 15), (4, 60), (5, 240), (6, 240), (20, 240)])
def test_the_waits_are_1_5_15_and_60_minutes_and_then_4_hours(attempt: int, minutes: int) -> None:
    assert retry_delay_us(POLICY, attempt, 0.0) == minutes * 60 * SECOND


def test_jitter_lengthens_a_wait_by_up_to_a_fifth_and_never_shortens_it() -> None:
    assert 60 * SECOND <= retry_delay_us(POLICY, 1, 0.5) < retry_delay_us(POLICY, 1, 0.999) < 72 * SECOND


def test_attempts_are_counted_from_one() -> None:
    with pytest.raises(ValueError, match="counted from 1"):
        retry_delay_us(POLICY, 0, 0.0)


@pytest.mark.parametrize(("outcome", "status"), [(ACCEPTED, Status.ACCEPTED), (REFUSED, Status.BOUNCED)])
def test_a_clear_answer_is_final(outcome: Outcome, status: Status) -> None:
    assert judged(outcome) == Verdict(status, None)


def test_a_deferral_is_tried_again() -> None:
    assert judged(BUSY, attempt=2) == Verdict(Status.DEFERRED, NOW + 300 * SECOND)


def test_a_deferral_expires_when_its_next_attempt_would_come_after_the_lifetime() -> None:
    """The sender learns now what would be no different then."""
    assert judged(BUSY, expires_at_us=NOW + 60 * SECOND) == Verdict(Status.EXPIRED, None)
    assert judged(BUSY, expires_at_us=NOW + 60 * SECOND + 1).status is Status.DEFERRED


def test_the_default_schedule_makes_22_attempts_in_72_hours() -> None:
    attempt, at_us = 1, NOW
    while (verdict := judged(BUSY, attempt=attempt, now_us=at_us)).next_attempt_at_us is not None:
        attempt, at_us = attempt + 1, verdict.next_attempt_at_us

    assert (attempt, verdict.status) == (22, Status.EXPIRED)


@pytest.mark.parametrize(
    ("allowed", "own", "doubts", "again"),
    [
        (0, None, 0, False),
        (1, None, 0, True),
        (1, None, 1, False),
        (3, None, 2, True),
        (1, 0, 0, False),  # the message's own word counts
        (0, 2, 1, True),
    ],
)
def test_a_doubt_is_tried_again_as_often_as_allowed_and_then_held(
    allowed: int, own: int | None, doubts: int, again: bool
) -> None:
    verdict = judged(SILENCE, RetryPolicy(uncertain_retries=allowed), doubts=doubts, uncertain_retries=own)

    assert verdict == Verdict(Status.UNCERTAIN, NOW + 60 * SECOND if again else None)


def test_a_doubt_at_the_end_of_its_lifetime_is_held() -> None:
    assert judged(SILENCE, expires_at_us=NOW + SECOND) == Verdict(Status.UNCERTAIN, None)


def test_a_deferral_after_a_doubt_is_tried_again_by_the_schedule_and_stays_a_doubt() -> None:
    assert judged(BUSY, attempt=2, doubts=1) == Verdict(Status.UNCERTAIN, NOW + 300 * SECOND)


def test_a_deferral_after_a_doubt_is_held_at_the_end_of_its_lifetime_and_never_expires() -> None:
    """The first copy may have arrived: "expired" would claim that it did not."""
    assert judged(BUSY, doubts=1, expires_at_us=NOW + SECOND) == Verdict(Status.UNCERTAIN, None)


@pytest.mark.parametrize(
    ("waiting", "after"),
    [
        (Status.QUEUED, Status.EXPIRED),
        (Status.DEFERRED, Status.EXPIRED),
        (Status.UNCERTAIN, Status.UNCERTAIN),
    ],
)
def test_what_waits_beyond_its_lifetime_expires_and_a_doubt_is_held(waiting: Status, after: Status) -> None:
    assert overdue(waiting) == Verdict(after, None)
