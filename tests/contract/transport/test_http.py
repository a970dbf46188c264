"""What an HTTP provider gets, and what becomes of its answers."""

import asyncio
import hashlib
import hmac
from pathlib import Path
from typing import Any

import pytest

from mailward.ids import ProviderId
from mailward.message.envelope import Envelope
from mailward.secretbox import SecretText
from mailward.transport import http_connection
from mailward.transport.base import HTTPRelay
from mailward.transport.http import HttpTransport
from mailward.transport.outcome import Accepted, Bounced, Deferred, Fault, Outcome, Stage, Uncertain
from tests.support.certificates import make_certificates
from tests.support.http_servers import HttpScript, ScriptedReceiver, scripted_receiver
from tests.support.smtp_servers import Fault as Does
from tests.support.waiting import PATIENCE_S
from tests.support.ways import KEY, LONG, deliver

ENVELOPE = Envelope("from@example.com", ("to@example.net",))
FIVE = Envelope("from@example.com", tuple(f"r{n}@example.net" for n in range(5)))
CONTENT = b"From: Shop <from@example.com>\r\nSubject: hello\r\nMessage-ID: <1@example.com>\r\n\r\nhello\r\n"


async def nothing() -> None:
    pass


def way(receiver: ScriptedReceiver, **changes: Any) -> HttpTransport:
    values: dict[str, Any] = {"endpoint": receiver.url, "description": "hook", "deadlines": LONG}
    settings = HTTPRelay(provider_id=ProviderId("22"), signing_key=SecretText(KEY), **(values | changes))
    return HttpTransport(settings, clock=lambda: 1_790_000_000.9)


async def send(script: HttpScript, envelope: Envelope = ENVELOPE, **changes: Any) -> list[Outcome]:
    async with scripted_receiver(script) as receiver:
        transport = way(receiver, **changes)
        try:
            return await deliver(transport, envelope, CONTENT, nothing)
        finally:
            await transport.aclose()


async def test_the_post_is_what_zitadel_posts_and_its_signature_holds() -> None:
    async with scripted_receiver() as receiver:
        transport = way(receiver)
        await deliver(transport, ENVELOPE, CONTENT, nothing)
        await transport.aclose()

    [posted] = receiver.posted
    digest = hmac.new(KEY.encode(), b"1790000000." + posted.body, hashlib.sha256).hexdigest()
    assert posted.fields["zitadel-signature"] == f"t=1790000000,v1={digest}"
    assert posted.fields["content-type"] == "application/json"
    assert posted.target == "/mail?from=mailward"
    assert posted.json["contextInfo"] == {
        "eventType": "mailward.message",
        "provider": {"id": "22", "description": "hook"},
        "recipientEmailAddress": "to@example.net",
    }
    assert posted.json["templateData"] == {"subject": "hello", "text": "hello\n"}
    assert posted.json["args"]["messageID"] == "<1@example.com>"


async def test_each_recipient_has_a_post_and_an_outcome_of_its_own() -> None:
    """One bad recipient of five stops no other."""
    async with scripted_receiver({"BODY": [200, 202, 422, 201, 200]}) as receiver:
        transport = way(receiver)
        outcomes = await deliver(transport, FIVE, CONTENT, nothing)
        await transport.aclose()

    assert [posted.recipient for posted in receiver.posted] == list(FIVE.recipients)
    assert [type(outcome) for outcome in outcomes] == [Accepted, Accepted, Bounced, Accepted, Accepted]
    assert receiver.connections == 1


async def test_trouble_of_the_provider_ends_the_attempt_for_those_who_come_after() -> None:
    outcomes = await send({"BODY": [200, 503]}, FIVE)

    assert [type(outcome) for outcome in outcomes] == [Accepted] + [Deferred] * 4


async def test_a_doubt_about_one_recipient_is_none_about_those_who_come_after() -> None:
    outcomes = await send({"BODY": [200, Does.DROP]}, FIVE)

    assert [type(outcome) for outcome in outcomes] == [Accepted, Uncertain] + [Deferred] * 3


@pytest.mark.parametrize(
    ("status", "kind", "fault"),
    [
        (301, Deferred, Fault.PROVIDER),
        (400, Bounced, Fault.MESSAGE),
        (401, Deferred, Fault.PROVIDER),
        (403, Deferred, Fault.PROVIDER),
        (404, Deferred, Fault.PROVIDER),
        (410, Deferred, Fault.PROVIDER),
        (413, Bounced, Fault.MESSAGE),
        (418, Deferred, Fault.PROVIDER),
        (422, Bounced, Fault.MESSAGE),
        (429, Deferred, Fault.PROVIDER),
        (500, Deferred, Fault.PROVIDER),
        (503, Deferred, Fault.PROVIDER),
    ],
)
@pytest.mark.parametrize("moment", ["HEAD", "BODY"])
async def test_a_refusal_is_the_messages_fault_or_the_providers(
    status: int, kind: type[Outcome], fault: Fault, moment: str
) -> None:
    [outcome] = await send({moment: status})

    assert isinstance(outcome, kind)
    assert isinstance(outcome, Deferred | Bounced)
    assert outcome.fault is fault
    assert outcome.reply.code == status
    assert (outcome.stage is Stage.AUTH) == (status in (401, 403))


async def test_a_gateway_that_gave_up_waiting_leaves_a_doubt() -> None:
    [outcome] = await send({"BODY": 504})

    assert isinstance(outcome, Uncertain)


async def test_retry_after_is_handed_on() -> None:
    [seconds] = await send({"BODY": b"HTTP/1.1 429 Slow down\r\nRetry-After: 30\r\nContent-Length: 0\r\n\r\n"})
    date = b"Mon, 21 Sep 2026 14:13:30 GMT"
    [until] = await send({"BODY": b"HTTP/1.1 503 Later\r\nRetry-After: %b\r\nContent-Length: 0\r\n\r\n" % date})

    assert isinstance(seconds, Deferred)
    assert isinstance(until, Deferred)
    assert (seconds.wait_s, round(until.wait_s)) == (30.0, 9)


async def test_a_redirect_is_not_followed() -> None:
    async with scripted_receiver() as other:
        answer = b"HTTP/1.1 307 Elsewhere\r\nLocation: %b\r\nContent-Length: 0\r\n\r\n" % other.url.encode()
        [outcome] = await send({"BODY": answer})

    assert isinstance(outcome, Deferred)
    assert other.connections == 0


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nConnection: close\r\n\r\nuntil the end",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n" + b"x" * 3_000_000,
    ],
)
async def test_any_2xx_is_success_however_it_is_framed(answer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_connection, "_REST_S", 0.2)
    [outcome] = await send({"BODY": [answer, Does.DROP]})

    assert isinstance(outcome, Accepted)


@pytest.mark.parametrize(
    "answer",
    [b"not HTTP at all\r\n", b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000, b"HTTP/1.1 101 Up\r\nUpgrade: x\r\n\r\n"],
)
async def test_what_is_no_answer_leaves_a_doubt(answer: bytes) -> None:
    [outcome] = await send({"BODY": answer})

    assert isinstance(outcome, Uncertain)


async def test_an_idle_connection_that_was_closed_does_no_harm() -> None:
    async with scripted_receiver() as receiver:
        transport = way(receiver)
        await deliver(transport, ENVELOPE, CONTENT, nothing)
        receiver.hang_up()
        async with asyncio.timeout(PATIENCE_S / 2):
            [outcome] = await deliver(transport, ENVELOPE, CONTENT, nothing)
        await transport.aclose()

    assert isinstance(outcome, Accepted | Uncertain)  # The end may cross the goodbye on the wire.


async def test_a_certificate_is_verified(tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path)
    for file, ca_file, kind in (
        (certificates.server, str(certificates.ca), Accepted),
        (certificates.server, "", Deferred),
        (certificates.other_name, str(certificates.ca), Deferred),
        (certificates.expired, str(certificates.ca), Deferred),
    ):
        async with scripted_receiver(tls=certificates.server_context(file)) as receiver:
            transport = way(receiver, ca_file=ca_file)
            [outcome] = await deliver(transport, ENVELOPE, CONTENT, nothing)
            await transport.aclose()

        assert isinstance(outcome, kind)
        assert isinstance(outcome, Accepted) or (isinstance(outcome, Deferred) and outcome.stage is Stage.TLS)


async def test_the_egress_policy_is_asked() -> None:
    async with scripted_receiver() as receiver:
        settings = HTTPRelay(provider_id=ProviderId("1"), endpoint=receiver.url, signing_key=SecretText(KEY))
        transport = HttpTransport(settings, check=lambda address, port: "no loopback")
        [outcome] = await deliver(transport, ENVELOPE, CONTENT, nothing)
        await transport.aclose()

    assert isinstance(outcome, Deferred)
    assert "no loopback" in outcome.reply.text
    assert receiver.connections == 0
