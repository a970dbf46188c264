"""Fifty callers change providers at once, on one node and on two: no call fails, and one provider is active."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import cycle
from threading import Event
from typing import Any

import pytest

from tests.support.databases import drop_postgres, new_postgres_url
from tests.support.postgres import PostgresServer
from tests.support.program import Answer, Program

CONNECTIONS, CALLS = 50, 600
CONFIG = {"senderAddress": "a@example.com", "senderName": "A", "host": "mail.example.com:587", "password": "p"}


def test_fifty_connections_add_configurations_and_none_fails(program_on: Program) -> None:
    """ZITADEL answered 1 to 2 % of such calls with 500."""
    with ThreadPoolExecutor(CONNECTIONS) as callers:
        answers = list(callers.map(lambda _: add(program_on), range(CALLS)))

    assert Counter(answer.status for answer in answers) == {200: CALLS}
    assert len({answer.json["id"] for answer in answers}) == CALLS
    assert int(listed(program_on)["details"]["totalResult"]) == CALLS


@pytest.fixture(scope="module")
def two_nodes(
    postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Program, Program]]:
    """Two gateways on one PostgreSQL, with one key and one owner."""
    url, folder = new_postgres_url(postgres_server), tmp_path_factory.mktemp("nodes")
    key = folder / "master.key"
    key.write_text("MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=\n")
    with ExitStack() as nodes:
        first, second = (
            nodes.enter_context(Program(folder / name, "--database", url, "--master-key-file", str(key)))
            for name in ("first", "second")
        )
        (second.data_dir / "owner.token").write_text(first.owner)
        yield first, second
    drop_postgres(postgres_server, url)


def test_two_nodes_activating_at_once_leave_one_active_at_every_moment(two_nodes: tuple[Program, Program]) -> None:
    """Each configuration is added by one node and activated by the other, while both are asked which are active."""
    first, second = two_nodes
    over = Event()

    def add_here_activate_there(nodes: tuple[Program, Program]) -> tuple[str, int]:
        here, there = nodes
        id = add(here).json["id"]
        return id, there.request("POST", f"/admin/v1/smtp/{id}/_activate", {}).status

    def most_active(node: Program) -> int:
        most, is_over = 0, False
        while not is_over:
            is_over = over.is_set()
            most = max(most, len(active(node)))
        return most

    with ThreadPoolExecutor(CONNECTIONS) as callers, ThreadPoolExecutor(2) as watchers:
        seen = [watchers.submit(most_active, node) for node in two_nodes]
        ways = zip(range(CALLS // 2), cycle([(first, second), (second, first)]), strict=False)
        done = dict(callers.map(lambda way: add_here_activate_there(way[1]), ways))
        over.set()

    assert Counter(done.values()) == {200: CALLS // 2}
    assert set(done) <= {one["id"] for one in listed(first)["result"]}
    assert [most.result() for most in seen] == [1, 1]
    assert active(first) == active(second)
    assert len(active(first)) == 1


def test_of_fifty_who_activate_the_same_one_only_the_first_does(two_nodes: tuple[Program, Program]) -> None:
    id = add(two_nodes[0]).json["id"]

    with ThreadPoolExecutor(CONNECTIONS) as callers:
        nodes = [two_nodes[n % 2] for n in range(CONNECTIONS)]
        answers = list(callers.map(lambda node: node.request("POST", f"/admin/v1/smtp/{id}/_activate", {}), nodes))

    assert Counter(answer.json.get("code", 0) for answer in answers) == {0: 1, 9: CONNECTIONS - 1}


def add(node: Program) -> Answer:
    return node.request("POST", "/admin/v1/smtp", CONFIG)


def listed(node: Program) -> Any:
    return node.request("POST", "/admin/v1/smtp/_search", {"query": {"limit": 1000}}).json


def active(node: Program) -> list[str]:
    """Return the ids of the active configurations."""
    return [one["id"] for one in listed(node).get("result", []) if one["state"] == "SMTP_CONFIG_ACTIVE"]
