"""Thirty faults and more: a test mail finds each, at its stage, by its code, with its cause and what to do."""

import asyncio
import socket
import time
from dataclasses import replace
from typing import Any

import pytest

from mailward.ids import ProviderId
from mailward.message.envelope import Envelope
from mailward.secretbox import SecretText
from mailward.transport import smtp
from mailward.transport.base import RelaySettings, TlsMode
from mailward.transport.report import CODES
from tests.support.certificates import Certificates, make_certificates
from tests.support.faults import FAULTS, PASSWORD, USER, WAITED_FOR, WRONG_PIN, Fault, staged
from tests.support.smtp_servers import scripted_server
from tests.support.waiting import PATIENCE_S
from tests.support.ways import LONG

CONTENT = b"Subject: hello\r\n\r\n" + b"hello\r\n" * 20
PATIENT = replace(LONG, tls_probe_s=0.05)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


def relay(host: str, port: int, **changes: Any) -> RelaySettings:
    values: dict[str, Any] = {"tls": TlsMode.NONE, "ehlo_name": "gateway.example", "deadlines": PATIENT} | changes
    return RelaySettings(provider_id=ProviderId("1"), host=host, port=port, **values)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
async def test_a_fault_is_found_where_it_is_and_named(fault: Fault, certificates: Certificates) -> None:
    envelope = Envelope("from@example.com", (fault.to,), smtputf8=not fault.to.isascii())
    async with staged(fault, certificates) as port:
        settings = relay(
            "127.0.0.1",
            port,
            deadlines=replace(PATIENT, **{WAITED_FOR[fault.code]: 0.5}) if fault.code in WAITED_FOR else PATIENT,
            tls=TlsMode(fault.tls),
            ca_bundle=certificates.ca.read_text() if fault.trusts else "",
            pins=(WRONG_PIN,) if fault.pinned else (),
            user=USER if fault.login else "",
            password=SecretText(PASSWORD) if fault.login else None,
        )
        began = time.monotonic()
        report = await smtp.test(settings, envelope, CONTENT)
        took_s = time.monotonic() - began

    failure = report.failure
    assert failure is not None
    assert (failure.stage.value, failure.code) == (fault.stage, fault.code)
    assert fault.words in failure.words
    assert fault.hint in f"{failure.cause} {failure.fix}"
    assert [step.stage.value for step in report.steps if not step.ok] == [fault.stage]
    assert PASSWORD not in repr(report)
    assert took_s < PATIENCE_S / 2


def test_they_are_thirty_at_least_and_their_hints_tell_codes_apart() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) >= 30
    for fault in FAULTS:
        assert any(fault.hint in text for text in CODES[fault.code])


@pytest.mark.parametrize(
    ("answer", "code", "hint"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "host_not_found", "spelling"),
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"), "resolve_failed", "try again"),
        (None, "resolve_timeout", "DNS"),
    ],
)
async def test_trouble_with_the_name_is_told_apart_by_whose_it_is(
    answer: OSError | None, code: str, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def resolve(*_: Any, **__: Any) -> Any:
        if answer is None:
            await asyncio.Event().wait()
        raise answer  # type: ignore[misc]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)

    report = await smtp.test(
        relay("smtp.example.com", 25, deadlines=replace(LONG, connect_s=0.5)),
        Envelope("a@example.com", ("b@example.net",)),
        CONTENT,
    )

    assert report.failure is not None
    assert (report.failure.stage.value, report.failure.code) == ("resolve", code)
    assert hint in report.failure.fix


async def test_a_name_is_looked_up_once_and_just_the_checked_addresses_are_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A name may answer otherwise the next time it is asked (DNS rebinding): so it is not asked again."""
    answers = [["127.0.0.3", "127.0.0.1"], ["169.254.169.254"]]
    loop = asyncio.get_running_loop()
    checked: list[str] = []
    async with scripted_server() as server:

        async def resolve(host: str, port: int, **_: Any) -> Any:
            found = answers.pop(0) if host == "rebinding.example.com" else [host]  # uvloop asks about addresses too
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]

        def check(address: str, port: int) -> str | None:
            checked.append(address)
            return "denied" if address == "127.0.0.3" else None

        monkeypatch.setattr(loop, "getaddrinfo", resolve)
        envelope = Envelope("a@example.com", ("b@example.net",))
        report = await smtp.test(relay("rebinding.example.com", server.port), envelope, CONTENT, check=check)

    assert report.ok
    assert (checked, len(answers)) == (["127.0.0.3", "127.0.0.1"], 1)
    assert report.steps[0].words == "127.0.0.1"
