"""What ZITADEL's wire cannot say, by the built program: options, staged tests, rotation, presets, the command line."""

import json
from pathlib import Path

from tests.support.program import Program, free_port
from tests.support.sink import Sink

PROVIDERS = "/mailward/v1/providers"


def test_options_are_set_beside_what_zitadels_clients_see(program: Program) -> None:
    id = program.add_relay("smtp.example.com:587", tls=True, user="u", password="p")

    done = program.request("PATCH", f"{PROVIDERS}/{id}", {"settings": {"tls_mode": "implicit", "notes": "main"}})

    assert done.status == 200, done.body
    assert done.json["settings"] == {"tls_mode": "implicit", "notes": "main"}
    shown = program.request("GET", f"{PROVIDERS}/{id}").json
    assert (shown["host"], shown["auth"], shown["tls_mode"]) == ("smtp.example.com:587", "password", "implicit")
    wire = program.request("GET", f"/admin/v1/smtp/{id}").json["smtpConfig"]
    assert set(wire) == {"details", "senderAddress", "senderName", "tls", "host", "user", "state", "id"}
    assert [one["id"] for one in program.request("GET", PROVIDERS).json["providers"]] == [id]
    refused = program.request("PATCH", f"{PROVIDERS}/{id}", {"settings": {"tls_mode": "ssl"}})
    assert (refused.status, refused.json["errors"][0]["pointer"]) == (400, "/settings/tls_mode")


def test_a_test_reports_every_stage_over_the_api_and_the_command_line(program: Program, sink: Sink) -> None:
    id = program.add_relay(sink.address, activate=False)

    report = program.request("POST", f"{PROVIDERS}/{id}:test", {"to": "ada@example.net"})

    assert report.status == 200 and report.json["ok"], report.body
    stages = [step["stage"] for step in report.json["steps"]]
    assert stages == ["resolve", "connect", "banner", "ehlo", "mail", "rcpt", "data", "final", "quit"]
    assert sink.wait()[0].recipients == ("ada@example.net",)

    sink.reply = "554 5.7.1 looks like spam"
    url, token = f"http://127.0.0.1:{program.http_port}", str(program.data_dir / "owner.token")
    remote = ["--url", url, "--token-file", token]
    failed = program.remote_cli("provider", "test", id, "--to", "ada@example.net", *remote)
    assert failed.returncode == 6
    assert "FAILED  final" in failed.stdout and "554 5.7.1 looks like spam" in failed.stdout
    assert "code:  content_refused" in failed.stderr and "fix:" in failed.stderr
    as_json = program.remote_cli("provider", "test", id, "--to", "ada@example.net", "--json", *remote)
    assert json.loads(as_json.stdout)["failure"]["reply_code"] == 554
    assert id in program.remote_cli("provider", "list", *remote).stdout
    assert "smtp.gmail.com:465" in program.remote_cli("provider", "presets", *remote).stdout
    assert program.remote_cli("provider", "show", "1", *remote).returncode == 3


def test_a_rotation_that_the_server_refuses_changes_nothing(program: Program, sink: Sink) -> None:
    id = program.add_relay(sink.address, user="u", password="old")

    refused = program.request("POST", f"{PROVIDERS}/{id}:rotate", {"password": "new"})

    assert refused.status == 400, refused.body
    assert "does not offer AUTH" in refused.json["detail"] or "auth" in refused.json["detail"]
    done = program.request("POST", f"{PROVIDERS}/{id}:rotate", {"password": "new", "without_login": True})
    assert done.status == 200 and done.json["old_password_until"], done.body


def test_only_owners_change_and_test(program: Program) -> None:
    id = program.add_relay("smtp.example.com:587")
    viewer, sender = program.token("viewer"), program.token("sender")

    assert program.request("GET", PROVIDERS, token=viewer).status == 200
    assert program.request("GET", PROVIDERS, token=sender).status == 403
    for verb in ("test", "rotate"):
        body = {"to": "a@example.net"} if verb == "test" else {"password": "x"}
        assert program.request("POST", f"{PROVIDERS}/{id}:{verb}", body, token=viewer).status == 403


def test_a_provider_that_does_not_answer_is_known_before_any_mail(tmp_path: Path) -> None:
    with Program(tmp_path / "data", "--probe-s", "0.2") as program:
        id = program.add_relay(f"127.0.0.1:{free_port()}")
        program.wait_for_log("provider.failed")
        metrics = program.request("GET", "/metrics", token="").body.decode()

    assert f'mailward_provider_up{{provider="{id}"}} 0.0' in metrics
