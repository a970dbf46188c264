"""Mail handed over by SMTP, by independent clients, to a listener on loopback before a house that pretends to store."""

import asyncio
import smtplib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from email.message import EmailMessage
from ipaddress import ip_network
from pathlib import Path

import aiosmtplib
import pytest

from mailward.errors import InvalidArgument, PermissionDenied, TooManyFailures, Unavailable
from mailward.message.envelope import Envelope
from mailward.smtpd.door import SmtpdSettings
from mailward.smtpd.listener import SmtpListener
from mailward.smtpd.tls import self_signed, server_context
from tests.support.submission_door import FIRST_ID, SETTINGS, Client, PretendingHouse, open_door
from tests.support.waiting import PATIENCE_S

_MAIL = b"From: a@example.com\r\nSubject: s\r\n\r\nbody\r\n"
_TRANSACTION = b"MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.com>\r\nDATA\r\n"


@pytest.fixture
async def house() -> PretendingHouse:
    return PretendingHouse()


@pytest.fixture(scope="session")
def server_tls(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    return server_context(self_signed(tmp_path_factory.mktemp("tls"), "mx.example", datetime.now(UTC)))


@pytest.fixture(scope="session")
def client_tls(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@asynccontextmanager
async def _client(
    house: PretendingHouse, settings: SmtpdSettings = SETTINGS, token: str = "mw_sender"
) -> AsyncIterator[Client]:
    async with open_door(house, settings) as (_, port):
        client = await Client.greeted(port, token=token)
        try:
            yield client
        finally:
            await client.close()


def _message() -> EmailMessage:
    message = EmailMessage()
    message["From"] = "App <app@example.com>"
    message["To"] = "ann@example.com"
    message["Bcc"] = "eve@example.com"
    message["Subject"] = "Grüße"
    message.set_content("Zeile eins\n.\n..zwei\n")
    return message


async def test_smtplib_hands_a_message_over(house: PretendingHouse) -> None:
    """AUTH PLAIN on loopback, SIZE, 8BITMIME; Bcc is dropped, the trace and what is missing added."""

    def send(port: int) -> tuple[dict[str, str], object]:
        with smtplib.SMTP("127.0.0.1", port, local_hostname="client.example") as smtp:
            smtp.ehlo()
            smtp.login("any name", "mw_sender")
            features = smtp.esmtp_features
            refused = smtp.send_message(_message(), to_addrs=["ann@example.com", "eve@EXAMPLE.com", "eve@example.com"])
            return features, refused

    async with open_door(house) as (_, port):
        features, refused = await asyncio.to_thread(send, port)

    assert refused == {}
    assert set(features) >= {"pipelining", "size", "8bitmime", "smtputf8", "enhancedstatuscodes", "auth"}
    assert "starttls" not in features
    (submission,) = house.submissions
    assert submission.envelope == Envelope("app@example.com", ("ann@example.com", "eve@example.com"))
    assert (submission.sender, submission.ingress, submission.subject) == ("sender-1", "smtp", "Grüße")
    assert house.content().startswith(
        b"Received: from client.example ([127.0.0.1])\r\n\tby mx.example with ESMTPA id msg_200000000000000001; "
        b"Mon, 30 Nov 2026 00:53:20 +0000\r\nDate: "
    )
    assert b"eve" not in house.content()
    assert house.content().endswith(b"\r\n\r\nZeile eins\r\n.\r\n..zwei\r\n")


async def test_aiosmtplib_hands_a_message_over_after_starttls(
    house: PretendingHouse, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    """The trace tells of TLS and AUTH."""
    async with (
        open_door(house, replace(SETTINGS, tls=server_tls)) as (_, port),
        aiosmtplib.SMTP(
            hostname="127.0.0.1", port=port, start_tls=True, tls_context=client_tls, username="x", password="mw_sender"
        ) as smtp,
    ):
        _, answer = await smtp.sendmail("a@example.com", ["b@example.com"], _MAIL)

    assert answer == f"2.0.0 queued as msg_{FIRST_ID}"
    assert b"with ESMTPSA id" in house.content()


async def test_implicit_tls_is_encrypted_from_the_first_byte(
    house: PretendingHouse, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    """RFC 8314; STARTTLS is not offered within."""

    def send(port: int) -> bool:
        with smtplib.SMTP_SSL("127.0.0.1", port, context=client_tls) as smtp:
            smtp.login("x", "mw_sender")
            smtp.sendmail("a@example.com", ["b@example.com"], _MAIL)
            return smtp.has_extn("starttls")

    async with open_door(house, replace(SETTINGS, tls=server_tls), implicit_tls=True) as (_, port):
        assert not await asyncio.to_thread(send, port)

    assert len(house.submissions) == 1


async def test_what_is_pipelined_behind_starttls_is_forgotten(
    house: PretendingHouse, server_tls: ssl.SSLContext
) -> None:
    """RFC 3207 6: otherwise an attacker on the way could speak before the client does."""
    async with open_door(house, replace(SETTINGS, tls=server_tls)) as (_, port):
        client = await Client.greeted(port, token="")
        client.send(b"STARTTLS\r\nEHLO attacker.example\r\n" + _TRANSACTION)
        assert (await client.reply()).startswith("220 ")
        await client.start_tls()

        assert (await client.say("NOOP")).startswith("250 ")
        assert (await client.say("MAIL FROM:<a@example.com>")).startswith("503 ")
        assert "AUTH PLAIN LOGIN" in await client.say("EHLO client.example")
        await client.close()


async def test_a_handshake_that_does_not_come_is_not_waited_for(
    house: PretendingHouse, server_tls: ssl.SSLContext
) -> None:
    """The connection is dropped."""
    async with open_door(house, replace(SETTINGS, tls=server_tls, handshake_s=0.05)) as (_, port):
        client = await Client.greeted(port, token="")
        await client.say("STARTTLS")
        assert await client.ended()
        await client.close()


async def test_a_failed_handshake_ends_the_connection(house: PretendingHouse, server_tls: ssl.SSLContext) -> None:
    """Clear text where TLS is due is no TLS."""
    async with open_door(house, replace(SETTINGS, tls=server_tls)) as (listener, port):
        client = await Client.greeted(port, token="")
        await client.say("STARTTLS")
        client.send(b"EHLO again\r\n" * 10)
        await client.reader.read()
        await client.close()
        await listener.stop(1.0)
        assert listener.sessions == 0


async def test_mail_needs_authentication(house: PretendingHouse) -> None:
    """530 before AUTH."""
    async with _client(house, token="") as client:
        assert (await client.say("MAIL FROM:<a@example.com>")).startswith("530 5.7.0")


async def test_an_open_network_needs_none(house: PretendingHouse) -> None:
    """Its messages are filed under a name of their own."""
    settings = replace(SETTINGS, open_networks=(ip_network("127.0.0.0/8"),))
    async with _client(house, settings, token="") as client:
        client.send(_TRANSACTION + _MAIL + b".\r\n")
        assert (await client.replies(4))[-1].startswith("250 2.0.0 queued as msg_")

    assert house.submissions[0].sender == "smtp-open"
    assert b"with ESMTP id" in house.content()


@pytest.mark.parametrize("token", ["mw_nobody", "mw_viewer", ""])
async def test_bad_credentials_are_refused_and_then_the_connection(house: PretendingHouse, token: str) -> None:
    """An unknown token, and one that may not send, get the same words; the third time we hang up."""
    async with open_door(house) as (_, port):
        client = await Client.greeted(port, token="")
        answers = []
        for _ in range(3):
            await client.say("AUTH LOGIN")
            await client.say("YXBw")
            client.writer.write(_base64(token) + b"\r\n")
            answers.append(await client.reply())
        assert await client.ended()
        await client.close()

    assert [answer[:9] for answer in answers] == ["535 5.7.8", "535 5.7.8", "421 4.7.0"]


def _base64(text: str) -> bytes:
    from base64 import b64encode

    return b64encode(text.encode())


async def test_who_was_wrong_too_often_is_sent_away_unseen(house: PretendingHouse) -> None:
    house.broken = TooManyFailures("TEST-1", "wait 12 s")
    async with _client(house, token="") as client:
        assert await client.say("AUTH PLAIN " + _base64("\0app\0mw_sender").decode()) == "421 4.7.0 wait 12 s"
        assert await client.ended()


async def test_credentials_that_are_good_no_longer_end_the_session_at_its_next_message(house: PretendingHouse) -> None:
    async with _client(house) as client:
        client.send(_TRANSACTION)
        assert (await client.replies(3))[-1].startswith("354")
        assert house.standing is not None
        house.standing.grant = None
        client.send(_MAIL + b".\r\n")
        assert (await client.reply()).startswith("250"), "a message that has begun is finished"

        assert (await client.say("MAIL FROM:<a@example.com>")).startswith("421 4.7.0")
        assert await client.ended()
    assert len(house.submissions) == 1


async def test_nobody_acts_as_somebody_else(house: PretendingHouse) -> None:
    """An authorization identity that differs is refused."""
    async with _client(house, token="") as client:
        assert (await client.say("AUTH PLAIN " + _base64("boss\0app\0mw_sender").decode())).startswith("535")
        assert house.refused == ["another authorization identity"]
        assert (await client.say("AUTH PLAIN " + _base64("app\0app\0mw_sender").decode())).startswith("235")


async def test_authentication_that_cannot_be_judged_is_put_off(house: PretendingHouse) -> None:
    """A store that is away is no proof of a wrong token."""
    house.broken = Unavailable("TEST-1", "store away")
    async with _client(house, token="") as client:
        assert (await client.say("AUTH PLAIN " + _base64("\0app\0mw_sender").decode())).startswith("454 4.7.0")


@pytest.mark.parametrize(
    ("error", "answer"),
    [
        (Unavailable("TEST-1", "secret detail"), "451 4.3.0 the message cannot be stored now, try again later"),
        (RuntimeError("secret detail"), "451 4.3.0 the message cannot be stored now, try again later"),
        (PermissionDenied("TEST-2", "not from there"), "550 5.7.1 not from there (TEST-2)"),
        (InvalidArgument("TEST-3", "not so"), "550 5.6.0 not so (TEST-3)"),
    ],
)
async def test_what_was_not_stored_is_not_acknowledged(house: PretendingHouse, error: Exception, answer: str) -> None:
    """Temporary for our troubles, permanent for the message's; the session goes on."""
    house.error = error
    async with _client(house) as client:
        client.send(_TRANSACTION + _MAIL + b".\r\n")
        assert (await client.replies(4))[-1] == answer
        house.error = None
        client.send(_TRANSACTION + _MAIL + b".\r\n")
        assert (await client.replies(4))[-1].startswith("250 2.0.0")


async def test_a_message_that_is_none_is_refused(house: PretendingHouse) -> None:
    """With the reason."""
    async with _client(house) as client:
        client.send(_TRANSACTION + b"no header\r\n.\r\n")
        assert (await client.replies(4))[-1].startswith(
            "550 5.6.0 the header section has a line that is no header field"
        )
    assert house.submissions == []


async def test_the_answer_comes_after_the_commit(house: PretendingHouse) -> None:
    """Not before, whatever else the client says meanwhile."""
    house.hold = True
    async with _client(house) as client:
        client.send(_TRANSACTION + _MAIL + b".\r\nNOOP\r\n")
        await client.replies(3)
        await house.submitted.wait()
        client.send(b"NOOP\r\n" * 1000)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.reader.read(1), 0.05)
        house.release()
        answers = await client.replies(1002)

    assert answers[0].startswith("250 2.0.0 queued as msg_")
    assert set(answers[1:]) == {"250 2.0.0 ok"}


async def test_many_messages_in_one_packet_are_answered_in_order(house: PretendingHouse) -> None:
    """RFC 2920, further than it asks: clients that do not wait for the 354 either."""
    async with _client(house) as client:
        client.send((_TRANSACTION + _MAIL + b".\r\n") * 20 + b"QUIT\r\n")
        answers = await client.replies(81)
        assert await client.ended()

    assert [answer.rpartition("_")[2] for answer in answers[3::4]] == [str(FIRST_ID + n) for n in range(20)]
    assert answers[-1].startswith("221 ")
    assert len(house.submissions) == 20


@pytest.mark.parametrize("end", [b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r\n.\r", b"\r.\r\n"])
async def test_a_false_end_smuggles_nothing(house: PretendingHouse, end: bytes) -> None:
    """What one server takes for the end and another for content must reach neither."""
    smuggled = (
        b"MAIL FROM:<boss@example.com>\r\nRCPT TO:<b@example.com>\r\nDATA\r\nFrom: boss@example.com\r\n\r\nx\r\n.\r\n"
    )
    async with _client(house) as client:
        client.send(_TRANSACTION + _MAIL.removesuffix(b"\r\n") + end + smuggled)
        answers = await client.replies(4)

    assert [answer[:3] for answer in answers] == ["250", "250", "354", "550"]
    assert house.submissions == []


async def test_a_big_message_arrives_whole(house: PretendingHouse) -> None:
    """Completed in a thread, byte for byte."""
    body = b"".join(b"%064d\r\n" % n for n in range(120_000))
    async with _client(house) as client:
        client.send(_TRANSACTION)
        await client.replies(3)
        client.send(_MAIL + body + b".\r\nNOOP\r\n")
        assert (await client.reply()).startswith("250 2.0.0 queued as")
        assert await client.reply() == "250 2.0.0 ok"

    assert house.content().endswith(_MAIL + body)


async def test_a_message_over_the_limit_is_refused(house: PretendingHouse) -> None:
    """Announced or not; the session goes on."""
    async with _client(house, replace(SETTINGS, max_size_bytes=100_000)) as client:
        assert (await client.say("MAIL FROM:<a@example.com> SIZE=100001")).startswith("552 5.3.4")
        client.send(_TRANSACTION + _MAIL + b"a\r\n" * 50_000 + b".\r\n")
        assert (await client.replies(4))[-1].startswith("552 5.3.4")
        assert (await client.say("NOOP")).startswith("250")


async def test_international_addresses_become_a_labels(house: PretendingHouse) -> None:
    """And the message needs SMTPUTF8 only when something remains that is not ASCII."""
    async with _client(house) as client:
        for path, sent in (
            ("ann@bücher.example", "ann@xn--bcher-kva.example"),
            ("jürgen@example.com", "jürgen@example.com"),
        ):
            client.send(
                f"MAIL FROM:<a@exämple.com> SMTPUTF8\r\nRCPT TO:<{path}>\r\nDATA\r\n".encode() + _MAIL + b".\r\n"
            )
            assert (await client.replies(4))[-1].startswith("250")
            assert house.submissions[-1].envelope == Envelope(
                "a@xn--exmple-cua.com", (sent,), smtputf8=not sent.isascii()
            )
    assert b"with UTF8SMTPA id" in house.content()


async def test_each_recipient_has_its_own_answer(house: PretendingHouse) -> None:
    """A bad one does not spoil the others, and nothing of an earlier transaction stays."""
    async with _client(house) as client:
        client.send(b"MAIL FROM:<old@example.com>\r\nRCPT TO:<old@example.com>\r\nRSET\r\n")
        client.send(b"MAIL FROM:<>\r\nRCPT TO:<b@example.com>\r\nRCPT TO:<b@xn--a.example>\r\nRCPT TO:<Postmaster>\r\n")
        client.send(b"RCPT TO:<c@example.com>\r\nDATA\r\n" + _MAIL + b".\r\n")
        answers = await client.replies(10)

    assert [answer[:9] for answer in answers[5:7]] == ["553 5.1.3", "553 5.1.3"]
    assert house.submissions[0].envelope == Envelope("", ("b@example.com", "c@example.com"))


async def test_a_client_that_says_nothing_is_sent_away(house: PretendingHouse) -> None:
    """Also one that sends a byte now and then: the command has to be whole in time."""
    async with open_door(house, replace(SETTINGS, command_s=0.1)) as (_, port):
        client = await Client.connect(port)
        assert (await client.reply()).startswith("220")
        client.send(b"NO")
        assert (await client.reply()).startswith("421 4.4.2")
        assert await client.ended()
        await client.close()


async def test_content_that_does_not_end_is_not_waited_for(house: PretendingHouse) -> None:
    """It has a deadline of its own."""
    async with _client(house, replace(SETTINGS, data_s=0.1)) as client:
        client.send(_TRANSACTION + _MAIL)
        assert (await client.replies(4))[-1].startswith("421 4.4.2")
        assert await client.ended()


async def test_a_client_is_not_blamed_for_our_slowness(house: PretendingHouse) -> None:
    """While it waits for the commit no deadline runs."""
    house.hold = True
    async with _client(house, replace(SETTINGS, command_s=1.0)) as client:
        client.send(_TRANSACTION + _MAIL + b".\r\n")
        await client.replies(3)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.reader.read(1), 1.5)
        house.release()
        assert (await client.reply()).startswith("250 2.0.0")


async def test_a_client_that_reads_nothing_is_not_read_from(house: PretendingHouse) -> None:
    """Our replies must not pile up; at its deadline it is dropped."""
    async with open_door(house, replace(SETTINGS, command_s=1.0, handshake_s=0.1)) as (listener, port):
        client = await Client.greeted(port)
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        client.send(b"NOOP\r\n" * 2_000_000)
        await _until_empty(listener)
        client.writer.transport.abort()


async def _until_empty(listener: SmtpListener) -> None:
    """Let the loop turn until the last session is gone."""
    async with asyncio.timeout(PATIENCE_S):
        while listener.sessions:
            await asyncio.to_thread(int)


async def test_there_is_a_limit_to_connections(house: PretendingHouse) -> None:
    """Whoever comes too many is told so."""
    async with open_door(house, replace(SETTINGS, max_connections=2)) as (_, port):
        first, second, third = [await Client.connect(port) for _ in range(3)]
        assert (await first.reply()).startswith("220 ")
        assert (await second.reply()).startswith("220 ")
        assert (await third.reply()).startswith("421 4.3.2")
        assert await third.ended()
        await first.say("QUIT")
        assert await first.ended()
        fourth = await Client.connect(port)
        assert (await fourth.reply()).startswith("220 ")
        for client in (first, second, third, fourth):
            await client.close()


async def test_stopping_breaks_no_promise(house: PretendingHouse) -> None:
    """Idle sessions hear 421; one that waits for its commit hears the answer first; nobody new comes in."""
    house.hold = True
    async with open_door(house) as (listener, port):
        idle, waiting = await Client.greeted(port), await Client.greeted(port)
        waiting.send(_TRANSACTION + _MAIL + b".\r\n")
        await waiting.replies(3)
        await house.submitted.wait()

        stopping = asyncio.ensure_future(listener.stop(PATIENCE_S))
        assert (await idle.reply()).startswith("421 4.3.2")
        assert await idle.ended()
        with pytest.raises(OSError):
            await Client.connect(port)
        assert not stopping.done()
        house.release()
        assert (await waiting.reply()).startswith("250 2.0.0 queued as")
        assert (await waiting.reply()).startswith("421 4.3.2")
        assert await waiting.ended()
        await stopping
        await idle.close()
        await waiting.close()


async def test_stopping_has_an_end(house: PretendingHouse) -> None:
    """Who still waits at the deadline is dropped without an answer."""
    house.hold = True
    async with open_door(house) as (listener, port):
        client = await Client.greeted(port)
        client.send(_TRANSACTION + _MAIL + b".\r\n")
        await client.replies(3)
        await house.submitted.wait()
        await listener.stop(0.05)
        assert listener.sessions == 0
        assert await client.ended()
        await client.close()


async def test_a_client_that_vanishes_during_the_commit_harms_nobody(house: PretendingHouse) -> None:
    """Its message is stored; the answer has nobody to go to."""
    house.hold = True
    async with open_door(house) as (listener, port):
        client = await Client.greeted(port)
        client.send(_TRANSACTION + _MAIL + b".\r\n")
        await client.replies(3)
        await house.submitted.wait()
        client.writer.transport.abort()
        house.release()
        await _until_empty(listener)
        other = await Client.greeted(port)
        await other.close()


async def test_a_client_that_ended_its_side_still_gets_its_answer(house: PretendingHouse) -> None:
    """As when a script pipes a whole dialogue into a socket."""
    house.hold = True
    async with _client(house) as client:
        client.send(_TRANSACTION + _MAIL + b".\r\n")
        client.writer.write_eof()
        await client.replies(3)
        await house.submitted.wait()
        house.release()
        assert (await client.reply()).startswith("250 2.0.0 queued as")
        assert await client.ended()


async def test_auth_is_offered_in_clear_text_on_loopback_only(
    house: PretendingHouse, server_tls: ssl.SSLContext
) -> None:
    """Elsewhere it takes TLS first."""
    listener = SmtpListener(replace(SETTINGS, tls=server_tls), house.house)

    assert listener.machine_config(is_open=False, is_loopback=True).auth_without_tls
    assert not listener.machine_config(is_open=False, is_loopback=False).auth_without_tls
    assert listener.machine_config(is_open=False, is_loopback=False).auth_required


async def test_implicit_tls_without_a_certificate_is_an_error(house: PretendingHouse, tmp_path: Path) -> None:
    """At start, not at the first client."""
    with pytest.raises(ValueError, match="certificate"):
        await SmtpListener(SETTINGS, house.house).start("127.0.0.1", 0, implicit_tls=True)
