"""The states of a recipient."""

import pytest

from mailward.delivery.status import WAITING, Status, is_final, status_after
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


def test_a_state_is_final_or_waits_or_is_being_sent() -> None:
    assert {s for s in Status if not is_final(s)} == WAITING | {Status.SENDING}
