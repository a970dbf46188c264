"""A password is replaced in full flow: it proves itself first, the old one stands behind it, and no mail is held up."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.program import Answer, Program
from tests.support.sink import Sink
from tests.support.waiting import PATIENCE_S

PROVIDERS = "/mailward/v1/providers"
MAIL = {"from": "noreply@example.com", "to": ["ada@example.org"], "subject": "Hello", "text": "It works.\n"}
PER_SECOND = 50


@pytest.fixture
def guarded() -> Iterator[Sink]:
    """A server with logins."""
    with Sink("old") as sink:
        yield sink


class Flow:
    """Fifty messages a second for as long as the block lasts."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._send, args=(n,)) for n in range(5)]
        self.ids: list[str] = []

    def __enter__(self) -> "Flow":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def more(self, count: int = 30) -> None:
        """Return once `count` messages more than now were acknowledged."""
        wanted, deadline = len(self.ids) + count, time.monotonic() + PATIENCE_S
        while len(self.ids) < wanted:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def _send(self, n: int) -> None:
        due = time.monotonic() + n / PER_SECOND
        while not self._ended.wait(max(0.0, due - time.monotonic())):
            answer = self._program.request("POST", "/v1/messages", MAIL)
            assert answer.status == 202, answer.body
            self.ids.append(answer.json["id"])
            due += len(self._threads) / PER_SECOND


def rotate(program: Program, id: str, password: str, **more: Any) -> Answer:
    return program.request("POST", f"{PROVIDERS}/{id}:rotate", {"password": password, **more})


def test_a_rotation_under_load_fails_and_defers_nothing(program: Program, guarded: Sink) -> None:
    id = program.add_relay(guarded.address, user="relay", password="old")
    with Flow(program) as flow:
        flow.more()
        refused = rotate(program, id, "new")  # The server does not know it yet.
        flow.more()
        guarded.passwords = {"old", "new"}
        done = rotate(program, id, "new")
        flow.more()  # A login that had begun before is over.
        guarded.passwords = {"new"}
        flow.more()
        early = rotate(program, id, "newer", without_login=True)  # The server will learn of it later.
        flow.more()
        guarded.passwords = {"newer"}
        flow.more()

    assert (refused.status, refused.json["code"]) == (400, "login_failed")
    assert "535" in refused.json["detail"] and "nothing was changed" in refused.json["detail"]
    assert (done.status, done.json["login"]["ok"]) == (200, True)
    assert "auth" in [step["stage"] for step in done.json["login"]["steps"]]
    assert early.status == 200 and early.json["old_password_until"]
    for message in flow.ids:
        found = program.wait_for_state(message, "accepted")
        assert len(found["attempts"]) == 1, found
    used = {mail.password for mail in guarded.wait(len(flow.ids))}
    assert used >= {"old", "new"}
    assert set(guarded.wrong) <= {"new", "newer"}  # Never one that was good before, while it was the one in use.
    assert "provider.old_password_used" in program.log.read_text()


@pytest.mark.parametrize("path", ["/admin/v1/smtp/{id}/password", "/admin/v1/email/smtp/{id}/password"])
def test_zitadels_password_calls_reach_the_next_attempt_also_over_an_idle_connection(
    path: str, program: Program, guarded: Sink
) -> None:
    """The server takes both: whatever still logs in by the old one, or sends over its session, shows."""
    guarded.passwords = {"old", "new"}
    id = program.add_relay(guarded.address, user="relay", password="old")
    program.request("POST", "/v1/messages", MAIL)
    assert guarded.wait()[0].password == "old"

    changed = program.request("PUT", path.format(id=id), {"password": "new"})
    program.request("POST", "/v1/messages", MAIL)

    assert changed.status == 200, changed.body
    assert guarded.wait()[0].password == "new"


def test_mail_waits_for_the_right_password_and_flows_with_it(
    tmp_path: Path, store_flags: list[str], guarded: Sink
) -> None:
    """By the schedule it would be tried again after an hour."""
    with Program(tmp_path / "data", "--retry-schedule-s", "3600", *store_flags) as program:
        id = program.add_relay(guarded.address, user="relay", password="old")
        guarded.passwords = {"new"}
        message = program.request("POST", "/v1/messages", MAIL).json["id"]
        program.wait_for_state(message, "deferred")

        assert rotate(program, id, "new").status == 200

        program.wait_for_state(message, "accepted")


def test_the_command_line_rotates_and_shows_the_login(program: Program, guarded: Sink, tmp_path: Path) -> None:
    id = program.add_relay(guarded.address, user="relay", password="old")
    url, token = f"http://127.0.0.1:{program.http_port}", str(program.data_dir / "owner.token")
    command = ["provider", "rotate", id, "--url", url, "--token-file", token]
    file = tmp_path / "new-password"
    file.write_text("new\n")

    refused = program.run(*command, "--password-file", str(file))
    guarded.passwords.add("new")
    done = program.run(*command, "--password-file", str(file))
    guarded.passwords.add("newer")
    asked = program.run(*command, "--password-file", "-", "--json", input="newer\n")

    assert (refused.returncode, refused.stdout) == (6, "")
    assert "auth: 535" in refused.stderr and "nothing was changed" in refused.stderr
    assert (done.returncode, asked.returncode) == (0, 0)
    assert "ok  auth" in done.stdout and "fall-back until" in done.stderr
    program.request("POST", "/v1/messages", MAIL)
    assert guarded.wait()[0].password == "newer"
