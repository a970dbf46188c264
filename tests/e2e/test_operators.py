"""What an operator can do with mail that waits or is in doubt, over HTTP and by the command line."""

import json
import subprocess
from typing import Any

from tests.support.program import Program, free_port
from tests.support.sink import Sink

MAIL = {"from": "Example <noreply@example.com>", "to": ["ada@example.org"], "subject": "Hello", "text": "It works.\n"}


def send(program: Program, **changes: Any) -> str:
    answer = program.request("POST", "/v1/messages", MAIL | changes)
    assert answer.status == 202, answer.body
    return str(answer.json["id"])


def cli(program: Program, *args: str) -> "subprocess.CompletedProcess[str]":
    """Run a command that talks to the program over HTTP."""
    where = ["--url", f"http://127.0.0.1:{program.http_port}", "--token-file", str(program.data_dir / "owner.token")]
    return program.run(*args, *where)


def test_a_message_is_canceled_replayed_and_told(program_on: Program, sink: Sink) -> None:
    id = send(program_on)

    canceled = cli(program_on, "message", "cancel", id, "--yes")
    again = cli(program_on, "message", "cancel", id, "--yes")
    missing = cli(program_on, "message", "show", "msg_200000000000000000")
    replayed = cli(program_on, "message", "replay", id, "--yes")

    assert (canceled.returncode, canceled.stdout.split("\n")[0]) == (0, f"{id}  canceled")
    assert (again.returncode, "canceled" in again.stderr) == (5, True)
    assert missing.returncode == 3
    new = replayed.stdout.strip()
    waiting = cli(program_on, "message", "show", new)
    assert "Next: it waits for no active provider" in waiting.stdout and f"sends {id} again" in waiting.stdout
    program_on.add_relay(sink.address)
    program_on.wait_for_state(new, "accepted")
    shown = cli(program_on, "message", "show", new)
    assert "ada@example.org: accepted: 250 2.0.0 taken" in shown.stdout
    assert "Next: nothing; the provider took it for everybody." in shown.stdout
    assert json.loads(cli(program_on, "message", "show", new, "--json").stdout)["replay_of"] == id


def test_a_deferred_message_is_tried_now(program_on: Program, sink: Sink) -> None:
    sink.reply = "451 4.3.1 busy"
    program_on.add_relay(sink.address)
    id = send(program_on)
    program_on.wait_for_state(id, "deferred")
    sink.reply = ""

    done = cli(program_on, "message", "retry", id)

    assert done.returncode == 0, done.stderr
    program_on.wait_for_state(id, "accepted")
    assert program_on.request("POST", f"/v1/messages/{id}/retry").status == 409
    assert program_on.request("POST", f"/v1/messages/{id}/cancel").json["code"] == "conflict"


def test_many_are_counted_canceled_and_listed(program_on: Program) -> None:
    for n in range(5):
        send(program_on, to=[f"r{n}@example.org", "x@example.net"], lane="bulk", tags=["news"])
    kept = send(program_on)

    stats = json.loads(cli(program_on, "queue", "stats", "--json").stdout)
    dry = cli(program_on, "queue", "cancel", "--tag", "news", "--domain", "example.net", "--dry-run", "--json")
    done = cli(program_on, "queue", "cancel", "--tag", "news", "--domain", "example.net", "--yes")
    slip = cli(program_on, "queue", "cancel", "--yes")
    refused = program_on.request("POST", "/v1/queue/cancel", {"filter": {}})
    listed = cli(program_on, "queue", "list", "--state", "canceled")

    assert {lane["lane"]: lane.get("recipients", {}) for lane in stats["lanes"]} == {
        "otp": {},
        "transactional": {"queued": "1"},
        "bulk": {"queued": "10"},
    }
    assert json.loads(dry.stdout) == {"count": 5, "dry_run": True}
    assert (done.returncode, done.stdout) == (0, "canceled 5 recipients\n")
    assert (slip.returncode, refused.status) == (2, 400)
    assert (listed.stdout.count("msg_"), kept in listed.stdout) == (5, False)


def test_only_an_owner_changes_the_queue(program: Program) -> None:
    id = send(program)
    for role in ("viewer", "sender"):
        token = program.token(role)
        assert program.request("POST", f"/v1/messages/{id}/cancel", {}, token=token).status == 403
        assert program.request("POST", "/v1/queue/cancel", {"filter": {"all": True}}, token=token).status == 403
    assert program.request("GET", "/v1/queue", token=program.token("viewer", "v2")).status == 200


def test_a_gateway_that_is_not_there_is_said_so(program: Program) -> None:
    done = program.run(
        "queue", "stats", "--url", f"http://127.0.0.1:{free_port()}",
        "--token-file", str(program.data_dir / "owner.token"),
    )  # fmt: skip

    assert (done.returncode, "cannot be reached" in done.stderr) == (7, True)
