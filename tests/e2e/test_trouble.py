"""Trouble of every kind under load: no acknowledged mail is lost, and everything drains afterwards without a hand."""

from __future__ import annotations

import asyncio
import os
import random
import resource
import smtplib
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from tests.e2e.crash import load
from tests.e2e.crash.accounts import Accounts
from tests.e2e.crash.hop import Hop
from tests.support.databases import new_postgres_url
from tests.support.disk import disk
from tests.support.postgres import postgres_server
from tests.support.program import Program
from tests.support.sink import Sink
from tests.support.waiting import PATIENCE_S, until, wait_until

MAIL = {"from": "noreply@example.com", "to": ["ada@example.org"], "subject": "Hello", "text": "It works.\n"}
FLAGS = ("--retry-schedule-s", "1", "--uncertain-retries", "0")


class Flow:
    """A gateway under load."""

    def __init__(self, program: Program, hop: Hop, clients: load.Load, sent: load.Sent, accounts: Accounts) -> None:
        self.program, self.hop, self.clients, self.sent, self.accounts = program, hop, clients, sent, accounts

    async def acknowledged(self, more: int) -> None:
        """Return once `more` messages than now have been acknowledged."""
        wanted = len(self.sent.acknowledged) + more
        await until(lambda: len(self.sent.acknowledged) >= wanted)

    async def refused(self, more: int) -> None:
        """Return once `more` calls than now have been refused: 451, 503."""
        wanted = self.sent.refused + more
        await until(lambda: self.sent.refused >= wanted)


@asynccontextmanager
async def flow(program: Program, folder: Path, *, slow_s: float = 0.0) -> AsyncIterator[Flow]:
    """Load a running `program` for as long as the block lasts; then all must drain, and the accounts be right."""
    since = datetime.now(UTC) - timedelta(seconds=5)
    async with Hop(folder / "ledger", 1) as hop:
        hop.tell(rough=False, slow_s=slow_s)
        program.add_relay(f"127.0.0.1:{hop.port}")
        sent = load.Sent()
        clients = load.Load.of(program, sent, seed=random.randrange(1 << 30), pause_s=0.02)
        accounts = Accounts(program, sent, hop.ledger, 0)
        clients.start()
        running = Flow(program, hop, clients, sent, accounts)
        await running.acknowledged(20)
        yield running
        await clients.stop()
        hop.tell(slow_s=0.0)
        await accounts.settle(since)
    assert accounts.totals.violations == []
    assert accounts.totals.most_copies == 1


# -- the store --------------------------------------------------------------------------------------------------------


@contextmanager
def full_disk(program: Program) -> Iterator[None]:
    """A limit on file sizes stands for it: no write may grow a file."""
    resource.prlimit(program.store_pid, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
    yield
    resource.prlimit(program.store_pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


async def test_a_full_disk_for_a_while(tmp_path: Path) -> None:
    with Program(tmp_path / "data", *FLAGS) as program:
        async with flow(program, tmp_path) as running:
            with full_disk(program):
                await running.refused(3)
                assert (await asyncio.to_thread(program.request, "GET", "/livez")).status == 200
            await running.acknowledged(30)


async def test_a_disk_that_becomes_read_only(tmp_path: Path) -> None:
    """The doors say so as long as it lasts, what is stored is still shown, and the next start sends what waited."""
    with disk(tmp_path) as broken:
        program = Program(broken.path, *FLAGS)
        program.start()
        try:
            async with flow(program, tmp_path) as running:
                broken.fail(program)
                await running.refused(20)
                listed = await asyncio.to_thread(program.request, "GET", "/v1/messages?page_size=1")
                assert listed.status == 200 and listed.json["messages"]
                await asyncio.to_thread(program.stop)
                if broken.is_mounted:  # Until it is mended, a start says why it cannot be.
                    with pytest.raises(RuntimeError, match="cannot write to the data dir"):
                        await asyncio.to_thread(program.start)
                broken.mount()
                program.start()
                await running.acknowledged(30)
        finally:
            program.stop()


async def test_a_postgresql_that_is_read_only_and_then_gone_for_a_while(tmp_path: Path) -> None:
    with postgres_server(fsync=False) as server:
        url = new_postgres_url(server)
        with Program(tmp_path / "data", "--database", url, *FLAGS) as program:
            async with flow(program, tmp_path) as running:
                with psycopg.connect(server.url(), autocommit=True) as admin:
                    name = url.split("/")[3].split("?")[0]
                    admin.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
                    server.terminate_backends()
                await running.refused(5)
                with psycopg.connect(server.url(), autocommit=True) as admin:
                    admin.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = off")
                    server.terminate_backends()
                await running.acknowledged(30)

                server.stop()
                await running.refused(20)
                assert (await asyncio.to_thread(program.request, "GET", "/readyz")).status == 503
                server.start()
                await running.acknowledged(30)


# -- the network ------------------------------------------------------------------------------------------------------


def test_mail_for_a_provider_whose_name_cannot_be_resolved_waits_and_flows_once_it_can(
    program_on: Program, sink: Sink
) -> None:
    provider = program_on.add_relay("relay.invalid:25")
    id = program_on.request("POST", "/v1/messages", MAIL).json["id"]
    message = program_on.wait_for_state(id, "deferred")
    assert message["attempts"][0]["recipients"][0]["stage"] == "resolve"

    program_on.request(
        "PUT",
        f"/admin/v1/smtp/{provider}",
        {"senderAddress": "noreply@example.com", "senderName": "Example", "host": sink.address},
    )
    later = program_on.request("POST", "/v1/messages", MAIL).json["id"]

    for waiting in (later, id):
        program_on.wait_for_state(waiting, "accepted")


def resident_kib(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise AssertionError


CONNECTIONS = 10_000


def test_ten_thousand_connections_are_served_and_forgotten(program: Program, sink: Sink) -> None:
    """Opened and dropped, half of them at each door: mail flows meanwhile, memory is bounded and comes back."""
    program.add_relay(sink.address)
    program.wait_for_state(send_by_http(program, program.owner), "accepted")
    idle = resident_kib(program.process.pid)
    opened: list[socket.socket] = []
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        for port in (program.smtp_port, program.http_port):
            opened.extend(
                socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) for _ in range(CONNECTIONS // 2)
            )
        for send in (send_by_http, send_by_smtp):
            program.wait_for_state(send(program, program.owner), "accepted")
        peak = resident_kib(program.process.pid)
    finally:
        for connection in opened:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # reset, not closed
            connection.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    wait_until(lambda: len(os.listdir(f"/proc/{program.process.pid}/fd")) < 100)

    program.wait_for_state(send_by_http(program, program.owner), "accepted")
    print(f"idle {idle} KiB, peak {peak} KiB")
    assert peak - idle < CONNECTIONS * 8  # KiB


def test_where_files_are_few_a_crowd_is_told_so_and_mail_flows_all_the_same(tmp_path: Path, sink: Sink) -> None:
    """600 open files, 800 clients at a door: those too many get 421 or 503; the other door, store and relay go on."""
    with Program(tmp_path / "data", files=600) as program:
        program.add_relay(sink.address)
        token = program.token("sender")
        doors = [
            (program.smtp_port, b"421", send_by_http),
            (program.http_port, b"HTTP/1.1 503", send_by_smtp),
        ]
        sent = []
        for port, full, send_by_the_other in doors:
            crowd = [socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) for _ in range(800)]
            assert is_told(crowd[-1], full, PATIENCE_S)
            assert not is_told(crowd[0], full, 0.1)
            sent.append(send_by_the_other(program, token))
            for one in crowd:
                one.close()
        sent += [send_by_smtp(program, token), send_by_http(program, token)]

        for id in sent:
            program.wait_for_state(id, "accepted")
        counted = program.request("GET", "/metrics").body.decode()
    for door in ("smtp", "http"):
        assert f'mailward_connections_refused_total{{door="{door}"}}' in counted


def is_told(connection: socket.socket, answer: bytes, within_s: float) -> bool:
    """Return whether `connection` was turned away with `answer`; an HTTP server says nothing by itself."""
    connection.settimeout(within_s)
    try:
        return connection.recv(100).startswith(answer)
    except TimeoutError:
        return False


def send_by_http(program: Program, token: str) -> str:
    return str(program.request("POST", "/v1/messages", MAIL, token=token).json["id"])


def send_by_smtp(program: Program, token: str) -> str:
    with smtplib.SMTP("127.0.0.1", program.smtp_port, timeout=PATIENCE_S) as client:
        client.login("app", token)
        client.mail("noreply@example.com")
        client.rcpt("ada@example.org")
        _, words = client.data(b"From: noreply@example.com\r\nSubject: Hello\r\n\r\nIt works.\r\n")
        return words.decode().rsplit(" ", 1)[-1]


# -- stopping ---------------------------------------------------------------------------------------------------------


async def test_a_stop_in_full_flow_drains_within_its_deadline_and_leaves_no_doubt(
    tmp_path: Path, store_flags: list[str]
) -> None:
    with Program(tmp_path / "data", *store_flags, *FLAGS, "--shutdown-s", "40") as program:
        async with flow(program, tmp_path, slow_s=0.1) as running:
            began = time.monotonic()
            assert await asyncio.to_thread(program.stop) == 0
            assert time.monotonic() - began < 40
            program.start()
            await running.acknowledged(30)
    assert running.accounts.totals.uncertain == 0


async def test_a_stop_whose_deadline_cuts_a_hand_over_leaves_a_doubt_and_nothing_else(tmp_path: Path) -> None:
    """The provider takes minutes to answer, the stop has 1 s: what was behind the dot is uncertain, and listed."""
    with Program(tmp_path / "data", *FLAGS, "--shutdown-s", "1") as program:
        async with flow(program, tmp_path) as running:
            running.hop.tell(slow_s=300.0)
            await running.acknowledged(30)
            assert await asyncio.to_thread(program.stop) == 0
            running.hop.tell(slow_s=0.0)
            program.start()
            await running.acknowledged(10)
    assert running.accounts.totals.uncertain > 0
