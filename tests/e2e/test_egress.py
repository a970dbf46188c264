"""Where a stored secret and a provider's host may lead: nowhere but where they were meant to, by the built program."""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.program import Answer, Program, free_port
from tests.support.sink import Sink

PROVIDERS = "/mailward/v1/providers"
STORED: dict[str, Any] = {"host": "smtp.example.com:587", "tls": True, "user": "u", "password": "canary-7f3a"}


class Silent:
    """A listener of loopback that nobody should connect to."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setblocking(False)
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"

    def assert_nobody_came(self) -> None:
        try:
            self._listener.accept()
        except BlockingIOError:
            return
        raise AssertionError("somebody connected")

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def silent() -> Iterator[Silent]:
    silent = Silent()
    yield silent
    silent.close()


@pytest.mark.parametrize("family", ["/admin/v1/smtp", "/admin/v1/email/smtp"])
def test_a_test_that_names_a_stored_id_takes_its_password_nowhere_else(
    family: str, program: Program, silent: Silent
) -> None:
    here = silent.address
    id = program.add_relay(here, tls=True, user="u", password="canary-7f3a", activate=False)
    away = program.add_relay(**STORED, activate=False)
    port = int(here.rpartition(":")[2])
    named: list[dict[str, Any]] = [
        {"id": away, "host": here, "tls": True, "user": "u"},
        {"id": id, "host": f"localhost:{port}", "tls": True, "user": "u"},
        {"id": id, "host": here, "tls": False, "user": "u"},
        {"id": id, "host": here, "tls": True, "user": "other"},
        {"id": id, "host": here, "tls": True},
    ]
    for settings in named:
        body = {"senderAddress": "a@example.com", "senderName": "A", "receiverAddress": "to@example.net"} | settings
        answer = program.request("POST", f"{family}/_test", body)
        assert (answer.status, answer.json["code"], answer.json["details"][0]["id"]) == (
            400, 9, "MAILWARD-SecretBound",
        ), settings  # fmt: skip
        assert b"canary" not in answer.body
    silent.assert_nobody_came()


@pytest.mark.parametrize("family", ["/admin/v1/smtp/{id}/_test", "/admin/v1/email/smtp/{id}/_test"])
def test_a_provider_that_was_led_elsewhere_takes_its_password_nowhere(
    family: str, program: Program, silent: Silent
) -> None:
    """Whoever may change a provider but does not know its password cannot have it sent to a host of theirs."""
    id = program.add_relay(**STORED)
    body = {"senderAddress": "noreply@example.com", "senderName": "Example", "host": silent.address, "user": "u"}
    assert program.request("PUT", f"/admin/v1/smtp/{id}", body).status == 200

    tested = program.request("POST", family.format(id=id), {"receiverAddress": "to@example.net"})
    report = program.request("POST", f"{PROVIDERS}/{id}:test", {"to": "to@example.net"}).json
    sent = program.request(
        "POST", "/v1/messages", {"from": "a@example.com", "to": ["b@example.org"], "subject": "x", "text": "x"}
    ).json

    assert (tested.status, tested.json["details"][0]["id"]) == (400, "MAILWARD-SecretBound")
    assert report["failure"]["code"] == "secret_bound"
    assert program.request("GET", f"/v1/messages/{sent['id']}").json["state"] == "queued"
    silent.assert_nobody_came()


def try_out(program: Program, host: str, **more: Any) -> Answer:
    """Send a test mail through a provider for `host` that is stored for it."""
    id = program.add_relay(host, activate=False)
    return program.request("POST", f"{PROVIDERS}/{id}:test", {"to": "ada@example.net"}, **more)


def test_denied_closed_and_unknown_are_told_apart_to_owners_alone(tmp_path: Path, silent: Silent) -> None:
    closed = f"127.0.0.1:{free_port()}"
    with Program(tmp_path / "data", "--egress-deny", "192.0.2.0/24", "--egress-deny", "127.0.0.2/32") as program:
        hosts = [
            "169.254.169.254:25",
            "[fe80::1]:25",
            "[::ffff:169.254.169.254]:25",
            "[::ffff:127.0.0.2]:25",
            "127.0.0.2:25",
            "192.0.2.7:25",
        ]
        denied = [try_out(program, host).json["failure"] for host in hosts]
        refused = try_out(program, closed).json["failure"]
        unknown = try_out(program, "no-such-host.invalid:25").json["failure"]
        others = [try_out(program, closed, token=program.token(role)).status for role in ("viewer", "sender")]

    assert [failure["code"] for failure in denied] == ["egress_denied"] * len(hosts)
    assert refused["code"] == "connect_refused"
    assert unknown["stage"] == "resolve"
    assert others == [403, 403]


def test_what_the_policy_denies_is_not_connected_to_by_delivery_either(tmp_path: Path, sink: Sink) -> None:
    with Program(tmp_path / "data", "--egress-deny", "loopback") as program:
        id = program.add_relay(sink.address)
        mail = {"from": "a@example.com", "to": ["b@example.org"], "subject": "x", "text": "x"}
        message = program.request("POST", "/v1/messages", mail).json["id"]

        found = program.wait_for_state(message, "deferred")
        report = program.request("POST", f"{PROVIDERS}/{id}:test", {"to": "ada@example.net"}).json

    assert found["attempts"][0]["recipients"][0]["stage"] == "connect"
    assert report["failure"]["code"] == "egress_denied"
    assert sink.mails.empty()
