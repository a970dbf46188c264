"""Clocks that jump by an hour, both ways, on both engines: mail leaves when it would have left without the jump."""

from typing import Any

import pytest

from mailward.db.database import Database, Transaction
from mailward.provider.routing import Hop, SendLimits
from tests.support.gateway import Gateway, relay_at, running_gateway
from tests.support.queued import HOUR
from tests.support.smtp_servers import scripted_server

BUSY_ONCE: Any = {"FINAL": [b"451 4.3.1 busy\r\n", b"250 2.0.0 kept\r\n"]}


async def set_clock(gateway: Gateway, by_us: int) -> None:
    gateway.now_us += by_us
    gateway.worker.wake()
    await gateway.worker.settled()


@pytest.mark.parametrize("jump_us", [-HOUR, HOUR])
async def test_a_deferral_is_tried_again_on_time_after_a_jump_of_the_clock(database: Database, jump_us: int) -> None:
    """Forward it may be early; it is never late, and never lost."""
    async with scripted_server(BUSY_ONCE) as server, running_gateway(database, relay_at(server.port)) as gateway:
        id = await gateway.hand_in()
        await gateway.worker.settled()

        await set_clock(gateway, jump_us)
        await gateway.pass_time(60)
        view = await gateway.view(id)

    assert [recipient.status.value for recipient in view.recipients] == ["accepted"]
    assert len(server.contents) == 2


def close_late(tx: Transaction) -> None:
    """Record the deferral as one that began before the clock was set back, and was stored after the mending."""
    later = "state_at_us = state_at_us + :by, next_attempt_at_us = next_attempt_at_us + :by"
    assert tx.execute(f"UPDATE recipients SET {later} WHERE state = 'deferred'", by=HOUR) == 1


async def test_what_was_under_way_when_the_clock_was_set_back_is_not_late_either(database: Database) -> None:
    async with scripted_server(BUSY_ONCE) as server, running_gateway(database, relay_at(server.port)) as gateway:
        id = await gateway.hand_in()
        await gateway.worker.settled()
        await set_clock(gateway, -HOUR)

        await database.write(close_late)
        await gateway.pass_time(6)
        await gateway.pass_time(60)
        view = await gateway.view(id)

    assert [recipient.status.value for recipient in view.recipients] == ["accepted"]


async def test_mail_that_was_queued_while_the_clock_was_ahead_does_not_wait_for_that_time(database: Database) -> None:
    async with scripted_server() as server, running_gateway(database, None) as gateway:
        await set_clock(gateway, HOUR)
        ids = [await gateway.hand_in() for _ in range(3)]
        await set_clock(gateway, -HOUR)

        gateway.relay = relay_at(server.port)
        gateway.worker.relay_changed()
        await gateway.worker.settled()
        views = [await gateway.view(id) for id in ids]

    assert len(server.contents) == 3
    assert {len(view.attempts) for view in views} == {1}


@pytest.mark.parametrize("limits", [SendLimits(), SendLimits(per_minute=1)], ids=["paused", "limited"])
async def test_a_provider_that_was_left_alone_while_the_clock_was_ahead_is_not_left_alone_for_an_hour(
    database: Database, limits: SendLimits
) -> None:
    script: Any = {"MAIL": [b"421 4.7.0 slow down\r\n", b"250 2.1.0 ok\r\n"]} if limits == SendLimits() else {}
    async with (
        scripted_server(script) as server,
        running_gateway(database, (Hop(settings=relay_at(server.port), limits=limits),)) as gateway,
    ):
        await set_clock(gateway, HOUR)
        ids = [await gateway.hand_in() for _ in range(2)]
        await gateway.worker.settled()
        assert len(server.contents) < 2

        await set_clock(gateway, -HOUR)
        for _ in range(4):
            await gateway.pass_time(61)
        views = [await gateway.view(id) for id in ids]

    assert [view.recipients[0].status.value for view in views] == ["accepted", "accepted"]


async def test_a_restart_after_the_clock_was_set_back_finds_the_same(database: Database) -> None:
    async with scripted_server() as server:
        async with running_gateway(database, None) as gateway:
            gateway.now_us += HOUR
            id = await gateway.hand_in()
        async with running_gateway(database, relay_at(server.port)) as gateway:
            await gateway.worker.settled()
            view = await gateway.view(id)

    assert len(server.contents) == 1
    assert [recipient.status.value for recipient in view.recipients] == ["accepted"]


async def test_a_wait_that_began_in_the_past_is_left_alone(database: Database) -> None:
    async with scripted_server(BUSY_ONCE) as server, running_gateway(database, relay_at(server.port)) as gateway:
        id = await gateway.hand_in()
        await gateway.worker.settled()
        before = (await gateway.view(id)).recipients[0].next_attempt_at_us

        await set_clock(gateway, -30_000_000)

        assert (await gateway.view(id)).recipients[0].next_attempt_at_us == before
