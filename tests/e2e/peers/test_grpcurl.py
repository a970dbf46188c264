"""grpcurl (grpc-go) with our .proto files."""

import contextlib
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.certificates import Certificates
from tests.support.golden.sinks import Sinks
from tests.support.life import FAMILIES, Failure, expected, life
from tests.support.life import SERVICE as ADMIN
from tests.support.program import Program
from tests.support.sink import Sink

ROOT = Path(__file__).parents[3]
MESSAGES = "mailward.v1.MessageService"


class Grpcurl:
    """grpcurl on one gateway, as its owner unless told otherwise."""

    def __init__(self, program: Program, flags: list[str]) -> None:
        self.address = f"localhost:{program.http_port}"
        self.flags = flags
        self.owner = program.owner

    def run(self, method: str, request: Any, token: str | None = None) -> subprocess.CompletedProcess[str]:
        protos = ["zitadel/admin.proto", "mailward/v1/messages.proto", "grpc/health/v1/health.proto"]
        sources = ["-import-path", str(ROOT / "proto"), *(word for proto in protos for word in ("-proto", proto))]
        auth = ["-H", f"authorization: Bearer {self.owner if token is None else token}"]
        command = [str(ROOT / ".peers/go/grpcurl"), *self.flags, *sources, *auth, "-format-error"]
        return subprocess.run(
            [*command, "-d", json.dumps(request), self.address, method], capture_output=True, text=True, timeout=60
        )

    def __call__(self, method: str, request: Any) -> Any:
        done = self.run(method, request)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@pytest.fixture
def grpcurl(scheme: str, gateway: Program, certificates: Certificates) -> Grpcurl:
    return Grpcurl(gateway, ["-plaintext"] if scheme == "http" else ["-cacert", str(certificates.ca)])


def test_a_provider_is_added_activated_and_takes_a_mail(grpcurl: Grpcurl, sink: Sink) -> None:
    config = {"senderAddress": "noreply@example.com", "senderName": "Example", "host": sink.address}
    id = grpcurl(f"{ADMIN}/AddSMTPConfig", config)["id"]
    grpcurl(f"{ADMIN}/ActivateSMTPConfig", {"id": id})
    mail = {"from": "noreply@example.com", "to": ["ada@example.org"], "subject": "Hello", "text": "It works."}

    sent = grpcurl(f"{MESSAGES}/SendMessage", mail)

    assert sent["state"] in ("queued", "sending", "accepted")
    assert b"Subject: Hello" in sink.wait()[0].content
    assert grpcurl(f"{ADMIN}/GetSMTPConfig", {})["smtpConfig"]["state"] == "SMTP_CONFIG_ACTIVE"
    assert grpcurl(f"{MESSAGES}/GetMessage", {"id": sent["id"]})["subject"] == "Hello"


def test_it_lives_the_whole_life_of_a_provider(grpcurl: Grpcurl, tmp_path: Path) -> None:
    def call(method: str, request: dict[str, Any]) -> dict[str, Any]:
        done = grpcurl.run(f"{ADMIN}/{method}", request)
        if done.returncode == 0:
            return dict(json.loads(done.stdout))
        details = json.loads(done.stderr).get("details", [{"id": ""}])
        raise Failure(done.returncode - 64, details[0]["id"])

    with contextlib.closing(Sinks(tmp_path)) as sinks:
        relay = sinks.address("auth")
        seen = {family: life(call, family, relay) for family in FAMILIES}
        mails = [sinks.next_mail("auth") for _ in FAMILIES]

    assert seen == dict.fromkeys(FAMILIES, expected(relay))
    assert all(mails)


def test_an_error_carries_its_detail(grpcurl: Grpcurl) -> None:
    done = grpcurl.run(f"{ADMIN}/GetSMTPConfigById", {"id": "123456789012345678"})

    assert done.returncode == 64 + 5  # grpcurl: 64 + NOT_FOUND
    error = json.loads(done.stderr)
    assert error["code"] == 5
    assert error["details"][0]["@type"] == "type.googleapis.com/zitadel.v1.ErrorDetail"
    assert error["details"][0]["id"]


def test_a_wrong_token_is_unauthenticated(grpcurl: Grpcurl) -> None:
    assert grpcurl.run(f"{ADMIN}/ListSMTPConfigs", {}, token="mw_wrong").returncode == 64 + 16


def test_a_method_that_is_not_served_is_unimplemented(grpcurl: Grpcurl) -> None:
    assert grpcurl.run(f"{ADMIN}/GetSupportedLanguages", {}).returncode in (0, 64 + 12)
    assert grpcurl.run(f"{ADMIN}/GetDefaultInitMessageText", {"language": "en"}).returncode == 64 + 12


def test_the_health_service_answers(grpcurl: Grpcurl) -> None:
    assert grpcurl("grpc.health.v1.Health/Check", {}) == {"status": "SERVING"}
    assert grpcurl("grpc.health.v1.Health/Check", {"service": ADMIN}) == {"status": "SERVING"}


def test_reflection_tells_what_there_is_without_proto_files(grpcurl: Grpcurl) -> None:
    command = [str(ROOT / ".peers/go/grpcurl"), *grpcurl.flags]

    listed = subprocess.run([*command, grpcurl.address, "list"], capture_output=True, text=True, timeout=60)
    described = subprocess.run(
        [*command, grpcurl.address, "describe", f"{ADMIN}.AddSMTPConfig"], capture_output=True, text=True, timeout=60
    )

    assert {ADMIN, MESSAGES, "grpc.reflection.v1.ServerReflection"} <= set(listed.stdout.split())
    assert 'post: "/smtp"' in described.stdout
