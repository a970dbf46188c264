"""Who may call, through the built program: revocation in open sessions, failures, and what is logged of changes."""

import base64
import json
import smtplib
from urllib.parse import urlencode

from mailward.access.tokens import new_token
from mailward.api.oauth import API_AUDIENCE, JWT_BEARER
from tests.support.golden.assertions import ServiceKey
from tests.support.program import Program
from tests.support.waiting import PATIENCE_S, wait_until


def test_a_token_that_is_revoked_ends_open_sessions(program_on: Program) -> None:
    """The revocation is made by another process, as by another node."""
    token = program_on.token("sender", "app")
    client = smtplib.SMTP("127.0.0.1", program_on.smtp_port, timeout=PATIENCE_S)
    client.login("app", token)
    assert not is_turned_away(client)
    assert program_on.cli("token", "revoke", "app").returncode == 0

    def signs_in_no_more() -> bool:
        client.connect("127.0.0.1", program_on.smtp_port)
        client.ehlo()
        code, _ = client.docmd("AUTH PLAIN", base64.b64encode(f"\0app\0{token}".encode()).decode())
        client.close()
        assert code in (235, 535)
        return code == 535

    wait_until(lambda: is_turned_away(client))  # Another process's change is seen within a second.
    client.close()
    wait_until(signs_in_no_more)


def is_turned_away(client: smtplib.SMTP) -> bool:
    """Begin a message, and forget it; return whether the door ends the session instead."""
    codes = [client.mail("noreply@example.com")[0]]
    if codes == [250]:
        codes.append(client.rset()[0])
    assert set(codes) <= {250, 421}
    return 421 in codes


def test_a_key_that_is_revoked_ends_what_it_brought_at_every_door(program_on: Program) -> None:
    keys = [json.loads(program_on.cli("key", "create", "--role", "owner", "--name", "app").stdout) for _ in range(2)]
    token, other = [_access_token(program_on, ServiceKey(json.dumps(key))) for key in keys]
    client = smtplib.SMTP("127.0.0.1", program_on.smtp_port, timeout=PATIENCE_S)
    client.login("app", token)
    assert not is_turned_away(client)
    assert program_on.request("GET", "/v1/messages", token=token).status == 200

    revoked = program_on.cli("key", "revoke", keys[0]["keyId"])

    assert revoked.returncode == 0, revoked.stderr
    wait_until(lambda: program_on.request("GET", "/v1/messages", token=token).status == 401)
    wait_until(lambda: program_on.request("GET", "/oidc/v1/userinfo", token=token).status == 401)
    wait_until(lambda: is_turned_away(client))
    client.close()
    assert program_on.request("GET", "/v1/messages", token=other).status == 200


def _access_token(program: Program, key: ServiceKey) -> str:
    assertion = key.assertion(f"http://127.0.0.1:{program.http_port}", {})
    form = {"grant_type": JWT_BEARER, "scope": API_AUDIENCE, "assertion": assertion}
    headers = {"content-type": "application/x-www-form-urlencoded"}
    answer = program.request("POST", "/oauth/v2/token", urlencode(form).encode(), token="", headers=headers)
    assert answer.status == 200, answer.body
    return str(answer.json["access_token"])


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
