"""Guesses at the doors of the built program, with limits for loopback too, and from behind a proxy."""

import base64
import http.client
import json
import smtplib
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlencode

import grpc
import pytest

from mailward.access.tokens import new_token
from mailward.api.oauth import API_AUDIENCE, CLIENT_CREDENTIALS
from mailward.proto.mailward.v1 import messages_pb2
from tests.support.program import Answer, Program

GRPC_LIST = "/mailward.v1.MessageService/ListMessages"
SMTP = {"senderAddress": "a@example.com", "senderName": "A", "host": "mail.example.com:25"}
EVERYBODY = ("--auth-unlimited-from", "")


@pytest.fixture
def strict(tmp_path: Path) -> Iterator[Program]:
    """One failure a minute, from loopback too."""
    with Program(tmp_path / "data", *EVERYBODY, "--auth-failures-per-minute", "1") as program:
        yield program


def smtp_answer(program: Program, token: str, acting_as: str = "") -> tuple[int, str]:
    """Return what the submission door answers to AUTH."""
    client = smtplib.SMTP("127.0.0.1", program.smtp_port, timeout=30)
    client.ehlo()
    code, text = client.docmd("AUTH PLAIN", base64.b64encode(f"{acting_as}\0app\0{token}".encode()).decode())
    client.close()
    return code, text.decode()


def grpc_error(program: Program, token: str, fields: Mapping[str, str] | None = None) -> grpc.RpcError | None:
    """Return how a call by gRPC ends; None: well."""
    with grpc.insecure_channel(f"127.0.0.1:{program.http_port}") as channel:
        call = channel.unary_unary(
            GRPC_LIST, messages_pb2.ListMessagesRequest.SerializeToString, messages_pb2.ListMessagesResponse.FromString
        )
        metadata = {"authorization": f"Bearer {token}"} | {key.lower(): value for key, value in (fields or {}).items()}
        try:
            call(messages_pb2.ListMessagesRequest(), metadata=[*metadata.items()], timeout=30)
        except grpc.RpcError as error:
            return error
    return None


def client_signs_in(program: Program, name: str, secret: str, address: str = "127.0.0.1") -> Answer:
    """Ask for an access token, from an address of loopback's many."""
    form = {"grant_type": CLIENT_CREDENTIALS, "scope": API_AUDIENCE, "client_id": name, "client_secret": secret}
    headers = {"content-type": "application/x-www-form-urlencoded"}
    connection = http.client.HTTPConnection("127.0.0.1", program.http_port, timeout=30, source_address=(address, 0))
    try:
        connection.request("POST", "/oauth/v2/token", urlencode(form), headers)
        response = connection.getresponse()
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
    finally:
        connection.close()


def test_beyond_the_limit_every_door_says_when_to_come_again_and_lets_in_what_was_right(strict: Program) -> None:
    owner = strict.owner
    assert strict.request("GET", "/v1/messages").status == 200
    assert strict.request("GET", "/v1/messages", token=new_token()).status == 401

    over_rest = strict.request("GET", "/v1/messages", token=new_token())
    of_zitadel = strict.request("GET", "/admin/v1/smtp", token=new_token())
    over_grpc = grpc_error(strict, new_token())
    over_oauth = client_signs_in(strict, "app", "guess")
    over_smtp = smtp_answer(strict, new_token())

    assert (over_rest.status, over_rest.json["code"]) == (429, "too_many_failures")
    assert (of_zitadel.status, of_zitadel.json["code"]) == (429, 8)
    assert (over_oauth.status, over_oauth.json["error"]) == (429, "temporarily_unavailable")
    for answer in (over_rest, of_zitadel, over_oauth):
        assert 0 < int(answer.headers["retry-after"]) <= 60
    assert over_grpc is not None and over_grpc.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert 0 < int(dict(over_grpc.trailing_metadata())["retry-after"]) <= 60
    assert (over_smtp[0], over_smtp[1].startswith("4.7.0 too many failed sign-ins: wait ")) == (421, True)
    assert strict.request("GET", "/v1/messages").status == 200
    assert grpc_error(strict, owner) is None
    assert smtp_answer(strict, owner)[0] == 235
    metrics = strict.request("GET", "/metrics", token="").body.decode()
    for door, count in (("http", "3.0"), ("grpc", "1.0"), ("smtp", "1.0")):
        assert f'mailward_authentications_limited_total{{door="{door}"}} {count}' in metrics
    [event] = json.loads(strict.cli("event", "list", "--type", "mailward.access.address.limited", "--json").stdout)
    assert event["payload"] == {"network": "127.0.0.1", "door": "http"}


def test_a_foreign_authorization_identity_and_a_token_that_may_not_send_count_as_failures(strict: Program) -> None:
    viewer = strict.token("viewer")

    assert smtp_answer(strict, viewer)[0] == 535
    assert smtp_answer(strict, viewer)[0] == 421
    assert smtp_answer(strict, strict.owner, acting_as="boss")[0] == 421


def test_of_a_burst_of_guesses_no_more_are_looked_at_than_may_be_wrong(tmp_path: Path) -> None:
    with Program(tmp_path / "data", *EVERYBODY, "--auth-failures-per-minute", "5") as program:

        def guess(_: int) -> int:
            return program.request("GET", "/v1/messages", token=new_token()).status

        begun = time.monotonic()
        with ThreadPoolExecutor(50) as pool:
            statuses = list(pool.map(guess, range(200)))
        drained = (time.monotonic() - begun) / 12

    assert 5 <= statuses.count(401) <= 6 + drained
    assert statuses.count(401) + statuses.count(429) == 200


def test_an_account_is_guessed_from_many_addresses_a_hundred_times_and_open_to_its_owner(tmp_path: Path) -> None:
    with Program(tmp_path / "data", *EVERYBODY) as program:
        done = program.cli("client", "create", "--role", "sender", "--name", "app")
        secret = done.stdout.strip().partition(":")[2]
        assert client_signs_in(program, "app", secret).status == 200
        begun = time.monotonic()
        strangers = [client_signs_in(program, "app", "guess", f"127.0.1.{n}").status for n in range(1, 251)]
        drained = (time.monotonic() - begun) / 36

        assert 100 <= strangers.count(400) <= 101 + drained
        assert set(strangers) == {400, 429}
        assert client_signs_in(program, "app", "mistyped").status == 400
        assert client_signs_in(program, "app", secret).status == 200
        program.wait_for_log("authentication.account_limited")


@pytest.mark.parametrize("field", ["X-Forwarded-For", "Forwarded"])
def test_behind_a_trusted_proxy_each_client_is_itself_in_limits_and_log(tmp_path: Path, field: str) -> None:
    flags = ("--trusted-proxies", "127.0.0.1", "--trusted-proxy-header", field.lower())
    with Program(tmp_path / "data", *flags, "--auth-failures-per-minute", "1") as program:

        def guess(address: str) -> int:
            return program.request("GET", "/v1/messages", token=new_token(), headers=by_proxy(field, address)).status

        assert [guess(address) for address in ("203.0.113.7", "203.0.113.7", "203.0.113.8")] == [401, 429, 401]
        over_grpc = grpc_error(program, new_token(), by_proxy(field, "203.0.113.7"))
        assert over_grpc is not None and over_grpc.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        added = program.request("POST", "/admin/v1/smtp", SMTP, headers=by_proxy(field, "203.0.113.9"))

        assert added.status == 200
        [event] = json.loads(program.cli("event", "list", "--limit", "1", "--json").stdout)
        assert event["peer"] == "203.0.113.9"
        assert '"peer":"203.0.113.8"' in program.log.read_text()


def by_proxy(field: str, address: str) -> dict[str, str]:
    """Return the header field in which a proxy names its client, behind what that client made up."""
    return {field: f"for=192.0.2.1, for={address}" if field == "Forwarded" else f"192.0.2.1, {address}"}


def test_nobody_is_trusted_to_name_an_address_unless_it_was_said(program: Program) -> None:
    program.request("POST", "/admin/v1/smtp", SMTP, headers={"X-Forwarded-For": "203.0.113.9"})

    [event] = json.loads(program.cli("event", "list", "--limit", "1", "--json").stdout)
    assert event["peer"].startswith("127.0.0.1:")
