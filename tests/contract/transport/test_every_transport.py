"""What holds for a transport of any kind."""

import asyncio
from dataclasses import replace

import pytest

from mailward.message.envelope import Envelope
from mailward.transport.outcome import Accepted, Bounced, Deferred, Fault, Uncertain
from tests.support.waiting import until
from tests.support.ways import LONG, deliver, provider

ENVELOPE = Envelope("from@example.com", ("to@example.net",))
TWO = Envelope("from@example.com", ("one@example.net", "two@example.net"))
CONTENT = b"Subject: hello\r\n\r\nhello\r\n"

pytestmark = pytest.mark.parametrize("kind", ["smtp", "http"])


async def nothing() -> None:
    pass


async def test_a_message_is_accepted_for_each_of_its_recipients(kind: str) -> None:
    async with provider(kind) as it:
        outcomes = await deliver(it.transport, TWO, CONTENT, nothing)

    assert [type(outcome) for outcome in outcomes] == [Accepted, Accepted]
    assert outcomes[0].reply.code // 100 == 2


@pytest.mark.parametrize("mood", ["busy", "login refused", "silent", "lost before the end"])
async def test_trouble_of_the_provider_before_the_end_defers_everybody_and_is_its_fault(kind: str, mood: str) -> None:
    async with provider(kind, mood, deadlines=replace(LONG, command_s=0.2, tls_probe_s=0.05)) as it:

        async def mark() -> None:
            """A commit takes its time: an HTTP provider that hung up is heard of meanwhile."""
            await until(it.connections)
            for _ in range(20):
                await asyncio.sleep(0.001)

        outcomes = await deliver(it.transport, TWO, CONTENT, mark)

    assert all(isinstance(outcome, Deferred) for outcome in outcomes)
    assert {outcome.fault for outcome in outcomes if isinstance(outcome, Deferred)} == {Fault.PROVIDER}


async def test_a_refusal_of_the_message_bounces_and_is_its_fault(kind: str) -> None:
    async with provider(kind, "message refused") as it:
        [outcome] = await deliver(it.transport, ENVELOPE, CONTENT, nothing)

    assert isinstance(outcome, Bounced)
    assert outcome.fault is Fault.MESSAGE


@pytest.mark.parametrize("mood", ["lost after the end", "silent after the end"])
async def test_no_answer_after_the_end_is_a_doubt(kind: str, mood: str) -> None:
    async with provider(kind, mood, deadlines=replace(LONG, final_s=0.2)) as it:
        [outcome] = await deliver(it.transport, ENVELOPE, CONTENT, nothing)

    assert isinstance(outcome, Uncertain)


@pytest.mark.parametrize("size", [10, 300_000])
async def test_the_hand_over_is_marked_before_the_message_can_have_arrived(kind: str, size: int) -> None:
    async with provider(kind) as it:
        kept: list[int] = []

        async def mark() -> None:
            await asyncio.sleep(0.01)
            kept.append(len(it.kept()))

        await deliver(it.transport, TWO, CONTENT + b"x" * size + b"\r\n", mark)

        assert kept == [0]
        assert len(it.kept()) >= 1


async def test_a_hand_over_that_cannot_be_marked_does_not_happen_and_is_not_the_providers_fault(kind: str) -> None:
    async def fail() -> None:
        raise OSError("disk full")

    async with provider(kind) as it:
        outcomes = await deliver(it.transport, TWO, CONTENT, fail)

        assert [type(outcome) for outcome in outcomes] == [Deferred, Deferred]
        assert all(isinstance(outcome, Deferred) and outcome.fault is Fault.MESSAGE for outcome in outcomes)
        assert it.kept() == []


async def test_a_connection_is_kept_for_the_next_message(kind: str) -> None:
    async with provider(kind) as it:
        for _ in range(3):
            await deliver(it.transport, TWO, CONTENT, nothing)

        assert it.connections() == 1


async def test_a_connection_takes_no_more_messages_than_allowed(kind: str) -> None:
    async with provider(kind, messages_per_connection=2) as it:
        for _ in range(5):
            await deliver(it.transport, ENVELOPE, CONTENT, nothing)

        assert it.connections() == 3


async def test_no_more_connections_are_open_than_allowed_and_all_get_their_turn(kind: str) -> None:
    async with provider(kind, max_connections=3) as it:
        outcomes = await asyncio.gather(*(deliver(it.transport, ENVELOPE, CONTENT, nothing) for _ in range(50)))

        assert all(isinstance(outcome, Accepted) for [outcome] in outcomes)
        assert it.connections() == 3


async def test_a_delivery_that_is_cut_gives_its_place_back(kind: str) -> None:
    async with provider(kind, max_connections=1) as it:
        started = asyncio.Event()

        async def stay() -> None:
            started.set()
            await asyncio.Event().wait()

        sending = asyncio.ensure_future(deliver(it.transport, ENVELOPE, CONTENT, stay))
        await started.wait()
        it.transport.abort()

        [outcome] = await deliver(it.transport, ENVELOPE, CONTENT, nothing)

        assert isinstance(outcome, Accepted)
        assert len(it.kept()) == 1
        assert not sending.done()
        sending.cancel()


async def test_a_closed_transport_defers(kind: str) -> None:
    async with provider(kind) as it:
        await it.transport.aclose()

        [outcome] = await deliver(it.transport, ENVELOPE, CONTENT, nothing)

    assert isinstance(outcome, Deferred)
