"""How connections to a relay are kept, shared and given up."""

import asyncio
from dataclasses import replace

from mailward.ids import ProviderId
from mailward.message.envelope import Envelope
from mailward.transport.base import RelaySettings, TlsMode
from mailward.transport.outcome import Accepted, Bounced, Deferred
from mailward.transport.pool import SmtpTransport
from tests.support.smtp_servers import Fault as Does
from tests.support.smtp_servers import scripted_server
from tests.support.waiting import until
from tests.support.ways import LONG, deliver

ENVELOPE = Envelope("from@example.com", ("to@example.net",))
CONTENT = b"Subject: hello\r\n\r\nhello\r\n"


def relay(port: int) -> RelaySettings:
    return RelaySettings(
        provider_id=ProviderId("1"),
        host="127.0.0.1",
        port=port,
        tls=TlsMode.NONE,
        ehlo_name="gateway.example",
        deadlines=LONG,
    )


async def nothing() -> None:
    pass


async def test_a_connection_is_kept_for_the_next_message() -> None:
    async with scripted_server() as server:
        transport = SmtpTransport(relay(server.port))
        for _ in range(3):
            [outcome] = await deliver(transport, ENVELOPE, CONTENT, nothing)
            assert isinstance(outcome, Accepted)
        await transport.aclose()

    assert server.connections == 1
    assert "RSET" not in server.commands


async def test_a_connection_takes_no_more_messages_than_allowed() -> None:
    async with scripted_server() as server:
        transport = SmtpTransport(replace(relay(server.port), messages_per_connection=2))
        for _ in range(5):
            await deliver(transport, ENVELOPE, CONTENT, nothing)
        await transport.aclose()

    assert server.connections == 3
    assert server.commands.count("QUIT") == 3


async def test_an_old_or_long_idle_connection_is_not_used_again() -> None:
    for change in ({"idle_s": 0.0}, {"max_age_s": 0.0}):
        async with scripted_server() as server:
            transport = SmtpTransport(replace(relay(server.port), **change))  # type: ignore[arg-type]
            for _ in range(2):
                await deliver(transport, ENVELOPE, CONTENT, nothing)
            await transport.aclose()

        assert server.connections == 2


async def test_an_idle_connection_is_closed_by_itself() -> None:
    async with scripted_server() as server:
        transport = SmtpTransport(replace(relay(server.port), idle_s=0.01))
        await deliver(transport, ENVELOPE, CONTENT, nothing)
        await until(lambda: "QUIT" in server.commands)
        await transport.aclose()


async def test_rset_comes_only_where_a_transaction_was_left_open() -> None:
    async with scripted_server(
        {"RCPT": [b"550 5.1.1 unknown\r\n", b"250 ok\r\n"], "DATA": [b"554 nobody\r\n", b"354 go\r\n"]}
    ) as server:
        transport = SmtpTransport(relay(server.port))
        [first] = await deliver(transport, ENVELOPE, CONTENT, nothing)
        [second] = await deliver(transport, ENVELOPE, CONTENT, nothing)
        [third] = await deliver(transport, ENVELOPE, CONTENT, nothing)
        await transport.aclose()

    assert isinstance(first, Bounced)
    assert isinstance(second, Accepted)
    assert isinstance(third, Accepted)
    assert server.connections == 1
    assert server.commands.count("RSET") == 1


async def test_a_kept_connection_that_died_is_no_failed_attempt() -> None:
    """The server may hang up at any idle moment, also while our MAIL is on its way."""
    for behaviour in (Does.DROP, b"421 4.4.2 idle too long\r\n"):
        async with scripted_server({"MAIL": [b"250 ok\r\n", behaviour, b"250 ok\r\n"]}) as server:
            transport = SmtpTransport(relay(server.port))
            outcomes = [await deliver(transport, ENVELOPE, CONTENT, nothing) for _ in range(2)]
            await transport.aclose()

        assert all(isinstance(outcome, Accepted) for [outcome] in outcomes)
        assert server.connections == 2
        assert len(server.contents) == 2


async def test_a_fresh_connection_that_dies_is_a_failed_attempt() -> None:
    async with scripted_server({"MAIL": Does.DROP}) as server:
        transport = SmtpTransport(relay(server.port))
        [outcome] = await deliver(transport, ENVELOPE, CONTENT, nothing)
        await transport.aclose()

    assert isinstance(outcome, Deferred)
    assert server.connections == 1


async def test_no_more_connections_are_opened_than_allowed_and_all_messages_get_their_turn() -> None:
    async with scripted_server() as server:
        transport = SmtpTransport(replace(relay(server.port), max_connections=3))
        outcomes = await asyncio.gather(*(deliver(transport, ENVELOPE, CONTENT, nothing) for _ in range(50)))
        await transport.aclose()

    assert all(isinstance(outcome, Accepted) for [outcome] in outcomes)
    assert server.connections == 3


async def test_those_who_wait_are_served_in_order() -> None:
    async with scripted_server() as server:
        transport = SmtpTransport(replace(relay(server.port), max_connections=1))
        order: list[int] = []

        async def one(number: int) -> None:
            async def mark() -> None:
                order.append(number)

            await deliver(transport, ENVELOPE, CONTENT, mark)

        await asyncio.gather(*(one(number) for number in range(10)))
        await transport.aclose()

    assert order == list(range(10))


async def test_a_closed_transport_defers() -> None:
    transport = SmtpTransport(relay(1))
    await transport.aclose()

    [outcome] = await deliver(transport, ENVELOPE, CONTENT, nothing)

    assert isinstance(outcome, Deferred)
