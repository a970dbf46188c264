"""Operators who change the queue in bulk at two nodes at once, while both send: everybody is told what became of it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support.cluster import LONG_S, Cluster
from tests.support.databases import drop_postgres, new_postgres_url
from tests.support.postgres import PostgresServer
from tests.support.program import Answer, Program
from tests.support.sink import Sink

MESSAGES = 150


@pytest.fixture
def nodes(tmp_path: Path, postgres_server: PostgresServer) -> Iterator[list[Program]]:
    url = new_postgres_url(postgres_server)
    cluster = Cluster(tmp_path, url, LONG_S)
    with cluster.stack:
        yield [cluster.node(name) for name in ("first", "second")]
    drop_postgres(postgres_server, url)


def ask(node: Program, method: str, path: str, body: Any = None) -> Answer:
    """As the owner, whose token the node that started first has; it is good at every other."""
    token = (node.data_dir.parent / "first" / "owner.token").read_text().strip()
    return node.request(method, path, body, token=token)


def at_both(nodes: list[Program], path: str, body: Any, times: int = 1) -> int:
    """Ask both nodes at the same moment, `times` each; return to how many recipients it was done."""
    with ThreadPoolExecutor(2 * times) as pool:
        answers = list(pool.map(lambda node: ask(node, "POST", path, body), nodes * times))
    assert {answer.status for answer in answers} == {200}, answers
    return sum(int(answer.json.get("count", 0)) for answer in answers)


def hand_in(nodes: list[Program]) -> None:
    def one(number: int) -> int:
        mail = {"from": "a@example.com", "to": [f"r{number}@example.org"], "subject": "x", "text": "x"}
        return ask(nodes[number % 2], "POST", "/v1/messages", mail).status

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(one, range(MESSAGES))) == {202}


def settled(node: Program) -> list[tuple[str, str]]:
    """Return address and state of every recipient, once none of them waits any more."""
    deadline = time.monotonic() + 60
    while any(ask(node, "GET", f"/v1/messages?state={state}").json for state in ("queued", "sending", "deferred")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    found, token, is_last = [], "", False
    while not is_last:
        page = ask(node, "GET", f"/v1/messages?page_size=200&page_token={token}").json
        found += [(one["address"], one["state"]) for message in page["messages"] for one in message["recipients"]]
        token = page.get("next_page_token", "")
        is_last = not token
    return found


def copies(sink: Sink) -> Counter[str]:
    return Counter(address for mail in list(sink.mails.queue) for address in mail.recipients)


def test_nothing_is_both_canceled_and_sent_and_each_is_canceled_once(nodes: list[Program], sink: Sink) -> None:
    hand_in(nodes)
    sink.delay_s = 0.02
    nodes[0].add_relay(sink.address)
    deadline = time.monotonic() + 60
    while sink.mails.qsize() < 5:
        assert time.monotonic() < deadline
        time.sleep(0.01)

    told = at_both(nodes, "/v1/queue/cancel", {"filter": {"all": True}}, times=2)

    found, taken = settled(nodes[1]), copies(sink)
    assert len(dict(found)) == MESSAGES
    assert told == sum(state == "canceled" for _, state in found)
    assert sorted(taken.elements()) == sorted(address for address, state in found if state == "accepted")


def test_what_is_retried_and_replayed_at_both_is_sent_once(nodes: list[Program], sink: Sink) -> None:
    sink.reply = "550 5.1.1 no"
    nodes[0].add_relay(sink.address)
    hand_in(nodes)
    assert {state for _, state in settled(nodes[0])} == {"bounced"}
    sink.reply = "451 4.3.1 busy"

    assert at_both(nodes, "/v1/queue/replay", {"filter": {"state": "bounced"}}, times=2) == MESSAGES
    sink.reply = ""
    at_both(nodes, "/v1/queue/retry", {"filter": {"all": True}}, times=2)

    found = settled(nodes[1])
    assert Counter(state for _, state in found) == {"bounced": MESSAGES, "accepted": MESSAGES}
    assert sorted(copies(sink).elements()) == sorted(address for address, state in found if state == "accepted")
