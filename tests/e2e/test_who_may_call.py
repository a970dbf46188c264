"""Who may call, through the built program: revocation in open sessions, failures, and what is logged of changes."""

import base64
import json
import smtplib
import time

from mailward.access.tokens import new_token
from tests.support.program import Program


def test_a_token_that_is_revoked_ends_open_sessions(program_on: Program) -> None:
    """The revocation is made by another process, as by another node."""
    token = program_on.token("sender", "app")
    with smtplib.SMTP("127.0.0.1", program_on.smtp_port, timeout=10) as client:
        client.login("app", token)
        assert client.mail("noreply@example.com")[0] == 250
        client.rset()
        assert program_on.cli("token", "revoke", "app").returncode == 0

        deadline = time.monotonic() + 5
        while (code := client.mail("noreply@example.com")[0]) == 250 and time.monotonic() < deadline:
            client.rset()

        assert code == 421
    with smtplib.SMTP("127.0.0.1", program_on.smtp_port, timeout=10) as client:
        client.ehlo()
        answer = client.docmd("AUTH PLAIN", base64.b64encode(f"\0app\0{token}".encode()).decode())
        while answer[0] == 235 and time.monotonic() < deadline:  # Another process's change is seen within a second.
            client.close()
            client.connect("127.0.0.1", program_on.smtp_port)
            client.ehlo()
            answer = client.docmd("AUTH PLAIN", base64.b64encode(f"\0app\0{token}".encode()).decode())
        assert answer[0] == 535


def test_loopback_is_never_told_to_wait(program: Program) -> None:
    """A proxy on the machine stands for everybody behind it, and the operator works there."""
    statuses = {program.request("GET", "/v1/messages", token=new_token()).status for _ in range(60)}

    assert statuses == {401}
    text = program.request("GET", "/metrics", token="").body.decode()
    assert 'mailward_authentications_failed_total{door="http"} 60.0' in text


def test_changes_of_providers_are_logged(program: Program) -> None:
    id = program.add_relay("127.0.0.1:2500")

    program.wait_for_log("provider.changed")
    changes = [json.loads(line) for line in program.log.read_text().splitlines() if '"provider.changed"' in line]
    assert [(line["provider_id"], line["change"]) for line in changes][-1] == (id, "Activate")
