"""What three nodes on one PostgreSQL share: limits, what is known of providers, and the operator's hand."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.cluster import LONG_S, Cluster
from tests.support.databases import new_postgres_url
from tests.support.postgres import PostgresServer
from tests.support.program import Program
from tests.support.sink import Sink
from tests.support.smtp_servers import Fault, scripted_server
from tests.support.waiting import wait_until

MAIL: dict[str, Any] = {"from": "noreply@example.com", "to": ["ada@example.org"], "subject": "Hello", "text": "Hi.\n"}


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory, postgres_server: PostgresServer) -> Iterator[list[Program]]:
    cluster = Cluster(tmp_path_factory.mktemp("shared"), new_postgres_url(postgres_server), LONG_S)
    with cluster.stack:
        yield [cluster.node(name) for name in ("first", "second", "third")]


def send(program: Program, number: int, **changes: Any) -> list[str]:
    """Hand in `number` mails; return their ids."""
    token = program.token("sender", f"sender{time.monotonic_ns()}")
    return [program.request("POST", "/v1/messages", MAIL | changes, token=token).json["id"] for _ in range(number)]


async def send_by_all(nodes: list[Program], number: int) -> list[str]:
    sent = await asyncio.gather(*[asyncio.to_thread(send, node, number) for node in nodes])
    return [id for ids in sent for id in ids]


PER_SECOND = 12


def test_a_limit_counts_for_all_nodes_together(nodes: list[Program], sink: Sink) -> None:
    """With one of its own for each, all mail would be there within a second; shared, it takes more than two."""
    relay = nodes[0].add_relay(sink.address, activate=False)
    limits = {"per_second": PER_SECOND}
    assert nodes[0].request("PUT", f"/mailward/v1/providers/{relay}/limits", limits).status == 200
    nodes[0].request("POST", f"/admin/v1/smtp/{relay}/_activate", {})

    asyncio.run(send_by_all(nodes, PER_SECOND))
    times = [mail.at_s for mail in sink.wait(3 * PER_SECOND)]

    assert max(times) - min(times) > 1.5
    assert sink.mails.empty()


async def test_a_refused_login_is_tried_five_times_by_all_nodes_and_mail_flows_soon_after_the_repair(
    nodes: list[Program],
) -> None:
    script: Any = {"EHLO": b"250-scripted\r\n250 AUTH PLAIN\r\n", "AUTH": b"535 5.7.8 no\r\n"}
    async with scripted_server(script) as server:
        host = f"127.0.0.1:{server.port}"
        await asyncio.to_thread(nodes[0].add_relay, host, user="u", password="p")
        ids = await send_by_all(nodes, 20)
        await asyncio.to_thread(wait_until, lambda: is_out(nodes[0], ids[-1]))
        logins = sum(line.startswith("AUTH") for line in server.commands)

        server.script["AUTH"] = b"235 2.7.0 ok\r\n"
        for id in ids:
            await asyncio.to_thread(nodes[0].wait_for_state, id, "accepted")

    assert logins <= 5


def is_out(program: Program, id: str) -> bool:
    return "out of rotation" in program.request("GET", f"/v1/messages/{id}").json.get("waiting_for", "")


async def test_mail_in_the_memory_of_the_others_is_canceled_at_any_node(nodes: list[Program]) -> None:
    """Both hold 40 mails; 20 conversations are stuck in MAIL, the rest merely waits."""
    async with scripted_server({"MAIL": Fault.HANG}) as server:
        await asyncio.to_thread(nodes[0].add_relay, f"127.0.0.1:{server.port}")
        ids = [id for node in nodes[1:] for id in await asyncio.to_thread(send, node, 40, tags=["news"])]
        asked = {"filter": {"tag": "news"}}
        one = await asyncio.to_thread(nodes[0].request, "POST", f"/v1/messages/{ids[-1]}/cancel", {})
        answer = await asyncio.to_thread(nodes[0].request, "POST", "/v1/queue/cancel", asked)
        shown = [(await asyncio.to_thread(nodes[0].request, "GET", f"/v1/messages/{id}")).json["state"] for id in ids]

    assert (one.status, answer.status) == (200, 200), (one.body, answer.body)
    assert shown.count("canceled") == 1 + int(answer.json["count"])
    assert shown.count("canceled") > 1  # How many have begun a conversation by then is for the machine to say.
