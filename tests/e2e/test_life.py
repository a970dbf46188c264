"""Python's grpcio lives the whole life of a provider, in clear text and TLS."""

import contextlib
from pathlib import Path
from typing import Any

import grpc
import pytest

from mailward.rpc.service import Code
from tests.support.certificates import make_certificates
from tests.support.golden.sinks import Sinks
from tests.support.golden.target import Target
from tests.support.life import FAMILIES, SERVICE, Failure, expected, life
from tests.support.program import Program


@pytest.mark.parametrize("scheme", ["h2c", "tls"])
def test_grpcio_lives_the_life_of_a_provider(scheme: str, tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path)
    sinks = Sinks(tmp_path)
    relay = sinks.address("auth")
    tls = ["--tls-cert", str(certificates.server), "--tls-key", str(certificates.server)] if scheme == "tls" else []
    with Program(tmp_path / "data", *tls) as program, contextlib.closing(sinks):
        address = f"localhost:{program.http_port}"
        credentials = grpc.ssl_channel_credentials(certificates.ca.read_bytes())
        channel = grpc.secure_channel(address, credentials) if tls else grpc.insecure_channel(address)
        target = Target("localhost", program.http_port, {"owner": program.owner}, channel)

        def call(method: str, request: dict[str, Any]) -> dict[str, Any]:
            answer = target.call({"grpc": f"/{SERVICE}/{method}", "as": "owner", "request": request})
            if answer["code"] == "OK":
                return dict(answer["response"])
            raise Failure(Code[answer["code"]], (answer["details"] or [{"id": ""}])[0]["id"])

        seen = {family: life(call, family, relay) for family in FAMILIES}
        target.close()

        assert seen == dict.fromkeys(FAMILIES, expected(relay))
        assert all((sinks.next_mail("auth") or pytest.fail()).auth for _ in FAMILIES)
