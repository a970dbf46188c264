"""Mail that a provider's trouble has deferred goes once the provider is changed, and no other does; on both engines."""

import asyncio

from mailward.db.database import Database
from mailward.delivery import nodes, operators, queue
from mailward.delivery.attempt import encode, result
from mailward.delivery.hasten import hasten
from mailward.delivery.lease import Lane, NewMessage, Owner
from mailward.delivery.operators import START, Cursor
from mailward.delivery.status import Status
from mailward.smtp.reply import Reply
from mailward.transport.outcome import Fault, Stage
from tests.support.gateway import relay_at, running_gateway
from tests.support.queued import HOUR, NOW, SECOND, closing, mark, new_message, opening
from tests.support.smtp_servers import Fault as Does
from tests.support.smtp_servers import Script, scripted_server
from tests.support.waiting import until

LATER = NOW + HOUR


async def defer(database: Database, message: NewMessage, owner: Owner, *faults: str) -> None:
    """Store `message` and end its attempt: each recipient is deferred for an hour, by the fault given for it."""
    await database.batch(queue.submit, message)
    attempt = mark()
    await database.batch(queue.open_attempts, opening(message, attempt, owner))
    reply = Reply(451, "4.0.0", "later")
    results = encode([result(n, Status.DEFERRED, Stage.AUTH, fault, reply) for n, fault in enumerate(faults)])
    ended = [(n, "deferred", LATER, 0) for n in range(len(faults))]
    await database.batch(queue.close_attempts, closing(message, attempt, owner, *ended, results=results))


async def walk(database: Database, now_us: int = NOW + 2 * SECOND) -> int:
    """Do all of it; return how many are due now."""
    count = 0
    cursor: Cursor = START
    while True:
        step = await database.write(hasten, cursor, now_us)
        count += step.count
        if step.cursor is None:
            return count
        cursor = step.cursor


async def due(database: Database, now_us: int = NOW + 2 * SECOND) -> list[tuple[int, int]]:
    """Return (message, n) of all that is due, and lease it."""
    owner = await database.write(nodes.register, "claimer", NOW)
    request = queue.ClaimRequest(owner=owner, now_us=now_us, messages=10_000, content_bytes=1 << 30)
    claimed = await database.write(queue.claim, request)
    return sorted((lease.message_id, one.n) for lease, _ in claimed.leases() for one in lease.due)


async def test_only_what_the_provider_could_not_take_is_due(database: Database) -> None:
    owner = await database.write(nodes.register, "a", NOW)
    both, other = new_message("a@example.net", "b@example.net", owner=owner), new_message(owner=owner)
    bulk = new_message(owner=owner, lane=Lane.BULK)
    await defer(database, both, owner, Fault.PROVIDER, Fault.RECIPIENT)
    await defer(database, other, owner, Fault.MESSAGE)
    await defer(database, bulk, owner, Fault.PROVIDER)

    assert await walk(database) == 2

    assert await due(database) == sorted([(both.id, 0), (bulk.id, 0)])
    assert await walk(database) == 0


async def test_it_is_the_last_attempt_that_counts(database: Database) -> None:
    """What the provider could not take an hour ago may be greylisted now."""
    owner = await database.write(nodes.register, "a", NOW)
    message = new_message(owner=owner)
    await defer(database, message, owner, Fault.PROVIDER)
    request = queue.ClaimRequest(owner=owner, now_us=LATER, messages=1, content_bytes=1 << 20)
    await database.write(queue.claim, request)
    attempt = mark()
    await database.batch(queue.open_attempts, opening(message, attempt, owner))
    greylisted = encode([result(0, Status.DEFERRED, Stage.RCPT, Fault.RECIPIENT, Reply(450, "4.2.0", "greylisted"))])
    close = closing(message, attempt, owner, (0, "deferred", LATER + HOUR, 0), results=greylisted)
    await database.batch(queue.close_attempts, close._replace(at_us=LATER))

    assert await walk(database, LATER) == 0


async def test_many_more_than_a_step_looks_at_are_due(database: Database) -> None:
    owner = await database.write(nodes.register, "a", NOW)
    messages = [new_message(owner=owner) for _ in range(2 * operators.SCANNED + 10)]
    await asyncio.gather(*[defer(database, message, owner, Fault.PROVIDER) for message in messages])

    assert await walk(database) == len(messages)
    assert len(await due(database)) == len(messages)


async def test_a_change_sends_what_was_deferred_by_trouble_and_leaves_what_is_greylisted(database: Database) -> None:
    script: Script = {"BANNER": [b"554 5.3.2 no service\r\n", b"220 welcome\r\n"], "RCPT": b"450 4.2.0 greylisted\r\n"}
    async with scripted_server(script) as server, running_gateway(database, relay_at(server.port)) as gateway:
        refused = await gateway.hand_in()
        await gateway.worker.settled()
        greylisted = await gateway.hand_in()
        await gateway.worker.settled()
        server.script = {}

        gateway.relay = relay_at(server.port, ehlo_name="other.test")
        await gateway.worker.settled()
        states = [(await gateway.view(id)).recipients[0].status.value for id in (refused, greylisted)]

    assert states == ["accepted", "deferred"]


async def test_what_is_on_the_way_to_the_old_settings_comes_back_at_once(database: Database) -> None:
    async with (
        scripted_server({"BANNER": Does.HANG}) as old,
        scripted_server() as new,
        running_gateway(database, relay_at(old.port)) as gateway,
    ):
        id = await gateway.hand_in()
        await until(lambda: old.connections)

        gateway.relay = relay_at(new.port)
        old.hang_up()
        await gateway.worker.settled()
        view = await gateway.view(id)

    assert view.recipients[0].status is Status.ACCEPTED
    assert [len(old.contents), len(new.contents)] == [0, 1]
