"""One bad recipient of five stops no other, and temporary ones alone are tried again; by the built program."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, Envelope, Session

from tests.support.hook import Hook, Post
from tests.support.program import Program
from tests.support.sink import Sink

FIVE = [f"r{n}@example.org" for n in range(5)]
MAIL: dict[str, Any] = {"from": "noreply@example.com", "to": FIVE, "subject": "Hello", "text": "Hi.\n"}


class Picky(Sink):
    """Refuses the second recipient for good, and the fourth the first time."""

    def __init__(self) -> None:
        super().__init__()
        self.refused = False

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address == FIVE[1]:
            return "550 5.1.1 unknown"
        if address == FIVE[3] and not self.refused:
            self.refused = True
            return "450 4.2.1 full"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 ok"


@pytest.fixture
def quick(tmp_path: Path, store_flags: list[str]) -> Iterator[Program]:
    """A gateway that tries again after a second, once on each engine."""
    with Program(tmp_path / "data", "--retry-schedule-s", "1", *store_flags) as program:
        yield program


def states(message: Any) -> list[str]:
    return [recipient["state"] for recipient in message["recipients"]]


def test_over_smtp(quick: Program) -> None:
    with Picky() as sink:
        quick.add_relay(sink.address)
        id = quick.request("POST", "/v1/messages", MAIL).json["id"]

        first, second = sink.wait(2)
        message = quick.wait_for_state(id, "bounced")

    assert first.recipients == (FIVE[0], FIVE[2], FIVE[4])
    assert second.recipients == (FIVE[3],)
    assert states(message) == ["accepted", "bounced", "accepted", "accepted", "accepted"]
    assert [len(attempt["recipients"]) for attempt in message["attempts"]] == [5, 1]


def test_over_http(quick: Program) -> None:
    """What comes after a recipient at whom the provider had trouble was not tried, so it is tried with it."""
    seen: list[str] = []

    def answer(post: Post) -> tuple[int, dict[str, str]]:
        seen.append(post.recipient)
        if post.recipient == FIVE[1]:
            return 422, {}
        return (503 if post.recipient == FIVE[3] and seen.count(FIVE[3]) == 1 else 200), {}

    with Hook() as hook:
        hook.answer = answer
        added = quick.request("POST", "/admin/v1/email/http", {"endpoint": hook.url}).json
        quick.request("POST", f"/admin/v1/email/{added['id']}/_activate", {})
        id = quick.request("POST", "/v1/messages", MAIL).json["id"]

        hook.wait(4)
        message = quick.wait_for_state(id, "bounced")

    assert seen == [*FIVE[:4], *FIVE[3:]]
    assert states(message) == ["accepted", "bounced", "accepted", "accepted", "accepted"]
