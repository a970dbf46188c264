"""TLS, login, and the report of a test: independent servers, and the words for what goes wrong."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from mailward.ids import ProviderId
from mailward.message.envelope import Envelope
from mailward.secretbox import SecretText
from mailward.transport import egress, smtp
from mailward.transport.base import RelaySettings, TlsMode
from mailward.transport.outcome import Deferred, Fault, Stage
from mailward.transport.pool import SmtpTransport
from mailward.transport.report import Report
from tests.support.certificates import Certificates, make_certificates
from tests.support.smtp_servers import Fault as Does
from tests.support.smtp_servers import IndependentServer, Script, scripted_server
from tests.support.ways import LONG, deliver

ENVELOPE = Envelope("from@example.com", ("to@example.net",))
CONTENT = b"Subject: hello\r\n\r\nhello\r\n"
DEADLINES = replace(LONG, tls_probe_s=0.05)
USER, PASSWORD = IndependentServer.USER, SecretText(IndependentServer.PASSWORD)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def relay(certificates: Certificates) -> Callable[..., RelaySettings]:
    def make(port: int, tls: TlsMode = TlsMode.NONE, **changes: Any) -> RelaySettings:
        settings = RelaySettings(
            provider_id=ProviderId("1"),
            host="127.0.0.1",
            port=port,
            tls=tls,
            ehlo_name="gateway.example",
            ca_file=str(certificates.ca),
            deadlines=DEADLINES,
        )
        return replace(settings, **changes)

    return make


async def nothing() -> None:
    pass


def code(report: Report) -> tuple[Stage, str]:
    assert report.failure is not None
    assert [step.stage for step in report.steps if not step.ok] == [report.failure.stage]
    return report.failure.stage, report.failure.code


@pytest.mark.parametrize("mode", ["none", "starttls", "implicit", "auto with starttls", "auto with implicit"])
async def test_an_independent_server_takes_mail_in_every_tls_mode(
    mode: str, certificates: Certificates, relay: Callable[..., RelaySettings]
) -> None:
    context = certificates.server_context()
    starttls = context if "starttls" in mode else None
    implicit = context if "implicit" in mode else None
    wanted = TlsMode(mode.split()[0])

    async with IndependentServer(starttls=starttls, implicit=implicit, auth=True) as server:
        settings = relay(server.port, wanted, user=USER, password=PASSWORD, cleartext_auth=True)
        if mode == "none":  # aiosmtpd offers AUTH over TLS only.
            settings = replace(settings, user="")
        report = await smtp.test(settings, ENVELOPE, CONTENT)

    assert report.failure is None
    assert report.tls.value == mode.split()[-1]
    assert [step.stage for step in report.steps if step.stage is Stage.AUTH] == ([] if mode == "none" else [Stage.AUTH])
    assert all(step.ok for step in report.steps)
    [mail] = server.mails
    assert (mail.mail_from, mail.rcpt_tos, mail.content, mail.helo) == (
        "from@example.com",
        ["to@example.net"],
        CONTENT,
        "gateway.example",
    )


async def test_login_is_used_where_plain_is_not_offered(
    certificates: Certificates, relay: Callable[..., RelaySettings]
) -> None:
    async with IndependentServer(
        starttls=certificates.server_context(), auth=True, mechanisms_off=("PLAIN",)
    ) as server:
        report = await smtp.test(relay(server.port, TlsMode.STARTTLS, user=USER, password=PASSWORD), ENVELOPE, CONTENT)

    assert report.failure is None
    assert server.mechanisms == ["LOGIN"]


async def test_a_refused_password_is_the_providers_fault(
    certificates: Certificates, relay: Callable[..., RelaySettings]
) -> None:
    async with IndependentServer(starttls=certificates.server_context(), auth=True) as server:
        settings = relay(server.port, TlsMode.STARTTLS, user=USER, password=SecretText("wrong"))
        report = await smtp.test(settings, ENVELOPE, CONTENT)
        transport = SmtpTransport(settings)
        [outcome] = await deliver(transport, ENVELOPE, CONTENT, nothing)
        await transport.aclose()

    assert code(report) == (Stage.AUTH, "auth_rejected")
    assert report.failure is not None
    assert report.failure.reply is not None
    assert report.failure.reply.code == 535
    assert isinstance(outcome, Deferred)
    assert (outcome.stage, outcome.fault) == (Stage.AUTH, Fault.PROVIDER)


@pytest.mark.parametrize("tls", [TlsMode.STARTTLS, TlsMode.IMPLICIT])
@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("other_name", "tls_name_mismatch"),
        ("expired", "tls_certificate_expired"),
        ("server", "tls_untrusted_certificate"),
    ],
)
async def test_a_certificate_that_does_not_hold_is_named(
    tls: TlsMode, file: str, expected: str, certificates: Certificates, relay: Callable[..., RelaySettings]
) -> None:
    context = certificates.server_context(getattr(certificates, file))
    changes = {"ca_file": ""} if file == "server" else {}
    starttls, implicit = (context, None) if tls is TlsMode.STARTTLS else (None, context)

    async with IndependentServer(starttls=starttls, implicit=implicit) as server:
        report = await smtp.test(relay(server.port, tls, **changes), ENVELOPE, CONTENT)

    assert code(report) == (Stage.TLS, expected)
    assert report.tls is tls
    assert server.mails == []


async def test_auto_refuses_an_implicit_tls_server_with_an_untrusted_certificate(
    certificates: Certificates, relay: Callable[..., RelaySettings]
) -> None:
    async with scripted_server(tls=certificates.server_context()) as server:
        report = await smtp.test(relay(server.port, TlsMode.AUTO, ca_file=""), ENVELOPE, CONTENT)

    assert code(report) == (Stage.TLS, "tls_untrusted_certificate")
    assert report.tls is TlsMode.IMPLICIT


async def test_a_slow_banner_is_waited_for(relay: Callable[..., RelaySettings]) -> None:
    """The look for TLS must not disturb a server that only takes its time."""
    async with scripted_server({"BANNER": [Does.HANG]}) as server:
        settings = relay(server.port, deadlines=replace(DEADLINES, command_s=0.3))
        report = await smtp.test(settings, ENVELOPE, CONTENT)

    assert code(report) == (Stage.BANNER, "timeout")


@pytest.mark.parametrize("tls", [TlsMode.STARTTLS, TlsMode.AUTO])
async def test_tls_that_is_not_offered_is_never_done_without(tls: TlsMode, relay: Callable[..., RelaySettings]) -> None:
    async with scripted_server() as server:
        report = await smtp.test(relay(server.port, tls), ENVELOPE, CONTENT)

    assert code(report) == (Stage.TLS, "starttls_not_offered")
    assert not any(command.startswith("MAIL") for command in server.commands)


async def test_without_a_password_there_is_no_login(relay: Callable[..., RelaySettings]) -> None:
    async with scripted_server({"EHLO": b"250-x\r\n250 AUTH PLAIN\r\n"}) as server:
        report = await smtp.test(relay(server.port, user=USER), ENVELOPE, CONTENT)

    assert report.ok
    assert not any(command.startswith("AUTH") for command in server.commands)


@pytest.mark.parametrize("allowed", [False, True])
async def test_a_password_travels_in_clear_text_to_loopback_or_by_permission_only(
    allowed: bool, relay: Callable[..., RelaySettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(egress, "is_loopback", lambda address: False)
    async with scripted_server({"EHLO": b"250-x\r\n250 AUTH PLAIN LOGIN\r\n"}) as server:
        settings = relay(server.port, user=USER, password=PASSWORD, cleartext_auth=allowed)
        report = await smtp.test(settings, ENVELOPE, CONTENT)

    assert any(command.startswith("AUTH") for command in server.commands) is allowed
    if not allowed:
        assert code(report) == (Stage.AUTH, "auth_cleartext_forbidden")


async def test_a_lost_answer_to_quit_does_not_matter(relay: Callable[..., RelaySettings]) -> None:
    async with scripted_server({"QUIT": Does.DROP}) as server:
        report = await smtp.test(relay(server.port), ENVELOPE, CONTENT)

    assert report.ok
    assert len(server.contents) == 1


async def test_the_egress_policy_is_asked_before_any_connection(relay: Callable[..., RelaySettings]) -> None:
    async with scripted_server() as server:
        report = await smtp.test(relay(server.port), ENVELOPE, CONTENT, check=lambda address, port: "not allowed")

    assert code(report) == (Stage.CONNECT, "egress_denied")
    assert server.connections == 0


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
async def test_no_report_contains_the_password(mechanism: str, relay: Callable[..., RelaySettings]) -> None:
    """Also not when the server repeats what it was sent."""
    canary = "canary-7f3a"
    async with scripted_server(
        {"EHLO": b"250-x\r\n250 AUTH " + mechanism.encode() + b"\r\n", "AUTH": b"535 5.7.8 no\r\n"}
    ) as server:
        settings = relay(server.port, user=USER, password=SecretText(canary))
        report = await smtp.test(settings, ENVELOPE, CONTENT)

    assert code(report) == (Stage.AUTH, "auth_rejected")
    assert canary not in repr(report)
    assert canary not in repr(settings)


@pytest.mark.parametrize("tls", [TlsMode.STARTTLS, TlsMode.IMPLICIT])
async def test_a_handshake_that_hangs_is_not_waited_for(tls: TlsMode, relay: Callable[..., RelaySettings]) -> None:
    script: Script = {"BANNER": Does.HANG}
    if tls is TlsMode.STARTTLS:
        script = {"EHLO": b"250-x\r\n250 STARTTLS\r\n", "STAR": b"220 go\r\n", "HANDSHAKE": Does.HANG}
    async with scripted_server(script) as server:
        settings = relay(server.port, tls, deadlines=replace(DEADLINES, connect_s=0.5))
        report = await smtp.test(settings, ENVELOPE, CONTENT)

    assert code(report) == (Stage.TLS, "tls_timeout")
