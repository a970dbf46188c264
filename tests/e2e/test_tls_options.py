"""Options of one provider against servers that insist: authority, pins, client certificate, name, mode, patience."""

import asyncio
import ssl
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.certificates import Certificates, make_certificates, pin_of
from tests.support.program import Program
from tests.support.smtp_servers import DEFAULTS, Drip, scripted_server
from tests.support.tls_server import TlsServer

PROVIDERS = "/mailward/v1/providers"
MAIL = {"from": "noreply@example.com", "to": ["ada@example.org"], "subject": "Hello", "text": "It works.\n"}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    with Program(tmp_path_factory.mktemp("tls") / "data", "--retry-schedule-s", "1") as program:
        yield program


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


class Provider:
    """A stored provider for a port of loopback."""

    def __init__(self, program: Program, port: int, **settings: Any) -> None:
        self._program = program
        self.id = program.add_relay(f"127.0.0.1:{port}", activate=False, tls=True)
        if settings:
            self.set(settings)

    def set(self, settings: dict[str, Any], **secrets: str) -> None:
        done = self._program.request("PATCH", f"{PROVIDERS}/{self.id}", {"settings": settings, **secrets})
        assert done.status == 200, done.body

    def test(self) -> str:
        """Return "ok (mode)" or the code of the failure of a test mail."""
        report = self._program.request("POST", f"{PROVIDERS}/{self.id}:test", {"to": "ada@example.net"}).json
        return f"ok ({report['tls']})" if report.get("ok") else str(report["failure"]["code"])

    def deliver(self) -> str:
        """Activate it and return the id of a message."""
        answer = self._program.request("POST", f"/admin/v1/email/{self.id}/_activate", {})
        assert answer.status == 200, answer.body
        return str(self._program.request("POST", "/v1/messages", MAIL).json["id"])


@pytest.mark.parametrize("mode", ["starttls", "implicit"])
def test_an_authority_of_ones_own_is_trusted_where_it_is_set(
    mode: str, program: Program, certificates: Certificates
) -> None:
    with TlsServer(certificates.server_context(), starttls=mode == "starttls") as server:
        provider = Provider(program, server.port, tls_mode=mode)
        assert provider.test() == "tls_untrusted_certificate"

        provider.set({"ca_bundle": certificates.ca.read_text()})

        assert provider.test() == f"ok ({mode})"


def test_no_mode_falls_back_to_a_weaker_one(program: Program, certificates: Certificates) -> None:
    with TlsServer(certificates.server_context(), starttls=True) as server:
        provider = Provider(program, server.port, ca_bundle=certificates.ca.read_text())
        found = {}
        for mode in ("implicit", "starttls", "auto"):
            provider.set({"tls_mode": mode})
            found[mode] = provider.test()
        provider.set({"tls_mode": "none"})
        provider.test()

    assert found == {"implicit": "tls_port_speaks_plain", "starttls": "ok (starttls)", "auto": "ok (starttls)"}
    assert server.mails == 2


def test_auto_finds_a_server_that_speaks_tls_from_the_start(program: Program, certificates: Certificates) -> None:
    with TlsServer(certificates.server_context()) as server:
        provider = Provider(program, server.port, tls_mode="auto", ca_bundle=certificates.ca.read_text())

        assert provider.test() == "ok (implicit)"


def test_a_pin_is_all_that_counts_and_several_bridge_a_new_key(program: Program, certificates: Certificates) -> None:
    """First the next key is pinned beside the present one, then the server changes, then the old pin goes."""
    now, next_ = certificates.expired, certificates.self_signed
    with TlsServer(certificates.server_context(now)) as server:
        provider = Provider(program, server.port, tls_mode="implicit")
        assert provider.test() == "tls_untrusted_certificate"
        provider.set({"certificate_pins": {"sha256": [pin_of(now), pin_of(next_)]}})
        assert provider.test() == "ok (implicit)"
        server.context = certificates.server_context(next_)
        assert provider.test() == "ok (implicit)"
        provider.set({"certificate_pins": {"sha256": [pin_of(next_)]}})
        assert provider.test() == "ok (implicit)"
        server.context = certificates.server_context(now)
        assert provider.test() == "tls_pin_mismatch"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_client_certificate_opens_a_server_that_demands_one(
    version: ssl.TLSVersion, program: Program, certificates: Certificates
) -> None:
    context = certificates.server_context()
    context.minimum_version = context.maximum_version = version
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(certificates.ca)
    with TlsServer(context) as server:
        provider = Provider(program, server.port, tls_mode="implicit", ca_bundle=certificates.ca.read_text())
        without = provider.test()
        # With 1.2 the server says no more than that the handshake failed.
        assert without == "tls_handshake_failed" or version is ssl.TLSVersion.TLSv1_3
        assert without == "tls_client_certificate_refused" or version is ssl.TLSVersion.TLSv1_2
        stranger, known = certificates.self_signed.read_text(), certificates.server.read_text()

        provider.set({"client_certificate": stranger}, client_key=stranger)
        assert provider.test() == "tls_client_certificate_refused"

        provider.set({"client_certificate": known, "ehlo_name": "gw.example.com"}, client_key=known)
        assert provider.test() == "ok (implicit)"
        program.wait_for_state(provider.deliver(), "accepted")

    assert server.mails == 2
    assert server.clients[-1] == ssl.PEM_cert_to_DER_cert(known[: known.index("-----BEGIN PRIVATE")])
    assert server.heloes[-2:] == ["gw.example.com"] * 2


async def test_a_provider_has_the_patience_that_is_set_for_it(program: Program) -> None:
    banner = DEFAULTS["BANNER"]
    assert isinstance(banner, bytes)
    async with scripted_server({"BANNER": Drip(banner, 0.05)}) as server:
        provider = await asyncio.to_thread(
            Provider, program, server.port, tls_mode="none", deadlines={"command_s": 0.2}
        )
        id = await asyncio.to_thread(provider.deliver)
        deferred = await asyncio.to_thread(program.wait_for_state, id, "deferred")
        await asyncio.to_thread(provider.set, {"deadlines": {"command_s": 20}})
        await asyncio.to_thread(program.wait_for_state, id, "accepted")

    [attempt] = deferred["attempts"]
    assert attempt["recipients"][0]["stage"] == "banner"
