"""Taking over from a ZITADEL. A second Mailward stands for it, whose wire is the same; no registry has the original."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.program import Program

SMTP = {"senderAddress": "a@example.com", "senderName": "A", "host": "mail.example.com:587", "tls": True, "user": "u"}


@pytest.fixture
def zitadel(tmp_path: Path) -> Iterator[Program]:
    with Program(tmp_path / "zitadel") as source:
        source.request("POST", "/admin/v1/email/smtp", {**SMTP, "password": "p", "description": "main"})
        source.request("POST", "/admin/v1/email/http", {"endpoint": "https://hook.example.com/mail"})
        ids = source.request("POST", "/admin/v1/email/_search", {}).json["result"]
        source.request("POST", f"/admin/v1/email/{ids[0]['id']}/_activate", {})
        yield source


def take_over(source: Program, target: Program, *args: str, input: str = "") -> "subprocess.CompletedProcess[str]":
    command = [
        *(sys.executable, "-m", "mailward", "import", "zitadel", "--url", f"http://127.0.0.1:{source.http_port}"),
        *("--token-file", str(source.data_dir / "owner.token"), "--to-url", f"http://127.0.0.1:{target.http_port}"),
        *("--to-token-file", str(target.data_dir / "owner.token"), "--json", *args),
    ]
    return subprocess.run(command, input=input, capture_output=True, text=True, env=target.env, timeout=60)


def test_providers_come_over_with_their_secrets_and_state_and_only_once(
    zitadel: Program, program: Program, tmp_path: Path
) -> None:
    (tmp_path / "secrets.json").write_text(json.dumps({"mail.example.com:587": "canary-secret"}))

    first = take_over(zitadel, program, "--secrets", str(tmp_path / "secrets.json"))
    second = take_over(zitadel, program, "--no-secrets")

    outcomes = [step["outcome"] for step in json.loads(first.stdout) if "email provider" in step["what"]]
    assert outcomes == ["added", "activated", "added"]
    assert "canary-secret" not in first.stdout + first.stderr
    result = program.request("POST", "/admin/v1/email/_search", {}).json["result"]
    assert [one["smtp"] for one in result if "smtp" in one] == [SMTP]
    assert [one["state"] for one in result] == ["EMAIL_PROVIDER_ACTIVE", "EMAIL_PROVIDER_INACTIVE"]
    outcomes = [step["outcome"] for step in json.loads(second.stdout) if "email provider" in step["what"]]
    assert outcomes == ["exists", "exists"]


def test_a_dry_run_changes_nothing(zitadel: Program, program: Program) -> None:
    done = take_over(zitadel, program, "--dry-run")

    assert [step["outcome"] for step in json.loads(done.stdout)][:2] == ["would add", "would add"]
    assert "result" not in program.request("POST", "/admin/v1/email/_search", {}).json


def test_who_cannot_be_reached_or_does_not_let_us_in_is_said(
    zitadel: Program, program: Program, tmp_path: Path
) -> None:
    (tmp_path / "bad.token").write_text("nonsense")

    denied = take_over(zitadel, program, "--token-file", str(tmp_path / "bad.token"))
    zitadel.stop()
    unreachable = take_over(zitadel, program)

    assert (denied.returncode, unreachable.returncode) == (4, 7)
    assert "cannot be reached" in unreachable.stderr
