"""No secret is ever written down: canaries are planted wherever a secret goes, then looked for everywhere."""

import base64
import json
import os
import smtplib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from mailward.proto.mailward.v1 import messages_pb2
from mailward.proto.zitadel import admin_pb2
from tests.support.canaries import betrayed, canary, rows_of, spellings
from tests.support.databases import drop_postgres, new_postgres_url
from tests.support.postgres import PostgresServer
from tests.support.program import Answer, Program, free_port
from tests.support.waiting import PATIENCE_S

ADMIN = "/zitadel.admin.v1.AdminService"


class Indiscreet:
    """A provider that wants a login, and repeats a password it does not know in its answer."""

    def __init__(self) -> None:
        self.known: set[str] = set()
        self._controller = Controller(
            self, hostname="127.0.0.1", port=free_port(), ready_timeout=PATIENCE_S,
            authenticator=self._check, auth_require_tls=False,
        )  # fmt: skip

    def __enter__(self) -> "Indiscreet":
        self._controller.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._controller.stop(no_assert=True)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._controller.port}"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        return "250 2.0.0 taken"

    def _check(self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
        assert isinstance(data, LoginPassword)
        password = data.password.decode()
        if password in self.known:
            return AuthResult(success=True)
        encoded = base64.b64encode(b"\0" + data.login + b"\0" + data.password).decode()
        return AuthResult(
            success=False, handled=False, message=f"535 5.7.8 no login with {password}, sent as {encoded}"
        )


class Planted:
    """A gateway whose every answer is kept, and the secrets that it was told."""

    def __init__(self, program: Program, database: str) -> None:
        self.program, self.database = program, database
        self.secrets: dict[str, bytes] = {}
        self.written: dict[str, bytes] = {}

    def secret(self, what: str) -> str:
        """Return a new canary; from now on it is looked for."""
        text = canary(what)
        self.secrets[what] = text.encode()
        return text

    def request(self, method: str, path: str, body: Any = None, **more: Any) -> Answer:
        answer = self.program.request(method, path, body, **more)
        self.written[f"answer {len(self.written)}: {method} {path}"] = repr(answer).encode()
        return answer

    def grpc(self, path: str, message: Any, answer: Any) -> Any:
        """Call over gRPC as the owner; errors and trailers are kept too."""
        with grpc.insecure_channel(f"127.0.0.1:{self.program.http_port}") as channel:
            stub = channel.unary_unary(path, request_serializer=bytes, response_deserializer=bytes)
            done = stub.future(
                message.SerializeToString(),
                metadata=(("authorization", f"Bearer {self.program.owner}"),),
                timeout=PATIENCE_S,
            )
            done.exception()
            result = b"" if done.exception() else done.result()
            said = (done.code(), done.details(), done.initial_metadata(), done.trailing_metadata(), result)
        self.written[f"answer {len(self.written)}: gRPC {path}"] = repr(said).encode() + result
        return answer.FromString(result)

    def cli(self, *args: str) -> None:
        done = self.program.cli(*args)
        self.written[f"output {len(self.written)}: mailward {' '.join(args)}"] = (done.stdout + done.stderr).encode()

    def collect(self) -> dict[str, bytes]:
        """Return everything that was written: answers, log, data dir, every row of the database, the process list."""
        pid = self.program.process.pid
        found = dict(self.written)
        found["log, stdout and stderr"] = self.program.log.read_bytes()
        found["command line"] = Path(f"/proc/{pid}/cmdline").read_bytes()
        for file in self.program.data_dir.iterdir():
            if file.name not in ("owner.token", "master.key"):  # these are where their secrets live
                found[f"file {file.name}"] = file.read_bytes()
        found |= {f"table {name}": rows for name, rows in rows_of(self.database, self.program.data_dir).items()}
        return found


@pytest.fixture(params=["sqlite", "postgresql"])
def planted(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Planted]:
    """A gateway at debug level on each engine; the master key and the database's password are canaries."""
    key = os.urandom(32)
    env = {"MAILWARD_MASTER_KEY": base64.b64encode(key).decode(), "MAILWARD_LOG_LEVEL": "debug"}
    secrets, database = {"master key": key}, ""
    if request.param == "postgresql":
        server: PostgresServer = request.getfixturevalue("postgres_server")
        database = new_postgres_url(server)
        password = canary("database")
        env["MAILWARD_DATABASE"] = database.replace("postgres@", f"postgres:{password}@")
        assert urlsplit(env["MAILWARD_DATABASE"]).password == password
        secrets["database"] = password.encode()
    with Program(tmp_path / "data", "--retry-schedule-s", "1", env=env) as program:
        planted = Planted(program, database)
        planted.secrets |= secrets
        yield planted
    if database:
        drop_postgres(request.getfixturevalue("postgres_server"), database)


def config(host: str, password: str, **more: Any) -> dict[str, Any]:
    shape = {"senderAddress": "noreply@example.com", "senderName": "Example", "user": "relay"}
    return shape | {"host": host, "password": password} | more


def manage_providers_over_rest(planted: Planted, provider: Indiscreet) -> str:
    """Every call that takes a password, in success and failure; returns the id of a configuration."""
    right, later = planted.secret("restadd"), planted.secret("restrotated")
    provider.known |= {planted.secret("resttest"), later}
    added = planted.request("POST", "/admin/v1/smtp", config(provider.address, right))
    id = str(added.json["id"])
    planted.request("POST", f"/admin/v1/smtp/{id}/_activate", {})
    planted.request("PUT", f"/admin/v1/smtp/{id}", config(provider.address, planted.secret("restupdate"), id=id))
    sent = planted.request("POST", "/v1/messages", mail("provider refuses"))
    planted.program.wait_for_state(sent.json["id"], "deferred")
    planted.request("GET", f"/v1/messages/{sent.json['id']}")
    test = {"receiverAddress": "ada@example.org"}
    for what in ("resttest", "resttestwrong"):
        password = planted.secrets.get(what, b"").decode() or planted.secret(what)
        planted.request("POST", "/admin/v1/smtp/_test", test | config(provider.address, password))
    planted.request("POST", f"/admin/v1/smtp/{id}/_test", test)
    planted.request("PUT", f"/admin/v1/smtp/{id}/password", {"password": later})
    planted.program.wait_for_state(sent.json["id"], "accepted")
    planted.request("GET", f"/v1/messages/{sent.json['id']}")
    return id


def manage_other_secrets(planted: Planted) -> None:
    """A Twilio token, and the signing keys, which are ours and which ZITADEL's wire shows to whoever may read."""
    twilio = {"sid": "AC0", "senderNumber": "+15550100", "token": planted.secret("twilio")}
    added = planted.request("POST", "/admin/v1/sms/twilio", twilio)
    assert added.status == 200, added.body
    url = f"/admin/v1/sms/twilio/{added.json['id']}"
    planted.request("PUT", f"{url}/token", {"token": planted.secret("twiliorotated")})
    planted.request("GET", f"/admin/v1/sms/{added.json['id']}")
    planted.request("POST", "/admin/v1/sms/_search", {})
    for family in ("email", "sms"):
        # Not through `planted`: the answers to adding and getting one are where its key belongs.
        made = planted.program.request(
            "POST", f"/admin/v1/{family}/http", {"endpoint": f"http://127.0.0.1:{free_port()}"}
        )
        assert made.status == 200, made.body
        if made.json.get("signingKey"):
            planted.secrets[f"{family} signing key"] = made.json["signingKey"].encode()
        planted.program.request("GET", f"/admin/v1/{family}/{made.json['id']}")


def make_mistakes_over_rest(planted: Planted, id: str) -> None:
    """Requests that are refused, with a secret in them."""
    url = f"/admin/v1/smtp/{id}/password"
    half = f'{{"password": "{planted.secret("malformed")}", '.encode()
    wrong_type = json.dumps({"password": [planted.secret("wrongtype")]}).encode()
    no_utf8 = b'{"password": "' + planted.secret("noutf8").encode() + b'\xff"}'
    for body in (half, wrong_type, no_utf8):
        planted.request("PUT", url, body)
    planted.request("POST", "/admin/v1/smtp", config("localhost:25", planted.secret("toolong") * 20))
    planted.request("PUT", "/admin/v1/smtp/123456789012345678/password", {"password": planted.secret("unknownid")})
    for scheme in ("Bearer mw_", "Basic ", ""):
        header = {"authorization": scheme + planted.secret(f"header{len(scheme)}")}
        planted.request("GET", "/admin/v1/smtp", token="", headers=header)
        planted.request("POST", "/v1/messages", mail("no"), token="", headers=header)


def manage_providers_over_grpc(planted: Planted, provider: Indiscreet) -> None:
    add = admin_pb2.AddSMTPConfigRequest(**_snake(config(provider.address, planted.secret("grpcadd"))))
    id = planted.grpc(f"{ADMIN}/AddSMTPConfig", add, admin_pb2.AddSMTPConfigResponse).id
    assert id
    update = admin_pb2.UpdateSMTPConfigRequest(id=id, **_snake(config(provider.address, planted.secret("grpcupdate"))))
    planted.grpc(f"{ADMIN}/UpdateSMTPConfig", update, admin_pb2.UpdateSMTPConfigResponse)
    activate = admin_pb2.ActivateSMTPConfigRequest(id=id)
    planted.grpc(f"{ADMIN}/ActivateSMTPConfig", activate, admin_pb2.ActivateSMTPConfigResponse)
    rotate = admin_pb2.UpdateSMTPConfigPasswordRequest(id=id, password=planted.secret("grpcpassword"))
    planted.grpc(f"{ADMIN}/UpdateSMTPConfigPassword", rotate, admin_pb2.UpdateSMTPConfigPasswordResponse)
    add.password = planted.secret("grpclong") * 20
    planted.grpc(f"{ADMIN}/AddSMTPConfig", add, admin_pb2.AddSMTPConfigResponse)
    unsaved = config(provider.address, planted.secret("grpctest"), receiverAddress="ada@example.org")
    test = admin_pb2.TestSMTPConfigRequest(**_snake(unsaved))
    planted.grpc(f"{ADMIN}/TestSMTPConfig", test, admin_pb2.TestSMTPConfigResponse)
    by_id = admin_pb2.TestSMTPConfigByIdRequest(id=id, receiver_address="ada@example.org")
    planted.grpc(f"{ADMIN}/TestSMTPConfigById", by_id, admin_pb2.TestSMTPConfigByIdResponse)
    fields: dict[str, Any] = {"from": "a@example.com", "to": ["b@example.org"], "text": "x"}
    send = messages_pb2.SendMessageRequest(**fields)
    sent = planted.grpc("/mailward.v1.MessageService/SendMessage", send, messages_pb2.SendMessageResponse).id
    planted.program.wait_for_state(sent, "deferred")
    planted.request("GET", f"/v1/messages/{sent}")


def log_in_by_smtp(planted: Planted) -> None:
    """AUTH with a right and a wrong password, by each mechanism, in clear text and over TLS."""
    sender = planted.program.token("sender", "app")
    planted.secrets["sender token"] = sender.encode()
    for mechanism in ("plain", "login"):
        for password in (sender, planted.secret(f"smtp{mechanism}")):
            with smtplib.SMTP("127.0.0.1", planted.program.smtp_port, timeout=PATIENCE_S) as client:
                client.ehlo()
                client.user, client.password = "app", password
                try:
                    said: Any = client.auth(mechanism.upper(), getattr(client, f"auth_{mechanism}"))
                except smtplib.SMTPAuthenticationError as error:
                    said = error
                planted.written[f"answer {len(planted.written)}: AUTH {mechanism}"] = repr(said).encode()
    with smtplib.SMTP("127.0.0.1", planted.program.smtp_port, timeout=PATIENCE_S) as client:
        # A client that forgot AUTH, or broke it over two lines: the secret comes where a verb belongs.
        for line in (
            f"AUTH {planted.secret('noverb')}",
            planted.secret("alone"),
            f"AUTH PLAIN {planted.secret('bad')}",
        ):
            planted.written[f"answer {len(planted.written)}: SMTP"] = repr(client.docmd(line)).encode()
    planted.request("GET", "/v1/messages", token=sender)
    planted.request("GET", "/admin/v1/smtp", token=sender)


def mail(subject: str) -> dict[str, Any]:
    return {"from": "noreply@example.com", "to": ["ada@example.org"], "subject": subject, "text": "It works.\n"}


def _snake(fields: dict[str, Any]) -> dict[str, Any]:
    return {"".join(f"_{c.lower()}" if c.isupper() else c for c in name): value for name, value in fields.items()}


def test_no_secret_is_found_in_anything_that_was_written(planted: Planted) -> None:
    planted.secrets["owner token"] = planted.program.owner.encode()
    with Indiscreet() as provider:
        id = manage_providers_over_rest(planted, provider)
        manage_other_secrets(planted)
        make_mistakes_over_rest(planted, id)
        log_in_by_smtp(planted)
        manage_providers_over_grpc(planted, provider)
    planted.request("GET", "/v1/messages")
    planted.request("POST", "/admin/v1/smtp/_search", {})
    planted.request("GET", "/metrics", token="")
    planted.request("GET", "/readyz?verbose", token="")
    for command in (("token", "list", "--json"), ("db", "status"), ("config", "show", "--origin"), ("db", "rebuild")):
        planted.cli(*command)

    written = planted.collect()

    # The search works: what is no secret is found where it belongs.
    assert b"instance.smtp.config.password.changed" in written["table events"]
    assert b"relay" in written["table email_providers"] and b"provider refuses" in b"".join(written.values())
    assert b"no login with ***, sent as ***" in written["log, stdout and stderr"]
    assert len(planted.secrets) > 20
    assert {where: names for where, data in written.items() if (names := betrayed(data, planted.secrets))} == {}


def test_a_database_that_refuses_the_password_is_an_error_without_it(tmp_path: Path) -> None:
    password = canary("refused")
    url = f"postgresql://mailward:{password}@127.0.0.1:{free_port()}/mailward"
    env = {k: v for k, v in os.environ.items() if not k.startswith("MAILWARD_")} | {"MAILWARD_DATABASE": url}

    for command in (["db", "status"], ["token", "list"], ["config", "show", "--origin", "--json"], ["serve"]):
        done = subprocess.run(
            [sys.executable, "-m", "mailward", *command, "--data-dir", str(tmp_path / "data")],
            capture_output=True, env=env, timeout=PATIENCE_S,
        )  # fmt: skip
        assert betrayed(done.stdout + done.stderr, {"database": password.encode()}) == []


def test_the_search_finds_a_secret_in_every_spelling_at_every_place() -> None:
    """A test of the test."""
    secret = canary("search").encode()
    for before in (b"", b"x", b"xy", b"xyz"):
        for data in (secret, base64.b64encode(before + secret + b"tail"), (before + secret).hex().encode()):
            assert betrayed(b"..." + data + b"...", {"one": secret}), (before, data)
    assert betrayed(b"nothing here", {"one": secret}) == []
    assert len(dict(spellings(secret))) == 9
