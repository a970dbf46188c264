"""Mail by the built program to a provider that is logged in to by token."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support.canaries import betrayed, rows_of
from tests.support.certificates import make_certificates
from tests.support.cluster import LONG_S, Cluster
from tests.support.databases import new_postgres_url
from tests.support.oauth import REFRESH_TOKEN, SECRET, USER, TokenServer, TokenSink
from tests.support.postgres import PostgresServer
from tests.support.program import Program
from tests.support.waiting import wait_until

MAIL = {"from": "Example <noreply@example.com>", "to": ["ada@example.org"], "subject": "Hello", "text": "It works.\n"}


@pytest.fixture
def tokens() -> Iterator[TokenServer]:
    with TokenServer() as tokens:
        yield tokens


@pytest.fixture
def mailbox(tokens: TokenServer) -> Iterator[TokenSink]:
    with TokenSink(tokens) as sink:
        yield sink


def as_zitadel_has_it(mailbox: TokenSink, tokens: TokenServer, secret: str = SECRET) -> dict[str, Any]:
    """Return an email provider as ZITADEL's clients write one."""
    client = {"clientId": "client", "clientSecret": secret}
    return {
        "senderAddress": "noreply@example.com",
        "senderName": "Example",
        "host": mailbox.address,
        "user": USER,
        "xoauth2": {"tokenEndpoint": tokens.url, "scopes": ["mail.send"], "clientCredentials": client},
    }


def add(program: Program, provider: dict[str, Any]) -> str:
    added = program.request("POST", "/admin/v1/email/smtp", provider)
    assert added.status == 200, added.body
    id = str(added.json["id"])
    assert program.request("POST", f"/admin/v1/email/{id}/_activate", {}).status == 200
    return id


def send(program: Program, token: str | None = None) -> str:
    answer = program.request("POST", "/v1/messages", MAIL, token=token)
    assert answer.status == 202, answer.body
    return str(answer.json["id"])


def test_fifty_mails_at_once_cause_one_request_for_a_token(
    program_on: Program, tokens: TokenServer, mailbox: TokenSink
) -> None:
    tokens.delay_s = 0.2
    provider = as_zitadel_has_it(mailbox, tokens)
    id = add(program_on, provider)

    with ThreadPoolExecutor(10) as pool:
        messages = list(pool.map(lambda _: send(program_on), range(50)))

    mailbox.wait(50)
    for message in messages:
        program_on.wait_for_state(message, "accepted")
    assert len(tokens.forms) == 1 and all(taken for _, _, taken in mailbox.logins)
    assert tokens.forms[0]["client_secret"] == SECRET and tokens.forms[0]["scope"] == "mail.send"
    shown = program_on.request("GET", f"/admin/v1/email/{id}").json["config"]["smtp"]
    assert shown["xoauth2"] == provider["xoauth2"] | {"clientCredentials": {"clientId": "client"}}
    assert program_on.request("GET", f"/mailward/v1/providers/{id}").json["auth"] == "oauth"
    metrics = program_on.request("GET", "/metrics").body.decode()
    assert f'mailward_oauth_token_fetches_total{{provider="{id}",result="issued"}} 1.0' in metrics


def test_an_idle_gateway_renews_a_token_before_it_expires(
    program: Program, tokens: TokenServer, mailbox: TokenSink
) -> None:
    tokens.lifetimes_s = [2, 2]
    add(program, as_zitadel_has_it(mailbox, tokens))
    issued = 'result="issued"} 3.0'  # and no mail has come
    wait_until(lambda: issued in program.request("GET", "/metrics").body.decode())
    tokens.good = {token for token in tokens.good if token.startswith("token-3-")}  # the others have expired

    program.wait_for_state(send(program), "accepted")

    assert [taken for _, _, taken in mailbox.logins] == [True]
    assert len(tokens.forms) == 3


def test_a_refresh_token_that_the_server_replaces_survives_a_restart_and_is_seen_nowhere(
    program: Program, tokens: TokenServer, mailbox: TokenSink
) -> None:
    tokens.rotates = True
    id = program.add_relay(mailbox.address, activate=False, user=USER)
    oauth = {"grant": "refresh_token", "token_endpoint": tokens.url, "client_id": "client"}
    done = program.request(
        "PATCH",
        f"/mailward/v1/providers/{id}",
        {"settings": {"oauth": oauth}, "oauth_refresh_token": REFRESH_TOKEN, "oauth_client_secret": SECRET},
    )
    assert done.json["settings"]["oauth"] == {**oauth, "has_refresh_token": True, "has_client_secret": True}, done.body
    program.request("POST", f"/admin/v1/smtp/{id}/_activate", {})
    program.wait_for_state(send(program), "accepted")

    program.stop()
    program.start()
    program.wait_for_state(send(program), "accepted")

    assert [form["refresh_token"] for form in tokens.forms] == [REFRESH_TOKEN, "refresh-1"]
    found = program.request("POST", "/admin/v1/events/_search", {"asc": True, "limit": 100}).json["events"]
    [first, _] = [one for one in found if one["type"]["type"] == "mailward.provider.refresh_token.rotated"]
    assert first["editor"]["userId"] != program.request("GET", "/auth/v1/users/me").json["user"]["id"]
    secrets = {text: text.encode() for text in [SECRET, REFRESH_TOKEN, "refresh-1", "refresh-2", "x" * 500]}
    written = rows_of("", program.data_dir) | {"log": program.log.read_bytes(), "events": repr(found).encode()}
    assert {where: betrayed(data, secrets) for where, data in written.items() if betrayed(data, secrets)} == {}


def test_a_wrong_secret_is_explained_by_the_command_line_and_over_zitadels_wire(
    program: Program, tokens: TokenServer, mailbox: TokenSink
) -> None:
    provider = as_zitadel_has_it(mailbox, tokens, secret="wrong")
    id = add(program, provider)
    message = program.wait_for_state(send(program), "deferred")
    assert "AADSTS7000215" in message["recipients"][0]["last_reply"]["text"]

    remote = ["--url", f"http://127.0.0.1:{program.http_port}", "--token-file", str(program.data_dir / "owner.token")]
    tested = program.remote_cli("provider", "test", id, "--to", "ada@example.net", *remote)

    assert tested.returncode == 6
    assert "FAILED  auth" in tested.stdout and "AADSTS7000215: Invalid client secret provided." in tested.stdout
    assert "code:  token_refused" in tested.stderr
    assert "the secret's id that was copied instead of its value" in tested.stderr
    refused = program.request("POST", "/admin/v1/email/smtp/_test", provider | {"receiverAddress": "ada@example.net"})
    assert (refused.status, refused.json["details"][0]["id"]) == (500, "EMAIL-s9kfs")
    assert "AADSTS7000215" in refused.json["message"]

    # The mail that waits leaves once the secret is right.
    right = as_zitadel_has_it(mailbox, tokens)
    assert program.request("PUT", f"/admin/v1/email/smtp/{id}", right).status == 200
    tested = program.remote_cli("provider", "test", id, "--to", "ada@example.net", *remote)
    assert tested.returncode == 0, tested.stdout
    program.wait_for_state(message["id"], "accepted")


def test_a_stored_client_secret_is_tried_with_what_it_is_stored_with_alone(
    program: Program, tokens: TokenServer, mailbox: TokenSink
) -> None:
    provider = as_zitadel_has_it(mailbox, tokens)
    id = add(program, provider)
    wait_until(lambda: tokens.forms)
    provider["xoauth2"]["clientCredentials"] = {"clientId": "client"}
    test = provider | {"id": id, "receiverAddress": "ada@example.net"}
    assert program.request("POST", "/admin/v1/email/smtp/_test", test).status == 200

    with TokenServer() as elsewhere:
        auth = provider["xoauth2"] | {"tokenEndpoint": elsewhere.url}
        refused = program.request("POST", "/admin/v1/email/smtp/_test", test | {"xoauth2": auth})
        assert (refused.status, refused.json["details"][0]["id"]) == (400, "MAILWARD-SecretBound")
        changed = program.request("PUT", f"/admin/v1/email/smtp/{id}", provider | {"xoauth2": auth})
        assert changed.status == 400 and "oauth_client_secret" in changed.json["message"]
        assert elsewhere.forms == []


def test_two_nodes_share_a_refresh_token_that_the_server_takes_once(
    tmp_path: Path, tokens: TokenServer, mailbox: TokenSink, postgres_server: PostgresServer
) -> None:
    """Each wants a token of its own every second or two; what the server gave one, the other goes on with."""
    tokens.rotates, tokens.delay_s, tokens.lifetimes_s = True, 0.1, [2] * 200
    cluster = Cluster(tmp_path, new_postgres_url(postgres_server), LONG_S)
    with cluster.stack:
        nodes = [cluster.node(name) for name in ("first", "second")]
        id = nodes[0].add_relay(mailbox.address, activate=False, user=USER)
        oauth = {"grant": "refresh_token", "token_endpoint": tokens.url, "client_id": "client"}
        settings = {"settings": {"oauth": oauth}, "oauth_refresh_token": REFRESH_TOKEN}
        assert nodes[0].request("PATCH", f"/mailward/v1/providers/{id}", settings).status == 200
        nodes[0].request("POST", f"/admin/v1/smtp/{id}/_activate", {})

        wait_until(lambda: len(tokens.forms) >= 6)
        for node in nodes:
            nodes[0].wait_for_state(send(node, nodes[0].owner), "accepted")
        metrics = [node.request("GET", "/metrics", token="").body.decode() for node in nodes]

    used = [form["refresh_token"] for form in tokens.forms]
    assert used == [REFRESH_TOKEN, *(f"refresh-{n}" for n in range(1, len(used)))]
    for text in metrics:
        assert f'mailward_oauth_token_fetches_total{{provider="{id}",result="issued"}}' in text
        assert 'result="failed"' not in text


def test_the_command_line_sets_a_login_by_token_and_rotates_its_secret(
    program: Program, tokens: TokenServer, mailbox: TokenSink, tmp_path: Path
) -> None:
    id = program.add_relay(mailbox.address, activate=False, user=USER)
    remote = ["--url", f"http://127.0.0.1:{program.http_port}", "--token-file", str(program.data_dir / "owner.token")]
    login = ["--grant", "client_credentials", "--token-endpoint", tokens.url, "--client-id", "client"]
    login += ["--scope", "mail.send", "--client-auth-method", "client_secret_basic"]
    secret = tmp_path / "secret"
    secret.write_text(f"{SECRET}\n")

    done = program.run("provider", "set-oauth", id, *login, "--client-secret-file", str(secret), *remote)

    assert done.returncode == 0, done.stderr
    assert program.run("provider", "test", id, "--to", "ada@example.net", *remote).returncode == 0
    assert tokens.heads[-1] == ("client", SECRET)

    rotate = ["provider", "rotate", id, "--client-secret-file", "-", *remote]
    refused = program.run(*rotate, input="next\n")
    tokens.secret = "next"
    rotated = program.run(*rotate, input="next\n")
    by_password = program.run("provider", "rotate", id, "--password-file", str(secret), *remote)

    assert (refused.returncode, rotated.returncode, by_password.returncode) == (6, 0, 1)
    assert "AADSTS7000215" in refused.stderr and "nothing was changed" in refused.stderr
    assert "ok  auth" in rotated.stdout and "The new one is in use." in rotated.stderr
    assert "oauth_client_secret" in by_password.stderr
    program.request("POST", f"/admin/v1/smtp/{id}/_activate", {})
    program.wait_for_state(send(program), "accepted")


def test_a_google_key_file_sets_a_login_as_it_stands(
    program: Program, tokens: TokenServer, mailbox: TokenSink, tmp_path: Path
) -> None:
    pem = make_certificates(tmp_path).server.read_text()
    key = {"token_uri": tokens.url, "client_email": "app@project.example", "private_key_id": "k1", "private_key": pem}
    (tmp_path / "key.json").write_text(json.dumps(key))
    (tmp_path / "other.json").write_text("[]")
    id = program.add_relay(mailbox.address, activate=False, user=USER)
    remote = ["--url", f"http://127.0.0.1:{program.http_port}", "--token-file", str(program.data_dir / "owner.token")]

    command = ["provider", "set-oauth", id, "--subject", USER, *remote, "--service-account-file"]
    done, wrong = (program.run(*command, str(tmp_path / name)) for name in ("key.json", "other.json"))

    assert (done.returncode, wrong.returncode) == (0, 2), done.stderr
    assert program.run("provider", "test", id, "--to", "ada@example.net", *remote).returncode == 0
    assert "assertion" in tokens.forms[-1]
