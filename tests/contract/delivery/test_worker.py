"""From submission to the provider's answer, on both engines, over real sockets to a scripted mail server."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from mailward.db.database import Database, Transaction
from mailward.delivery import nodes, queue
from mailward.delivery.hold import HoldLimits
from mailward.delivery.retry import RetryPolicy
from mailward.delivery.views import HELD, MessageView
from mailward.errors import InvalidArgument, Unavailable
from mailward.ids import ProviderId
from mailward.transport import session
from tests.support.gateway import Gateway, relay_at, running_gateway
from tests.support.program import free_port
from tests.support.queued import CONTENT, NOW, SECOND, new_message
from tests.support.smtp_servers import Fault, scripted_server
from tests.support.waiting import PATIENCE_S, until
from tests.support.ways import LONG


def states(view: MessageView) -> list[str]:
    return [recipient.status.value for recipient in view.recipients]


def delivered(contents: list[bytes]) -> list[bytes]:
    return [content.removesuffix(b".\r\n") for content in contents]


# -- the plain way ----------------------------------------------------------------------------------------------------


async def test_a_submitted_message_arrives_once_and_its_timeline_says_so(database: Database) -> None:
    async with scripted_server() as server, running_gateway(database, relay_at(server.port)) as gateway:
        id = await gateway.hand_in("ada@example.net", "bob@example.net")
        await gateway.worker.settled()
        view = await gateway.view(id)

    assert delivered(server.contents) == [CONTENT]
    assert [line for line in server.commands if line.startswith("RCPT")] == [
        "RCPT TO:<ada@example.net>",
        "RCPT TO:<bob@example.net>",
    ]
    assert states(view) == ["accepted", "accepted"]
    [attempt] = view.attempts
    assert (attempt.addresses, attempt.provider_id) == (("ada@example.net", "bob@example.net"), "227654321098765432")
    assert [(result.code, result.text) for result in attempt.results] == [(250, "kept")] * 2


async def test_many_messages_arrive_once_each(database: Database) -> None:
    """Through memory, and through the queue when memory is full."""
    limits = HoldLimits(messages=20, content_bytes=1 << 20)
    async with (
        scripted_server() as server,
        running_gateway(database, relay_at(server.port, max_connections=5), limits=limits) as gateway,
    ):
        ids = await asyncio.gather(*[gateway.hand_in(f"r{n}@example.net") for n in range(200)])
        await gateway.worker.settled()
        views = [await gateway.view(id) for id in ids]

    rcpts = [line for line in server.commands if line.startswith("RCPT")]
    assert sorted(rcpts) == sorted({f"RCPT TO:<r{n}@example.net>" for n in range(200)})
    assert {state for view in views for state in states(view)} == {"accepted"}
    assert {len(view.attempts) for view in views} == {1}
    assert server.connections <= 5


async def test_a_lone_message_opens_its_attempt_in_its_own_commit_once_mail_flows(database: Database) -> None:
    """One commit for acceptance and mark, one for the close: a third would be a fifth of a lone message's cost."""
    async with scripted_server() as server, running_gateway(database, relay_at(server.port)) as gateway:
        await gateway.hand_in()
        await gateway.worker.settled()
        before = database.commits

        await gateway.hand_in()
        await gateway.worker.settled()

        assert database.commits - before == 2
        assert len(server.contents) == 2


async def test_what_follows_behind_a_dot_that_is_never_answered_is_sent_once_elsewhere(database: Database) -> None:
    """Its envelope was with the server, its content never."""
    script: Any = {"FINAL": [*[b"250 2.0.0 kept\r\n"] * 5, Fault.DROP, b"250 2.0.0 kept\r\n"]}
    async with (
        scripted_server(script) as server,
        running_gateway(database, relay_at(server.port, max_connections=1)) as gateway,
    ):
        ids = await asyncio.gather(*[gateway.hand_in(f"r{n}@example.net") for n in range(20)])
        await gateway.worker.settled()
        views = [await gateway.view(id) for id in ids]

    assert sorted(state for view in views for state in states(view)) == ["accepted"] * 19 + ["uncertain"]
    assert len(server.contents) == 20
    assert server.connections == 2


async def test_a_server_that_takes_an_envelope_behind_a_dot_for_content_gets_no_other(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits for a dot that it has swallowed: a doubt for each connection that was open then, and no more."""
    monkeypatch.setattr(session, "_QUICK_S", PATIENCE_S)
    script: Any = {"FINAL": [*[b"250 2.0.0 kept\r\n"] * 3, Fault.HANG, b"250 2.0.0 kept\r\n"]}
    deadlines = replace(LONG, final_s=3.0)
    async with (
        scripted_server(script) as server,
        running_gateway(database, relay_at(server.port, max_connections=1, deadlines=deadlines)) as gateway,
    ):
        ids = await asyncio.gather(*[gateway.hand_in(f"r{n}@example.net") for n in range(20)])
        await gateway.worker.settled()
        views = [await gateway.view(id) for id in ids]

    assert sorted(state for view in views for state in states(view)) == ["accepted"] * 19 + ["uncertain"]
    assert server.followed == 3


async def test_a_message_larger_than_the_memory_for_waiting_arrives(database: Database) -> None:
    large = CONTENT + b"x\r\n" * 20_000
    limits = HoldLimits(messages=10, content_bytes=30_000)
    async with scripted_server() as server, running_gateway(database, relay_at(server.port), limits=limits) as gateway:
        await asyncio.gather(*[gateway.hand_in(content=large) for _ in range(3)])
        await gateway.worker.settled()

    assert delivered(server.contents) == [large] * 3


# -- what providers answer --------------------------------------------------------------------------------------------


async def test_a_deferral_is_tried_again_on_schedule_until_it_succeeds(database: Database) -> None:
    script: Any = {"FINAL": [b"451 4.3.1 busy\r\n", b"451 4.3.1 busy\r\n", b"250 2.0.0 kept\r\n"]}
    async with scripted_server(script) as server, running_gateway(database, relay_at(server.port)) as gateway:
        id = await gateway.hand_in()
        await gateway.worker.settled()
        first = await gateway.view(id)
        await gateway.pass_time(59)
        early = len(server.contents)
        await gateway.pass_time(1)
        second = await gateway.view(id)
        await gateway.pass_time(300)
        third = await gateway.view(id)

    assert (states(first), first.recipients[0].next_attempt_at_us) == (["deferred"], NOW + 60 * SECOND)
    assert early == 1
    assert (states(second), second.recipients[0].next_attempt_at_us) == (["deferred"], NOW + 360 * SECOND)
    assert states(third) == ["accepted"]
    assert [attempt.results[0].code for attempt in third.attempts] == [451, 451, 250]


async def test_a_permanent_refusal_bounces_after_one_attempt(database: Database) -> None:
    script: Any = {"FINAL": b"554 5.7.1 spam\r\n"}
    async with scripted_server(script) as server, running_gateway(database, relay_at(server.port)) as gateway:
        id = await gateway.hand_in()
        await gateway.worker.settled()
        await gateway.pass_time(80 * 3600)
        view = await gateway.view(id)

    assert states(view) == ["bounced"]
    assert len(server.contents) == 1
    assert view.attempts[0].results[0].text == "spam"


async def test_one_bad_recipient_stops_no_other_and_temporary_ones_alone_are_tried_again(database: Database) -> None:
    script: Any = {"RCPT": [b"250 2.1.5 ok\r\n", b"550 5.1.1 unknown\r\n", b"450 4.2.1 full\r\n", b"250 2.1.5 ok\r\n"]}
    async with scripted_server(script) as server, running_gateway(database, relay_at(server.port)) as gateway:
        id = await gateway.hand_in("good@example.net", "gone@example.net", "full@example.net")
        await gateway.worker.settled()
        first = await gateway.view(id)
        await gateway.pass_time(60)
        second = await gateway.view(id)

    assert states(first) == ["accepted", "bounced", "deferred"]
    assert states(second) == ["accepted", "bounced", "accepted"]
    assert second.attempts[1].addresses == ("full@example.net",)
    assert [line for line in server.commands if line.startswith("RCPT")][3:] == ["RCPT TO:<full@example.net>"]


async def test_a_connection_lost_after_the_final_dot_is_a_doubt_and_by_default_tried_once_more(
    database: Database,
) -> None:
    script: Any = {"FINAL": Fault.DROP}
    async with scripted_server(script) as server, running_gateway(database, relay_at(server.port)) as gateway:
        id = await gateway.hand_in()
        await gateway.worker.settled()
        first = await gateway.view(id)
        await gateway.pass_time(60)
        second = await gateway.view(id)
        await gateway.pass_time(80 * 3600)

    assert (states(first), first.recipients[0].next_attempt_at_us) == (["uncertain"], NOW + 60 * SECOND)
    assert (states(second), second.recipients[0].held, second.waiting_for("")) == (["uncertain"], True, HELD)
    assert len(server.contents) == 2


async def test_without_retries_a_doubt_is_held(database: Database) -> None:
    script: Any = {"FINAL": Fault.DROP}
    async with (
        scripted_server(script) as server,
        running_gateway(database, relay_at(server.port), policy=RetryPolicy(uncertain_retries=0)) as gateway,
    ):
        id = await gateway.hand_in()
        await gateway.pass_time(3600)
        view = await gateway.view(id)

    assert view.recipients[0].held
    assert len(server.contents) == 1


async def test_a_provider_that_is_not_there_defers(database: Database) -> None:
    async with running_gateway(database, relay_at(free_port())) as gateway:
        id = await gateway.hand_in()
        await gateway.worker.settled()
        view = await gateway.view(id)

    assert states(view) == ["deferred"]
    assert view.attempts[0].results[0].fault == "provider"


async def test_a_refused_password_bounces_nobody(database: Database) -> None:
    script: Any = {"BANNER": b"554 5.7.1 go away\r\n"}
    async with scripted_server(script) as server, running_gateway(database, relay_at(server.port)) as gateway:
        id = await gateway.hand_in()
        await gateway.worker.settled()
        view = await gateway.view(id)

    assert states(view) == ["deferred"]


async def test_mail_that_fails_beyond_its_lifetime_expires(database: Database) -> None:
    script: Any = {"FINAL": b"451 4.3.1 busy\r\n"}
    async with scripted_server(script) as server, running_gateway(database, relay_at(server.port)) as gateway:
        id = await gateway.hand_in(lifetime_s=100)
        await gateway.worker.settled()
        await gateway.pass_time(60)
        view = await gateway.view(id)

    assert states(view) == ["expired"]
    assert len(view.attempts) == 2


# -- providers come and go --------------------------------------------------------------------------------------------


async def test_mail_waits_without_a_provider_and_flows_once_there_is_one(database: Database) -> None:
    async with scripted_server() as server, running_gateway(database, None) as gateway:
        id = await gateway.hand_in()
        await gateway.worker.settled()
        waiting = await gateway.view(id)
        gateway.relay = relay_at(server.port)
        gateway.worker.relay_changed()
        await gateway.worker.settled()
        view = await gateway.view(id)

    assert (states(waiting), waiting.waiting_for("no active provider")) == (["queued"], "no active provider")
    assert (states(view), view.waiting_for("")) == (["accepted"], "")


async def test_mail_that_waits_too_long_for_a_provider_expires(database: Database) -> None:
    async with running_gateway(database, None) as gateway:
        id = await gateway.hand_in()
        await gateway.pass_time(72 * 3600)
        view = await gateway.view(id)

    assert states(view) == ["expired"]


async def test_another_provider_gets_the_mail_from_the_moment_it_is_active(database: Database) -> None:
    async with (
        scripted_server() as first,
        scripted_server() as second,
        running_gateway(database, relay_at(first.port)) as gateway,
    ):
        await gateway.hand_in()
        await gateway.worker.settled()
        gateway.relay = replace(relay_at(second.port), provider_id=ProviderId("other"))
        gateway.worker.relay_changed()
        id = await gateway.hand_in()
        await gateway.worker.settled()
        view = await gateway.view(id)

    assert (len(first.contents), len(second.contents)) == (1, 1)
    assert view.attempts[0].provider_id == "other"


# -- stopping and starting --------------------------------------------------------------------------------------------


async def test_a_stop_gives_back_what_was_not_sent(database: Database) -> None:
    """The rest of the queue does not wait for anybody's heartbeat to run out."""
    script: Any = {"MAIL": Fault.HANG}
    async with (
        scripted_server(script) as server,
        running_gateway(database, relay_at(server.port, max_connections=1)) as gateway,
    ):
        ids = await asyncio.gather(*[gateway.hand_in() for _ in range(3)])
        await gateway.worker.stop(0.0)
        views = [await gateway.view(id) for id in ids]

    assert [states(view) for view in views] == [["queued"]] * 3
    assert [view.attempts for view in views] == [()] * 3


async def test_a_stop_waits_for_the_answer_to_a_final_dot(database: Database) -> None:
    release = asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 slow\r\n")
        for reply in (b"250 slow\r\n", b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n"):
            await reader.readline()
            writer.write(reply)
        await reader.readuntil(b"\r\n.\r\n")
        dotted.set()
        await release.wait()
        writer.write(b"250 kept\r\n")
        await reader.readline()
        writer.close()

    dotted = asyncio.Event()
    async with (
        await asyncio.start_server(slow, "127.0.0.1", 0) as server,
        running_gateway(database, relay_at(server.sockets[0].getsockname()[1])) as gateway,
    ):
        id = await gateway.hand_in()
        await until(dotted.is_set)
        stopping = asyncio.ensure_future(gateway.worker.stop(10.0))
        release.set()
        await stopping
        view = await gateway.view(id)

    assert states(view) == ["accepted"]


async def test_what_is_cut_after_the_final_dot_is_uncertain_in_the_next_life(database: Database) -> None:
    script: Any = {"FINAL": Fault.HANG}
    async with scripted_server(script) as server:
        gateway = Gateway(database, relay_at(server.port))
        await gateway.start()
        id = await gateway.hand_in()
        await until(lambda: server.contents)
        await gateway.worker.stop(0.0)
        left = await gateway.view(id)
        await gateway.start()
        recovered = gateway.recovered
        await gateway.worker.stop(0.0)
        view = await gateway.view(id)

    assert (states(left), left.attempts[0].closed_at_us) == (["sending"], None)
    assert (recovered.queued, recovered.uncertain) == (0, 1)
    assert states(view) == ["uncertain"]
    assert [result.status for result in view.attempts[0].results] == ["uncertain"]


async def test_the_backlog_of_an_earlier_life_is_delivered(database: Database) -> None:
    messages = [new_message(id=100 + n) for n in range(50)]
    await asyncio.gather(*[database.batch(queue.submit, message) for message in messages])

    async with scripted_server() as server, running_gateway(database, relay_at(server.port)) as gateway:
        await gateway.worker.settled()

    assert len(server.contents) == 50


# -- a store that fails -----------------------------------------------------------------------------------------------


def _break(tx: Transaction, statement: str) -> None:
    tx.execute(statement)


async def test_a_value_that_no_database_holds_is_the_submitters_mistake(database: Database) -> None:
    async with scripted_server() as server, running_gateway(database, relay_at(server.port)) as gateway:
        with pytest.raises(InvalidArgument):
            await gateway.hand_in(subject="half a pair: \ud800")
        await gateway.hand_in()
        await gateway.worker.settled()

    assert len(server.contents) == 1


async def test_an_attempt_that_cannot_be_opened_hands_nothing_over(database: Database) -> None:
    """The mark is durable before the final dot, or the dot does not leave."""
    async with scripted_server() as server, running_gateway(database, None) as gateway:
        id = await gateway.hand_in()
        await database.write(_break, "ALTER TABLE attempts RENAME TO hidden")
        gateway.relay = relay_at(server.port)
        gateway.worker.relay_changed()
        await until(lambda: any(line.startswith("DATA") for line in server.commands))
        await database.write(_break, "ALTER TABLE hidden RENAME TO attempts")
        await gateway.worker.settled()
        view = await gateway.view(id)

    assert delivered(server.contents) == [CONTENT]
    assert states(view) == ["accepted"]
    assert len(view.attempts) == 1


async def test_an_end_that_cannot_be_recorded_is_kept_until_it_can(database: Database) -> None:
    async with scripted_server() as server, running_gateway(database, relay_at(server.port)) as gateway:
        await gateway.hand_in()
        await gateway.worker.settled()
        # From now on the mark comes with the message, and only the close meets the broken table.
        id = await gateway.hand_in()
        await database.write(_break, "ALTER TABLE recipients RENAME TO hidden")
        await until(lambda: len(server.contents) == 2)
        with pytest.raises(Unavailable):
            await gateway.hand_in()
        await database.write(_break, "ALTER TABLE hidden RENAME TO recipients")
        await gateway.worker.settled()
        view = await gateway.view(id)

    assert len(server.contents) == 2
    assert states(view) == ["accepted"]


async def test_a_node_that_was_taken_over_sends_nothing_more(database: Database) -> None:
    """Its leases are with others now; what it accepts is stored for them."""
    async with scripted_server() as server, running_gateway(database, relay_at(server.port)) as gateway:
        await database.write(nodes.register, "gateway", NOW)
        id = await gateway.hand_in()
        gateway.worker.wake()
        await until(gateway.worker.lost.is_set)
        view = await gateway.view(id)

    assert server.contents == []
    assert states(view) == ["queued"]
