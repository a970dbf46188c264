"""How an attempt ends: what is recorded of it, and when its recipients are tried again."""

import pytest

from mailward.delivery.attempt import conclude, deferred_by_provider
from mailward.delivery.lease import Due, Lane, Lease, Mark, Owner, Phase
from mailward.delivery.retry import RetryPolicy
from mailward.ids import AttemptId, MessageId, ProviderId
from mailward.message.envelope import Envelope
from mailward.smtp.reply import Reply
from mailward.transport.outcome import Accepted, Deferred, Fault, Outcome, Stage, Uncertain

NOW = 1_790_000_000_000_000
HOUR = 3_600_000_000
BUSY = Reply(451, "4.3.0", "busy")


def lease(recipients: int) -> Lease:
    addresses = tuple(f"r{n}@example.net" for n in range(recipients))
    due = tuple(Due(n, 0, 0) for n in range(recipients))
    return Lease(
        MessageId(1), Owner(1, 1), Lane.TRANSACTIONAL, Envelope("a@example.com", addresses), b"", due,
        NOW, NOW + HOUR, None, Phase.SENDING,
    )  # fmt: skip


OUTCOMES: list[Outcome] = [
    Accepted(Reply(250, "2.0.0", "ok")),
    Deferred(Stage.AUTH, Fault.PROVIDER, BUSY),
    Deferred(Stage.RCPT, Fault.RECIPIENT, BUSY),
    Uncertain(BUSY),
]


@pytest.mark.parametrize(
    ("is_outdated", "waits_s"), [(False, [None, 60, 60, 60]), (True, [None, 0, 60, 60])], ids=["unchanged", "changed"]
)
def test_the_fault_of_a_provider_that_was_changed_meanwhile_keeps_nobody_waiting(
    is_outdated: bool, waits_s: list[int | None]
) -> None:
    mark = Mark(AttemptId(2), ProviderId("3"))

    close = conclude(lease(4), mark, OUTCOMES, RetryPolicy(), NOW, lambda: 0.0, is_outdated=is_outdated)

    assert [at_us and (at_us - NOW) // 1_000_000 for _, _, at_us, _ in close.ended] == waits_s
    assert list(deferred_by_provider(close.results)) == [1]
