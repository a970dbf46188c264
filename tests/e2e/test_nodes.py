"""Three nodes on one PostgreSQL: one is killed, frozen, cut off, or the database restarts; no mail is lost."""

from __future__ import annotations

import asyncio
import random
import shutil
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.e2e.crash import load
from tests.e2e.crash.accounts import Accounts, Totals
from tests.e2e.crash.hop import Hop
from tests.support.cluster import LONG_S, Cluster
from tests.support.databases import new_postgres_url
from tests.support.postgres import PostgresServer, postgres_server
from tests.support.program import Program
from tests.support.proxy import Proxy
from tests.support.waiting import until, wait_until


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A PostgreSQL that may be stopped."""
    with postgres_server(fsync=False) as server:
        yield server


@pytest.fixture
def cluster(tmp_path: Path, server: PostgresServer) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path, new_postgres_url(server))
    with cluster.stack:
        yield cluster


@asynccontextmanager
async def flow(cluster: Cluster, by_http: Program, by_smtp: Program) -> AsyncIterator[tuple[load.Sent, Totals]]:
    """Load two nodes for as long as the block lasts, wait until all has drained, and settle accounts by the first."""
    since = datetime.now(UTC) - timedelta(seconds=5)
    async with Hop(cluster.folder / "ledger", 1) as hop:
        by_http.add_relay(f"127.0.0.1:{hop.port}")
        hop.tell(rough=False, slow_s=0.05)  # so that every node holds something at any time
        sent = load.Sent()
        clients = load.Load.of(by_http, sent, by_smtp=by_smtp, seed=random.randrange(1 << 30), pause_s=0.01)
        clients.start()
        accounts = Accounts(by_http, sent, hop.ledger, 0)
        await acknowledged(sent, 50)
        yield sent, accounts.totals
        await clients.stop()
        await accounts.settle(since)
    assert accounts.totals.violations == []
    assert accounts.totals.most_copies == 1


async def acknowledged(sent: load.Sent, more: int) -> None:
    """Return once `more` messages than now have been acknowledged."""
    wanted = len(sent.acknowledged) + more
    await until(lambda: len(sent.acknowledged) >= wanted)


async def said(program: Program, event: str) -> None:
    """Return once `program` has logged `event`."""
    await asyncio.to_thread(program.wait_for_log, event)


async def test_mail_of_a_node_killed_in_full_flow_is_delivered_by_the_others(cluster: Cluster) -> None:
    first, _, victim = [cluster.node(name) for name in ("first", "second", "victim")]

    async with flow(cluster, first, victim) as (sent, _):
        victim.kill()
        await buried(cluster)
        await acknowledged(sent, 20)


async def test_as_it_is_set_mail_of_a_dead_node_is_recovered_within_half_a_minute(
    tmp_path: Path, server: PostgresServer
) -> None:
    cluster = Cluster(tmp_path, new_postgres_url(server), dead_after_s=None)
    with cluster.stack:
        first, _, victim = [cluster.node(name) for name in ("first", "second", "victim")]

        async with flow(cluster, first, victim):
            victim.kill()
            died, before = time.monotonic(), f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
            while await asyncio.to_thread(holds_anything, first, before):
                await asyncio.sleep(0.1)
            took_s = time.monotonic() - died
            await buried(cluster)

    print(f"recovered after {took_s:.1f} s")
    assert took_s < 30


def holds_anything(node: Program, before: str) -> bool:
    """Tell whether mail that came before `before` is still with a node, or waits for one."""
    return any(
        node.request("GET", f"/v1/messages?page_size=1&state={state}&created_before={before}").json
        for state in ("queued", "sending")
    )


async def test_a_node_frozen_past_its_heartbeat_goes_on_in_another_life(cluster: Cluster) -> None:
    first, _, frozen = [cluster.node(name) for name in ("first", "second", "frozen")]

    async with flow(cluster, first, frozen) as (sent, _):
        frozen.process.send_signal(signal.SIGSTOP)
        await buried(cluster)
        frozen.process.send_signal(signal.SIGCONT)
        await said(frozen, "node.reborn")
        await acknowledged(sent, 50)

    assert frozen.stop() == 0


async def buried(cluster: Cluster) -> None:
    """Return once any node has buried another."""
    logs = list(cluster.folder.glob("*.log"))
    await asyncio.to_thread(wait_until, lambda: any(b'"node.buried"' in log.read_bytes() for log in logs))


async def test_a_restart_of_the_database_buries_nobody(cluster: Cluster, server: PostgresServer) -> None:
    cluster.dead_after_s = 6.0
    programs = [cluster.node(name) for name in ("first", "second", "third")]

    async with flow(cluster, programs[0], programs[1]) as (sent, _):
        await asyncio.to_thread(server.kill)
        await asyncio.sleep(cluster.dead_after_s + 1.0)
        server.start()  # Here: it ends with the thread that started it.
        await acknowledged(sent, 50)

    logs = b"".join(program.log.read_bytes() for program in programs)
    assert b'"node.buried"' not in logs
    assert b'"node.reborn"' not in logs


async def test_a_node_cut_off_from_the_database_is_recovered_and_comes_back(
    cluster: Cluster, server: PostgresServer
) -> None:
    host = Path(cluster.database.partition("host=")[2])
    short = Path(tempfile.mkdtemp(prefix="mailward-cut-"))  # a socket's path must be short
    try:
        async with Proxy(short / "pg", host) as proxy:
            first, _ = [cluster.node(name) for name in ("first", "second")]
            way = cluster.database.replace(f"host={host}", f"host={proxy.folder}&connect_timeout=2&tcp_user_timeout=0")
            remote = await asyncio.to_thread(cluster.node, "remote", database=way)

            async with flow(cluster, first, remote) as (sent, _):
                proxy.cut()
                await buried(cluster)
                await acknowledged(sent, 20)
                proxy.mend()
                await said(remote, "node.reborn")
                await acknowledged(sent, 50)

            assert await asyncio.to_thread(remote.stop) == 0
    finally:
        shutil.rmtree(short)


async def test_each_role_does_its_part_and_mail_flows_through_all_of_them(cluster: Cluster) -> None:
    cluster.dead_after_s = LONG_S
    api, smtp, worker = [cluster.node(role, role=role) for role in ("api", "smtp", "worker")]

    async with flow(cluster, api, smtp) as (sent, _):
        id = api.request(
            "POST", "/v1/messages", {"from": "a@b.example", "to": ["c@d.example"], "subject": "x", "text": "y"}
        )
        await asyncio.to_thread(api.wait_for_state, id.json["id"], "accepted")
        sent.acknowledged["x"] = id.json["id"]
        sent.recipients["x"] = ["c@d.example"]

    assert (api.smtp_port, worker.smtp_port) == (0, 0)
    for part in (smtp, worker):
        assert part.request("GET", "/readyz", token="").body == b"ok"
        assert b"mailward_" in part.request("GET", "/metrics", token="").body
        assert part.request("GET", "/v1/messages", token=api.owner).status == 404


def test_a_part_alone_needs_a_database_that_others_share(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="role worker needs a database"):
        Program(tmp_path / "data", "--role", "worker").start()
