"""The states of a recipient and the moves between them."""

from itertools import pairwise

import pytest

from mailward.delivery.status import WAITING, Status, is_final, may_move, status_after
from mailward.smtp.reply import Reply
from mailward.transport.outcome import Accepted, Bounced, Deferred, Fault, Outcome, Stage, Uncertain

REPLY = Reply(250, "2.0.0", "ok")


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        (Accepted(REPLY), Status.ACCEPTED),
        (Deferred(Stage.RCPT, Fault.RECIPIENT, REPLY), Status.DEFERRED),
        (Bounced(Stage.FINAL, Fault.MESSAGE, REPLY), Status.BOUNCED),
        (Uncertain(REPLY), Status.UNCERTAIN),
    ],
)
def test_each_outcome_has_its_state(outcome: Outcome, status: Status) -> None:
    assert status_after(outcome) is status


@pytest.mark.parametrize(
    "life",
    [
        ["queued", "sending", "accepted", "delivered"],
        ["queued", "sending", "deferred", "sending", "bounced"],
        ["queued", "sending", "queued", "canceled"],
        ["queued", "sending", "uncertain", "sending", "accepted", "bounced"],
        ["queued", "expired"],
        ["deferred", "expired"],
        ["uncertain", "canceled"],
        ["uncertain", "accepted"],
    ],
)
def test_a_life_as_the_house_knows_it(life: list[str]) -> None:
    assert all(may_move(Status(old), Status(new)) for old, new in pairwise(life))


@pytest.mark.parametrize("status", [s for s in Status if is_final(s) and s is not Status.ACCEPTED])
def test_nothing_follows_the_end(status: Status) -> None:
    assert not any(may_move(status, new) for new in Status)


def test_after_acceptance_only_the_providers_reports_follow() -> None:
    """Nothing is sent twice because of a late report."""
    assert {new for new in Status if may_move(Status.ACCEPTED, new)} == {Status.DELIVERED, Status.BOUNCED}


def test_only_what_waits_is_leased() -> None:
    assert {old for old in Status if may_move(old, Status.SENDING)} == WAITING


def test_a_doubt_never_expires() -> None:
    """Expired says that it was not handed over."""
    assert not may_move(Status.UNCERTAIN, Status.EXPIRED)


def test_a_state_is_final_or_waits_or_is_being_sent() -> None:
    assert {s for s in Status if not is_final(s)} == WAITING | {Status.SENDING}
