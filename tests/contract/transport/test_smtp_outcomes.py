"""What becomes of a message at each stage of a conversation with a relay that misbehaves there."""

import asyncio
from dataclasses import replace

import pytest

from mailward.ids import ProviderId
from mailward.message.envelope import Envelope
from mailward.smtp.reply import Reply
from mailward.transport.base import Deadlines, RelaySettings, TlsMode
from mailward.transport.outcome import Accepted, Bounced, Deferred, Fault, Outcome, Stage, Uncertain
from mailward.transport.pool import SmtpTransport
from tests.support.program import free_port
from tests.support.smtp_servers import WITHOUT_PIPELINING, Script, scripted_server
from tests.support.smtp_servers import Fault as Does
from tests.support.waiting import until
from tests.support.ways import LONG, deliver

ENVELOPE = Envelope("from@example.com", ("to@example.net",))
TWO = Envelope("from@example.com", ("one@example.net", "two@example.net"))
CONTENT = b"Subject: hello\r\n\r\nhello\r\n.dot\r\n"
IMPATIENT = replace(LONG, command_s=1.5, tls_probe_s=0.05)


def relay(port: int, deadlines: Deadlines = LONG) -> RelaySettings:
    return RelaySettings(
        provider_id=ProviderId("1"),
        host="127.0.0.1",
        port=port,
        tls=TlsMode.NONE,
        ehlo_name="gateway.example",
        deadlines=deadlines,
    )


async def nothing() -> None:
    pass


async def send(
    script: Script, envelope: Envelope = ENVELOPE, content: bytes = CONTENT, deadlines: Deadlines = LONG
) -> list[Outcome]:
    async with scripted_server(script) as server:
        transport = SmtpTransport(relay(server.port, deadlines))
        try:
            return await deliver(transport, envelope, content, nothing)
        finally:
            await transport.aclose()


async def test_a_message_is_accepted_with_the_reply_to_the_final_dot() -> None:
    async with scripted_server() as server:
        transport = SmtpTransport(relay(server.port))
        outcomes = await deliver(transport, TWO, CONTENT, nothing)
        await transport.aclose()

    assert outcomes == [Accepted(Reply(250, "2.0.0", "kept"))] * 2
    assert server.commands == [
        "EHLO gateway.example",
        f"MAIL FROM:<from@example.com> SIZE={len(CONTENT)}",
        "RCPT TO:<one@example.net>",
        "RCPT TO:<two@example.net>",
        "DATA",
        "QUIT",
    ]
    assert server.contents == [b"Subject: hello\r\n\r\nhello\r\n..dot\r\n.\r\n"]


@pytest.mark.parametrize(("verb", "stage"), [("BANNER", Stage.BANNER), ("EHLO", Stage.EHLO)])
async def test_a_permanent_refusal_before_mail_is_the_providers_fault_and_defers(verb: str, stage: Stage) -> None:
    """One misconfigured relay must not bounce the queue."""
    script: Script = {verb: b"554 5.3.2 not you\r\n", "HELO": b"554 5.3.2 not you\r\n"}

    assert await send(script) == [Deferred(stage, Fault.PROVIDER, Reply(554, "5.3.2", "not you"))]


@pytest.mark.parametrize("pipelining", [True, False])
@pytest.mark.parametrize(
    ("verb", "stage", "fault"),
    [
        ("MAIL", Stage.MAIL, Fault.MESSAGE),
        ("RCPT", Stage.RCPT, Fault.RECIPIENT),
        ("DATA", Stage.DATA, Fault.MESSAGE),
        ("FINAL", Stage.FINAL, Fault.MESSAGE),
    ],
)
async def test_a_refusal_in_a_transaction_defers_or_bounces_by_its_class(
    verb: str, stage: Stage, fault: Fault, pipelining: bool
) -> None:
    base = {} if pipelining else WITHOUT_PIPELINING

    assert await send(base | {verb: b"550 5.7.1 no\r\n"}) == [Bounced(stage, fault, Reply(550, "5.7.1", "no"))]
    assert await send(base | {verb: b"450 4.7.1 later\r\n"}) == [Deferred(stage, fault, Reply(450, "4.7.1", "later"))]


async def test_mail_refused_for_want_of_a_login_is_the_providers_fault() -> None:
    """530 says that our setup is wrong, whatever command it answers."""
    refused = Reply(530, "5.7.0", "login first")

    assert await send({"MAIL": b"530 5.7.0 login first\r\n"}) == [Deferred(Stage.MAIL, Fault.PROVIDER, refused)]


async def test_one_refused_recipient_does_not_stop_the_others() -> None:
    outcomes = await send({"RCPT": [b"550 5.1.1 unknown\r\n", b"250 2.1.5 ok\r\n"]}, TWO)

    assert outcomes == [
        Bounced(Stage.RCPT, Fault.RECIPIENT, Reply(550, "5.1.1", "unknown")),
        Accepted(Reply(250, "2.0.0", "kept")),
    ]


async def test_552_to_a_later_recipient_means_too_many_and_defers_it() -> None:
    """RFC 5321 4.5.3.1.10."""
    outcomes = await send({"RCPT": [b"250 ok\r\n", b"552 too many\r\n"]}, TWO)

    assert outcomes[1] == Deferred(Stage.RCPT, Fault.RECIPIENT, Reply(552, "", "too many"))


async def test_a_server_that_opens_data_for_nobody_gets_a_lone_dot() -> None:
    """RFC 2920 3.1: nothing of the message may reach it."""
    async with scripted_server({"RCPT": b"550 5.1.1 unknown\r\n", "FINAL": b"554 5.5.1 nobody\r\n"}) as server:
        transport = SmtpTransport(relay(server.port))
        outcomes = await deliver(transport, ENVELOPE, CONTENT, nothing)
        await transport.aclose()

    assert outcomes == [Bounced(Stage.RCPT, Fault.RECIPIENT, Reply(550, "5.1.1", "unknown"))]
    assert server.contents == [b""]


@pytest.mark.parametrize("verb", ["BANNER", "EHLO", "MAIL", "RCPT", "DATA"])
@pytest.mark.parametrize("does", list(Does))
async def test_silence_or_a_lost_connection_before_the_final_dot_defers(verb: str, does: Does) -> None:
    [outcome] = await send({verb: does}, deadlines=IMPATIENT if does is Does.HANG else LONG)

    assert isinstance(outcome, Deferred)
    assert outcome.stage == Stage[verb]
    assert outcome.fault is Fault.PROVIDER
    assert outcome.reply.code == 451


@pytest.mark.parametrize("does", list(Does))
async def test_silence_or_a_lost_connection_after_the_final_dot_is_uncertain(does: Does) -> None:
    """It may have been taken: nobody may simply try again."""
    [outcome] = await send({"FINAL": does}, deadlines=replace(LONG, final_s=0.2))

    assert isinstance(outcome, Uncertain)


@pytest.mark.parametrize("does", list(Does))
async def test_silence_or_a_lost_connection_within_large_content_defers(does: Does) -> None:
    """The dot never left, so nothing was handed over."""
    content = b"Subject: large\r\n\r\n" + (b"x" * 76 + b"\r\n") * 300_000
    script: Script = {"EHLO": b"250-scripted\r\n250 PIPELINING\r\n", "CONTENT": does}

    [outcome] = await send(script, content=content, deadlines=replace(LONG, data_s=0.2))

    assert isinstance(outcome, Deferred)
    assert outcome.stage is Stage.DATA


async def test_what_was_refused_stays_refused_when_the_connection_is_lost_later() -> None:
    script: Script = {"RCPT": [b"550 5.1.1 unknown\r\n", b"250 ok\r\n"], "FINAL": Does.DROP}

    outcomes = await send(script, TWO)

    assert isinstance(outcomes[0], Bounced)
    assert isinstance(outcomes[1], Uncertain)


@pytest.mark.parametrize("verb", ["BANNER", "EHLO", "MAIL", "RCPT", "DATA", "FINAL"])
async def test_421_defers_at_any_stage(verb: str) -> None:
    [outcome] = await send({verb: b"421 4.3.2 closing\r\n"})

    assert isinstance(outcome, Deferred)
    assert outcome.stage == Stage[verb]
    assert outcome.fault is Fault.PROVIDER
    assert outcome.reply == Reply(421, "4.3.2", "closing")


GARBAGE = [b"HTTP/1.1 400 Bad Request\r\n", b"2", b"999 what\r\n", b"250-a\r\n550 b\r\n", b"250 " + b"x" * 9000]


@pytest.mark.parametrize("garbage", GARBAGE)
@pytest.mark.parametrize("verb", ["BANNER", "MAIL"])
async def test_garbage_defers(verb: str, garbage: bytes) -> None:
    [outcome] = await send({verb: garbage}, deadlines=IMPATIENT)

    assert isinstance(outcome, Deferred)
    assert outcome.stage == Stage[verb]


async def test_nobody_listening_defers() -> None:
    transport = SmtpTransport(relay(free_port()))

    [outcome] = await deliver(transport, ENVELOPE, CONTENT, nothing)

    assert isinstance(outcome, Deferred)
    assert outcome.stage is Stage.CONNECT


async def test_a_message_over_the_announced_size_bounces_unsent() -> None:
    async with scripted_server({"EHLO": b"250-scripted\r\n250 SIZE 10\r\n"}) as server:
        transport = SmtpTransport(relay(server.port))
        [outcome] = await deliver(transport, ENVELOPE, CONTENT, nothing)
        await transport.aclose()

    assert isinstance(outcome, Bounced)
    assert outcome.reply.enhanced == "5.3.4"
    assert server.commands == ["EHLO gateway.example", "QUIT"]


async def test_smtputf8_is_asked_for_when_offered_and_bounces_when_not() -> None:
    envelope = Envelope("jürgen@example.com", ("to@example.net",), smtputf8=True)
    async with scripted_server() as server:
        transport = SmtpTransport(relay(server.port))
        [accepted] = await deliver(transport, envelope, CONTENT, nothing)
        await transport.aclose()
    [bounced] = await send(WITHOUT_PIPELINING, envelope)

    assert isinstance(accepted, Accepted)
    assert server.commands[1] == f"MAIL FROM:<jürgen@example.com> SIZE={len(CONTENT)} SMTPUTF8"
    assert isinstance(bounced, Bounced)
    assert bounced.reply.enhanced == "5.6.7"


async def test_an_address_with_a_line_end_bounces_unsent() -> None:
    [outcome] = await send({}, Envelope("a@example.com>\r\nRCPT TO:<evil@example.com", ("to@example.net",)))

    assert isinstance(outcome, Bounced)


async def test_the_hand_over_is_marked_after_354_and_before_any_content() -> None:
    async with scripted_server() as server:
        transport = SmtpTransport(relay(server.port))
        seen: list[tuple[str, int]] = []

        async def mark() -> None:
            await asyncio.sleep(0)
            seen.append((server.commands[-1], len(server.contents)))

        await deliver(transport, ENVELOPE, CONTENT, mark)
        await transport.aclose()

    assert seen == [("DATA", 0)]


async def test_a_hand_over_that_cannot_be_marked_does_not_happen() -> None:
    async def fail() -> None:
        raise OSError("disk full")

    async with scripted_server() as server:
        transport = SmtpTransport(relay(server.port))
        [outcome] = await deliver(transport, ENVELOPE, CONTENT, fail)
        await transport.aclose()

    assert isinstance(outcome, Deferred)
    assert outcome.stage is Stage.DATA
    assert outcome.fault is Fault.MESSAGE  # Not the provider's: its breaker must not hear of it.
    assert server.contents == []


async def test_cutting_a_delivery_drops_its_connection_before_the_dot() -> None:
    async with scripted_server({"DATA": Does.HANG}) as server:
        transport = SmtpTransport(replace(relay(server.port), max_connections=1))
        sending = asyncio.ensure_future(deliver(transport, ENVELOPE, CONTENT, nothing))
        await until(lambda: "DATA" in server.commands)
        transport.abort()
        server.script = {}

        [outcome] = await deliver(transport, ENVELOPE, CONTENT, nothing)  # The place was given back.
        await transport.aclose()

    assert isinstance(outcome, Accepted)
    assert server.connections == 2
    assert not sending.done()
    sending.cancel()
