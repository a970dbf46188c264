"""What is derived for whoever looks at a message."""

from dataclasses import replace
from typing import Any

import pytest

from mailward.delivery.status import Status
from mailward.delivery.views import HELD, AttemptView, MessageView, RecipientView, ResultView, overall, veiled
from mailward.delivery.waiting import reason_to_wait
from mailward.ids import AttemptId, MessageId, ProviderId, UserId
from mailward.provider.relay import UnusableRelay
from mailward.secretbox import SecretText
from mailward.transport.base import HTTPRelay


def recipient(status: Status, next_attempt_at_us: int | None = None) -> RecipientView:
    return RecipientView("ada@example.net", status, 0, 1, next_attempt_at_us, None)


def message(*recipients: RecipientView) -> MessageView:
    values: dict[str, Any] = {"reverse_path": "", "subject": "", "size_bytes": 1, "smtputf8": False, "ingress": "smtp"}
    rest: dict[str, Any] = {"lane": "transactional", "tags": (), "metadata": {}, "created_at_us": 0}
    return MessageView(
        id=MessageId(1), sender=UserId("1"), expires_at_us=1, recipients=recipients, attempts=(), **values, **rest
    )


@pytest.mark.parametrize(
    ("statuses", "least"),
    [
        (["accepted", "accepted"], "accepted"),
        (["accepted", "bounced"], "bounced"),
        (["bounced", "deferred", "accepted"], "deferred"),
        (["deferred", "uncertain"], "uncertain"),
        (["delivered", "accepted"], "accepted"),
        (["sending", "bounced"], "sending"),
    ],
)
def test_a_message_is_as_far_as_its_least_settled_recipient(statuses: list[str], least: str) -> None:
    assert overall([Status(status) for status in statuses]) == least


def test_every_state_has_its_place_in_that_order() -> None:
    for status in Status:
        assert overall([status]) is status


def test_what_is_held_waits_for_a_decision() -> None:
    assert message(recipient(Status.UNCERTAIN)).waiting_for("") == HELD


def test_what_is_due_waits_for_the_provider() -> None:
    assert message(recipient(Status.QUEUED, 5)).waiting_for("no active provider") == "no active provider"


@pytest.mark.parametrize("status", [Status.ACCEPTED, Status.BOUNCED, Status.SENDING])
def test_what_is_done_or_under_way_waits_for_nothing(status: Status) -> None:
    assert message(recipient(status)).waiting_for("no active provider") == ""


def test_the_reasons_to_wait_name_what_to_do() -> None:
    http = HTTPRelay(provider_id=ProviderId("1"), endpoint="https://hook.example.com", signing_key=SecretText("key"))

    assert reason_to_wait(None) == "no active provider"
    assert reason_to_wait(http) == ""
    assert reason_to_wait(UnusableRelay(ProviderId("1"), "change the port")).endswith("change the port")


def test_trouble_with_a_provider_is_veiled_and_what_it_says_of_the_mail_is_not() -> None:
    refused = ResultView("a@example.net", Status.DEFERRED, "connect", "provider", 451, "4.4.1", "10.0.0.7: refused")
    unknown = ResultView("b@example.net", Status.BOUNCED, "rcpt", "recipient", 550, "5.1.1", "no such mailbox")
    attempt = AttemptView(
        AttemptId(1), ProviderId("9"), 0, 1, ("a@example.net",), (refused, unknown), "failover: 10.0.0.8"
    )
    view = replace(
        message(replace(recipient(Status.DEFERRED), last_result=refused), recipient(Status.QUEUED)), attempts=(attempt,)
    )

    shown = veiled(view)

    assert "10.0.0" not in repr(shown)
    assert shown.attempts[0].results[1] == unknown
    assert (shown.recipients[0].last_result, shown.recipients[1].last_result) == (shown.attempts[0].results[0], None)
    assert shown.attempts[0].results[0].status is Status.DEFERRED
