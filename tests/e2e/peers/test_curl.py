"""curl on our HTTP port: HTTP/1.1, HTTP/2 with prior knowledge, and TLS with ALPN."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.certificates import Certificates
from tests.support.program import Program
from tests.support.sink import Sink

MAIL = {"from": "noreply@example.com", "to": ["ada@example.org"], "subject": "Hello", "text": "It works.\n"}

#: name → (scheme, flags, the version that curl then reports)
WAYS = {
    "http1": ("http", ["--http1.1"], "1.1"),
    "h2c": ("http", ["--http2-prior-knowledge"], "2"),
    "alpn-h2": ("https", ["--http2"], "2"),
    "alpn-http1": ("https", ["--http1.1"], "1.1"),
}


class Curl:
    """curl with the flags of one way."""

    def __init__(self, program: Program, way: str, ca: Path) -> None:
        scheme, self.flags, self.version = WAYS[way]
        self.flags = [*self.flags, "--cacert", str(ca)]
        self.url = f"{scheme}://localhost:{program.http_port}"
        self.owner = program.owner

    def __call__(self, path: str, body: Any = None, *more: str) -> tuple[int, str, bytes]:
        """Return (status, HTTP version, body)."""
        data = [] if body is None else ["-H", "content-type: application/json", "-d", json.dumps(body)]
        auth = ["-H", f"authorization: Bearer {self.owner}"]
        written = ["-s", "-S", "-w", r"\n%{http_code} %{http_version}"]
        done = subprocess.run(
            ["curl", *self.flags, *auth, *written, *data, *more, self.url + path], capture_output=True, timeout=60
        )
        assert done.returncode == 0, done.stderr.decode()
        answer, _, said = done.stdout.rpartition(b"\n")
        status, version = said.decode().split()
        return int(status), version, answer


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def scheme(way: str) -> str:
    return WAYS[way][0]


@pytest.fixture
def curl(way: str, gateway: Program, certificates: Certificates) -> Curl:
    return Curl(gateway, way, certificates.ca)


def test_a_provider_is_added_and_a_mail_sent(curl: Curl, sink: Sink) -> None:
    config = {"senderAddress": "noreply@example.com", "senderName": "Example", "host": sink.address}
    status, version, body = curl("/admin/v1/smtp", config)
    assert (status, version) == (200, curl.version)
    assert curl(f"/admin/v1/smtp/{json.loads(body)['id']}/_activate", {})[0] == 200

    status, version, body = curl("/v1/messages", MAIL)

    assert (status, version) == (202, curl.version)
    assert json.loads(body)["id"].startswith("msg_")
    assert b"Subject: Hello" in sink.wait()[0].content


def test_a_head_request_has_no_body_and_an_unknown_path_is_404(curl: Curl) -> None:
    assert curl("/debug/healthz", None, "--head")[0] == 200
    assert curl("/admin/v1/no-such-thing")[0] == 404


def test_a_megabyte_goes_up_whole(curl: Curl, sink: Sink, tmp_path: Path) -> None:
    """Longer than the windows of HTTP/2's flow control."""
    file = tmp_path / "mail.json"
    file.write_text(json.dumps(MAIL | {"text": "x" * 70 + "\n" + ("y" * 70 + "\n") * 40_000}))

    status, _, body = curl("/v1/messages", None, "--data-binary", f"@{file}", "-H", "content-type: application/json")

    assert status == 202, body
    message = json.loads(curl(f"/v1/messages/{json.loads(body)['id']}")[2])
    assert message["size_bytes"] > 40_000 * 72


def test_expect_100_continue_is_answered(gateway: Program, curl: Curl, way: str) -> None:
    status, _, body = curl("/v1/messages", MAIL, "-H", "expect: 100-continue", "--expect100-timeout", "20")

    assert status == 202, body
