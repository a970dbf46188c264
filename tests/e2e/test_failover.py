"""Failover and limits by the built program, set over the API."""

from pathlib import Path
from typing import Any

from tests.support.hook import Hook
from tests.support.program import Program, free_port
from tests.support.sink import Sink
from tests.support.waiting import wait_until

MAIL: dict[str, Any] = {"from": "noreply@example.com", "to": ["ada@example.org"], "subject": "Hello", "text": "Hi.\n"}


def test_another_provider_takes_over_and_the_message_says_why(program_on: Program, sink: Sink) -> None:
    first = program_on.add_relay(f"127.0.0.1:{free_port()}")
    second = program_on.add_relay(sink.address, activate=False)
    answer = program_on.request("PUT", "/mailward/v1/failover", {"provider_ids": [second]})
    assert answer.status == 200, answer.body

    id = program_on.request("POST", "/v1/messages", MAIL).json["id"]

    assert len(sink.wait()) == 1
    attempts = program_on.wait_for_state(id, "accepted")["attempts"]
    assert [attempt["provider_id"] for attempt in attempts] == [first, second]
    assert attempts[1]["route"].startswith(f"failover: provider {first} could not: 451 4.4.1")
    assert program_on.request("GET", "/mailward/v1/failover").json == {"provider_ids": [second]}


def test_an_unknown_provider_cannot_take_over(program: Program) -> None:
    answer = program.request("PUT", "/mailward/v1/failover", {"provider_ids": ["5"]})

    assert (answer.status, answer.json["errors"][0]["pointer"]) == (404, "/provider_ids/0")


def test_a_limit_holds_and_says_so(program_on: Program, sink: Sink) -> None:
    relay = program_on.add_relay(sink.address)
    limits = {"per_day": 2, "uncertain_retries": 0}
    assert program_on.request("PUT", f"/mailward/v1/providers/{relay}/limits", limits).status == 200

    ids = [program_on.request("POST", "/v1/messages", MAIL).json["id"] for _ in range(3)]

    assert len(sink.wait(2)) == 2

    def waiting() -> list[str]:
        messages = [program_on.request("GET", f"/v1/messages/{id}").json for id in ids]
        return [message["waiting_for"] for message in messages if message.get("waiting_for")]

    wait_until(lambda: waiting() == [f"limit 2/day of provider {relay}"])
    assert sink.mails.empty()
    shown = program_on.request("GET", f"/mailward/v1/providers/{relay}/limits").json
    assert shown == {"id": relay, "per_day": 2, "uncertain_retries": 0}


def test_a_provider_that_is_down_is_used_again_after_its_repair(tmp_path: Path) -> None:
    with Hook() as hook, Program(tmp_path / "data") as program:
        added = program.request("POST", "/admin/v1/email/http", {"endpoint": hook.url}).json
        program.request("POST", f"/admin/v1/email/{added['id']}/_activate", {})
        hook.answer = lambda post: (401, {})
        ids = [program.request("POST", "/v1/messages", MAIL).json["id"] for _ in range(20)]

        def count(state: str) -> int:
            return sum(program.request("GET", f"/v1/messages/{id}").json["state"] == state for id in ids)

        wait_until(lambda: count("queued") >= 15)
        hook.answer = lambda post: (200, {})

        assert count("deferred") <= 5
        assert len(hook.wait(15)) == 15


def test_who_only_sends_is_told_that_there_is_trouble_and_not_which(program: Program) -> None:
    port = free_port()
    program.add_relay(f"127.0.0.1:{port}")
    token = program.token("sender")
    mail = {"from": "a@example.com", "to": ["b@example.org"], "subject": "x", "text": "y"}
    id = program.request("POST", "/v1/messages", mail, token=token).json["id"]
    program.wait_for_state(id, "deferred")

    owners = program.request("GET", f"/v1/messages/{id}").body.decode()
    senders = program.request("GET", f"/v1/messages/{id}", token=token).body.decode()
    listed = program.request("GET", "/v1/messages", token=token).body.decode()

    assert "refused" in owners
    for shown in (senders, listed):
        assert '"deferred"' in shown
        assert "refused" not in shown and str(port) not in shown and "connect" not in shown
