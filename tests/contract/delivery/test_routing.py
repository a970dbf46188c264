# ruff: noqa: SIM117  # the inner block ends first, and that is the point
"""Which provider mail goes through when one of them fails, waits or is limited; on both engines, over real sockets."""

import asyncio
import socket
from typing import Any, cast

import pytest

from mailward.db.database import Database
from mailward.delivery.breaker import Breaker, Failed, Served, State
from mailward.delivery.outlet import Outlet, Standing
from mailward.delivery.views import MessageView
from mailward.ids import ProviderId
from mailward.provider.routing import Hop, Plan, SendLimits
from mailward.secretbox import SecretText
from mailward.transport.base import HTTPRelay
from tests.support.gateway import Gateway, relay_at, running_gateway
from tests.support.http_servers import scripted_receiver
from tests.support.queued import NOW, SECOND
from tests.support.smtp_servers import Fault, Script, scripted_server
from tests.support.waiting import PATIENCE_S, until

REFUSES_LOGIN: Script = {"EHLO": b"250-scripted\r\n250 AUTH PLAIN\r\n", "AUTH": b"535 5.7.8 no\r\n"}


def hop(port: int, id: str, *, limits: SendLimits | None = None, revision: int = 0, **changes: Any) -> Hop:
    settings = relay_at(port, provider_id=ProviderId(id), **changes)
    return Hop(settings=settings, limits=limits or SendLimits(), revision=revision)


def with_login(port: int, id: str, revision: int = 0) -> Hop:
    return hop(port, id, revision=revision, user="u", password=SecretText("p"))


def states(view: MessageView) -> list[str]:
    return [recipient.status.value for recipient in view.recipients]


async def until_all(gateway: Gateway, *ids: Any, state: str = "accepted") -> None:
    """Wait until all of `ids` are in `state`, letting nothing but real time pass."""
    async with asyncio.timeout(PATIENCE_S):
        for id in ids:
            while states(await gateway.view(id)) != [state]:
                await asyncio.sleep(0.01)


# -- failover ---------------------------------------------------------------------------------------------------------


async def test_what_a_provider_cannot_take_by_its_own_fault_goes_to_the_next_at_once(database: Database) -> None:
    async with scripted_server({"BANNER": b"554 5.3.2 no service\r\n"}) as broken, scripted_server() as good:
        plan: Plan = (hop(broken.port, "1"), hop(good.port, "2"))
        async with running_gateway(database, plan) as gateway:
            id = await gateway.hand_in()
            await gateway.worker.settled()
            view = await gateway.view(id)

    assert states(view) == ["accepted"]
    assert [attempt.provider_id for attempt in view.attempts] == ["1", "2"]
    assert view.attempts[0].route == ""
    assert view.attempts[1].route == "failover: provider 1 could not: 554 5.3.2 no service"
    assert view.recipients[0].attempts == 1  # What failed over cost no attempt of the schedule.


async def test_a_refusal_of_the_message_or_the_recipient_is_no_reason_to_ask_another(database: Database) -> None:
    script: Script = {"RCPT": [b"550 5.1.1 unknown\r\n", b"450 4.2.1 full\r\n", b"250 ok\r\n"]}
    async with scripted_server(script) as first, scripted_server() as second:
        async with running_gateway(database, (hop(first.port, "1"), hop(second.port, "2"))) as gateway:
            id = await gateway.hand_in("a@example.net", "b@example.net", "c@example.net")
            await gateway.worker.settled()
            view = await gateway.view(id)

    assert states(view) == ["bounced", "deferred", "accepted"]
    assert second.connections == 0


async def test_a_doubt_is_never_failed_over(database: Database) -> None:
    async with scripted_server({"FINAL": Fault.DROP}) as first, scripted_server() as second:
        async with running_gateway(database, (hop(first.port, "1"), hop(second.port, "2"))) as gateway:
            id = await gateway.hand_in()
            await gateway.worker.settled()
            view = await gateway.view(id)

    assert states(view) == ["uncertain"]
    assert second.connections == 0


async def test_only_those_recipients_go_on_that_the_first_could_not_take(database: Database) -> None:
    """An HTTP provider breaks down in the middle of a message: one POST a recipient."""
    async with scripted_receiver({"BODY": [200, 422, 503]}) as hook, scripted_server() as second:
        settings = HTTPRelay(provider_id=ProviderId("1"), endpoint=hook.url, signing_key=SecretText("k"))
        async with running_gateway(database, (Hop(settings=settings), hop(second.port, "2"))) as gateway:
            id = await gateway.hand_in(*[f"r{n}@example.net" for n in range(4)])
            await gateway.worker.settled()
            view = await gateway.view(id)

    assert states(view) == ["accepted", "bounced", "accepted", "accepted"]
    assert view.attempts[1].addresses == ("r2@example.net", "r3@example.net")
    assert [line for line in second.commands if line.startswith("RCPT")] == [
        "RCPT TO:<r2@example.net>",
        "RCPT TO:<r3@example.net>",
    ]


async def test_when_nobody_can_take_it_the_schedule_goes_on(database: Database) -> None:
    script: Script = {"BANNER": b"554 5.3.2 no service\r\n"}
    async with scripted_server(script) as first, scripted_server(script) as second:
        async with running_gateway(database, (hop(first.port, "1"), hop(second.port, "2"))) as gateway:
            id = await gateway.hand_in()
            await gateway.worker.settled()
            view = await gateway.view(id)

    assert states(view) == ["deferred"]
    assert view.recipients[0].next_attempt_at_us == NOW + 60 * SECOND
    assert len(view.attempts) == 2


# -- breaker ----------------------------------------------------------------------------------------------------------


async def test_a_provider_that_refuses_the_login_is_asked_five_times_at_most_and_mail_waits(
    database: Database,
) -> None:
    async with scripted_server(REFUSES_LOGIN) as server:
        async with running_gateway(database, (with_login(server.port, "1"),)) as gateway:
            ids = await asyncio.gather(*[gateway.hand_in() for _ in range(50)])
            await gateway.worker.settled()
            views = [await gateway.view(id) for id in ids]
            reason = gateway.worker.waits_for()

    logins = [line for line in server.commands if line.startswith("AUTH")]
    assert len(logins) <= 5
    assert sum(len(view.attempts) for view in views) <= 5
    assert sorted({states(view)[0] for view in views}) == ["deferred", "queued"]
    assert "out of rotation" in reason
    assert "535 5.7.8 no" in reason


async def test_it_is_back_soon_after_its_repair_and_a_probe_costs_no_mail(database: Database) -> None:
    async with scripted_server(dict(REFUSES_LOGIN)) as server:
        async with running_gateway(database, (with_login(server.port, "1"),)) as gateway:
            ids = await asyncio.gather(*[gateway.hand_in() for _ in range(10)])
            await gateway.worker.settled()
            for _ in range(5):  # Probes that fail.
                await gateway.pass_time(31)
            attempts = sum([len((await gateway.view(id)).attempts) for id in ids])
            server.script["AUTH"] = b"235 2.7.0 ok\r\n"
            await gateway.pass_time(31)
            await until_all(gateway, *ids)
            reason = gateway.worker.waits_for()

    assert attempts <= 5
    assert reason == ""


async def test_a_change_of_the_settings_gives_it_a_try_at_once(database: Database) -> None:
    async with scripted_server(dict(REFUSES_LOGIN)) as server:
        async with running_gateway(database, (with_login(server.port, "1"),)) as gateway:
            ids = await asyncio.gather(*[gateway.hand_in() for _ in range(10)])
            await gateway.worker.settled()
            server.script["AUTH"] = b"235 2.7.0 ok\r\n"
            gateway.plan = (with_login(server.port, "1", revision=1),)
            await until_all(gateway, *ids)


async def test_mail_to_a_dead_address_opens_nothing(database: Database) -> None:
    async with scripted_server({"RCPT": b"550 5.1.1 unknown\r\n"}) as server:
        async with running_gateway(database, (hop(server.port, "1"),)) as gateway:
            ids = await asyncio.gather(*[gateway.hand_in() for _ in range(500)])
            await gateway.worker.settled()
            breaker = gateway.worker._senders.outlets.all[0].breaker
            assert {tuple(states(await gateway.view(id))) for id in ids} == {("bounced",)}

    assert (breaker.state, breaker.entries, breaker.talks) == (State.CLOSED, 0, 0)


async def test_without_dns_mail_waits_and_flows_by_itself_once_it_is_back(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolver, resolve = {"is_up": False}, socket.getaddrinfo

    def asked(host: Any, *args: Any, **options: Any) -> Any:
        if host != "relay.example":
            return resolve(host, *args, **options)
        if not resolver["is_up"]:
            raise socket.gaierror(socket.EAI_AGAIN, "temporary failure in name resolution")
        return resolve("127.0.0.1", *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", asked)
    async with scripted_server() as server:
        async with running_gateway(database, (hop(server.port, "1", host="relay.example"),)) as gateway:
            ids = await asyncio.gather(*[gateway.hand_in() for _ in range(20)])
            await gateway.worker.settled()
            waiting = {states(await gateway.view(id))[0] for id in ids}
            resolver["is_up"] = True
            for _ in range(3):  # Until the probe, and until what was tried is due again.
                await gateway.pass_time(31)
            await until_all(gateway, *ids)

    assert waiting <= {"deferred", "queued"}
    assert len(server.contents) == 20


def test_refusals_of_single_mails_do_not_hold_up_the_others() -> None:
    """Only a failed login, or the wish to be left alone, makes mail wait until all nodes know."""
    outlet = Outlet(hop(1, "1"), lambda hop, gate: cast(Any, None), lambda: NOW, lambda: None)
    outlet.settle(Breaker(), 0)
    standings = []
    for event in (Failed(NOW, "530", entry=False), Served(NOW), Failed(NOW, "535", entry=True)):
        outlet.tell(event)
        standings.append(outlet.standing(NOW))

    assert standings == [Standing.GO, Standing.GO, Standing.WAIT]


async def test_while_it_is_out_of_rotation_all_mail_goes_to_the_next(database: Database) -> None:
    async with scripted_server(REFUSES_LOGIN) as broken, scripted_server() as good:
        async with running_gateway(database, (with_login(broken.port, "1"), hop(good.port, "2"))) as gateway:
            ids = await asyncio.gather(*[gateway.hand_in() for _ in range(50)])
            await gateway.worker.settled()
            late = await gateway.hand_in()
            await gateway.worker.settled()
            views = [await gateway.view(id) for id in ids]
            view = await gateway.view(late)

    assert {tuple(states(view)) for view in views} == {("accepted",)}
    assert len([line for line in broken.commands if line.startswith("AUTH")]) <= 5
    assert [attempt.provider_id for attempt in view.attempts] == ["2"]
    assert view.attempts[0].route.startswith("failover: provider 1 to recover")


async def test_what_one_node_learned_the_next_life_knows(database: Database) -> None:
    async with scripted_server(REFUSES_LOGIN) as server:
        plan: Plan = (with_login(server.port, "1"),)
        async with running_gateway(database, plan) as gateway:
            await asyncio.gather(*[gateway.hand_in() for _ in range(10)])
            await gateway.worker.settled()
        before = len([line for line in server.commands if line.startswith("AUTH")])
        async with running_gateway(database, plan) as gateway:
            gateway.now_us += SECOND
            await gateway.hand_in()
            await gateway.worker.settled()
            assert gateway.worker._senders.outlets.current is None

    assert len([line for line in server.commands if line.startswith("AUTH")]) == before


# -- what providers ask for -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [b"421 4.7.0 too many\r\n", b"454 4.7.0 slow down\r\n"])
async def test_a_provider_that_says_not_now_is_left_alone_and_then_used_gently(
    database: Database, answer: bytes
) -> None:
    async with scripted_server({"MAIL": [answer, b"250 ok\r\n"]}) as server:
        async with running_gateway(database, (hop(server.port, "1", max_connections=10),)) as gateway:
            first = await gateway.hand_in()
            await gateway.worker.settled()
            second = await gateway.hand_in()
            await gateway.worker.settled()
            tried, reason = server.connections, gateway.worker.waits_for()
            at_a_time = gateway.worker._senders.outlets.all[0].total
            for _ in range(3):
                await gateway.pass_time(31)
            await until_all(gateway, first, second)

    assert (tried, at_a_time) == (1, 1)
    assert "left alone" in reason


async def test_retry_after_is_obeyed_to_the_second(database: Database) -> None:
    answer = b"HTTP/1.1 429 Slow down\r\nRetry-After: 90\r\nContent-Length: 0\r\n\r\n"
    async with scripted_receiver({"BODY": [answer, 200]}) as hook:
        settings = HTTPRelay(provider_id=ProviderId("1"), endpoint=hook.url, signing_key=SecretText("k"))
        async with running_gateway(database, (Hop(settings=settings),)) as gateway:
            first = await gateway.hand_in()
            await gateway.worker.settled()
            second = await gateway.hand_in()
            await gateway.pass_time(89)
            waiting, reason = len(hook.posted), gateway.worker.waits_for()
            await gateway.pass_time(2)
            await until_all(gateway, first, second)

    assert waiting == 1
    assert "left alone" in reason


# -- limits -----------------------------------------------------------------------------------------------------------


async def test_no_second_sees_more_than_the_limit_and_waiting_costs_no_attempt(database: Database) -> None:
    async with scripted_server() as server:
        limits = SendLimits(per_second=5)
        async with running_gateway(database, (hop(server.port, "1", limits=limits),)) as gateway:
            ids = await asyncio.gather(*[gateway.hand_in() for _ in range(12)])
            await gateway.worker.settled()
            sent, reason = [len(server.contents)], gateway.worker.waits_for()
            for _ in range(2):
                await gateway.pass_time(1.05)
                sent.append(len(server.contents))
            views = [await gateway.view(id) for id in ids]

    assert sent == [5, 10, 12]
    assert reason == "limit 5/s of provider 1"
    assert {(tuple(states(view)), len(view.attempts)) for view in views} == {(("accepted",), 1)}


async def test_a_days_count_survives_a_restart(database: Database) -> None:
    async with scripted_server() as server:
        plan: Plan = (hop(server.port, "1", limits=SendLimits(per_day=3)),)
        async with running_gateway(database, plan) as gateway:
            await asyncio.gather(*[gateway.hand_in() for _ in range(2)])
            await gateway.worker.settled()
        async with running_gateway(database, plan) as gateway:
            gateway.now_us += SECOND
            ids = await asyncio.gather(*[gateway.hand_in() for _ in range(4)])
            await gateway.worker.settled()
            await gateway.pass_time(3600)
            first = len(server.contents)
            view = await gateway.view(ids[-1])
            await gateway.pass_time(26 * 3600)

            assert first == 3
            assert states(view) == ["queued"]
            assert len(server.contents) > 3


# -- bulkheads --------------------------------------------------------------------------------------------------------


async def test_a_provider_that_hangs_holds_up_nobody_elses_mail(database: Database) -> None:
    """Its conversations keep its own places; after a switch the next provider has all of its own."""
    async with scripted_server({"FINAL": Fault.HANG}) as slow, scripted_server() as fast:
        async with running_gateway(database, (hop(slow.port, "1", max_connections=10),)) as gateway:
            await asyncio.gather(*[gateway.hand_in() for _ in range(9)])
            await until(lambda: slow.commands.count("DATA") == 9)  # one is kept for login codes
            gateway.plan = (hop(fast.port, "2", max_connections=10),)
            ids = await asyncio.gather(*[gateway.hand_in() for _ in range(50)])
            await until_all(gateway, *ids)

    assert len(fast.contents) == 50
