"""The crash harness: kill the gateway and PostgreSQL at chosen and at random moments under load, then settle accounts.

What is compared: the clients' record of acknowledged messages, the next hop's fsynced ledger, and what the gateway says
of each message. What must hold, for every recipient of every message:

- acknowledged: the gateway knows it, and it is in the ledger, or listed as uncertain; nothing else is "lost";
- accepted: in the ledger; what the gateway calls accepted without the next hop's word would be lost silently;
- in the ledger at most once with uncertain_retries = 0, and at most once more for each retry that was allowed.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.e2e.crash import load, next_hop
from tests.support.databases import new_postgres_url
from tests.support.postgres import PostgresServer, postgres_server
from tests.support.program import Program

ROOT = Path(__file__).parents[3]
_TRIGGER_S = 2.0
_DRAIN_S = 90.0
_TRANSIENT = ("queued", "sending", "deferred")


@dataclass
class Summary:
    """What came of a run."""

    engine: str
    uncertain_retries: int
    seed: int
    kills: Counter[str] = field(default_factory=Counter)
    begun: int = 0
    acknowledged: int = 0
    recipients: int = 0  #: of acknowledged messages
    refused: int = 0
    taken: int = 0  #: lines in the ledger
    withheld: int = 0
    uncertain: int = 0  #: recipients listed as uncertain
    extra_copies: int = 0
    most_copies: int = 0
    violations: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def lines(self) -> list[str]:
        by_phase = ", ".join(f"{name} {count}" for name, count in sorted(self.kills.items()))
        return [
            f"{self.engine}, uncertain_retries = {self.uncertain_retries}, seed {self.seed}: "
            f"{self.kills.total()} kills in {self.seconds:.0f} s",
            f"  kills: {by_phase}",
            f"  messages: {self.begun} begun, {self.acknowledged} acknowledged ({self.recipients} recipients), "
            f"{self.refused} refused for a while",
            f"  ledger: {self.taken} taken, {self.withheld} of them with the answer withheld; "
            f"{self.extra_copies} extra copies, at most {self.most_copies} of one",
            f"  uncertain, all listed: {self.uncertain}; violations: {len(self.violations)}",
            *[f"  VIOLATION {text}" for text in self.violations[:20]],
        ]


class Harness:
    """One run on one engine. Made and run in an event loop."""

    def __init__(
        self,
        engine: str,
        *,
        kills: int,
        seed: int,
        uncertain_retries: int = 0,
        round_kills: int = 25,
        say: Callable[[str], None] = print,
    ) -> None:
        """`kills`: how many. `round_kills`: after so many, let all drain and settle accounts. `say`: progress."""
        self._engine = engine
        self._kills = kills
        self._round_kills = round_kills
        self._say = say
        self._random = random.Random(seed)
        self._retries = uncertain_retries
        self.summary = Summary(engine, uncertain_retries, seed)
        self._sent = load.Sent()
        self._settled: set[str] = set()  # marks whose accounts are settled
        self._armed: tuple[str, list[int]] | None = None
        self._fired = asyncio.Event()
        self._postgres: PostgresServer | None = None
        self._hop_port: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def run(self) -> Summary:
        """Do it and return what came of it. What the gateway logged is kept when something is wrong."""
        began = time.monotonic()
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mailward-crash-")))
            await self._run(stack, folder)
            self.summary.seconds = time.monotonic() - began
            if self.summary.violations:
                kept = Path(tempfile.gettempdir()) / f"mailward-crash-{self._engine}-{self.summary.seed}.log"
                kept.write_bytes((folder / "data.log").read_bytes())
                self._say(f"the gateway's log: {kept}")
        return self.summary

    async def _run(self, stack: ExitStack, folder: Path) -> None:
        flags = ["--retry-schedule-s", "1", "--uncertain-retries", str(self._retries), "--shutdown-s", "5"]
        if self._engine == "postgresql":
            self._postgres = stack.enter_context(postgres_server(fsync=False))
            flags += ["--database", new_postgres_url(self._postgres)]
        self._ledger = folder / "ledger"
        self._ledger.touch()
        self._hop = await asyncio.create_subprocess_exec(
            sys.executable, "-m", next_hop.__name__, str(self._ledger), "0", str(self._random.random())[2:10],
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, cwd=ROOT,
        )  # fmt: skip
        listening = asyncio.create_task(self._listen())
        self._program = Program(folder / "data", *flags)
        try:
            await asyncio.to_thread(self._program.start)
            port = await self._hop_port
            token = await asyncio.to_thread(self._program.token, "sender", "load")
            await asyncio.to_thread(self._program.add_relay, f"127.0.0.1:{port}")
            self._load = load.Load(
                self._sent,
                smtp_port=self._program.smtp_port,
                http_port=self._program.http_port,
                token=token,
                reach=self._reach,
                seed=self._random.randrange(1 << 30),
            )
            while (done := self.summary.kills.total()) < self._kills:
                await self._round(min(self._round_kills, self._kills - done))
        finally:
            listening.cancel()
            if self._program.process.poll() is None:
                self._program.kill()
            self._hop.kill()
            await self._hop.wait()

    async def _round(self, kills: int) -> None:
        since = datetime.now(UTC) - timedelta(seconds=5)
        self._tell(rough=True)
        self._load.start()
        for _ in range(kills):
            await asyncio.sleep(self._random.uniform(0.0, 0.8))
            await self._kill_once()
        await asyncio.sleep(0.2)
        await self._load.stop()
        self._tell(rough=False)
        await self._drain()
        await self._reconcile(since)
        total = self.summary
        self._say(
            f"{self._engine} retries={self._retries}: {total.kills.total()}/{self._kills} kills, "
            f"{total.acknowledged} acknowledged, {total.taken} taken, {total.uncertain} uncertain, "
            f"{len(total.violations)} violations"
        )

    # Killing

    async def _kill_once(self) -> None:
        phase = self._random.choice([*next_hop.PHASES, *load.PHASES, "random", "random", "start"])
        target = "gateway"
        if self._postgres is not None:
            target = self._random.choice(["gateway", "gateway", "gateway", "postgresql", "both"])
        pids = [] if target == "postgresql" else [self._program.process.pid]
        victims: list[int] = []
        if self._postgres is not None and target != "gateway":
            pids.append(self._postgres.pid)
            victims = self._postgres.children()
        await self._fire(phase, pids)
        self.summary.kills[f"{target} {phase}" if target != "gateway" else phase] += 1
        if self._postgres is not None and target != "gateway":
            await asyncio.to_thread(self._postgres.restart_after_kill, victims)
        if target != "postgresql":
            await asyncio.to_thread(self._program.process.wait)
            if phase == "start":
                await self._kill_in_start()
            await asyncio.to_thread(self._program.start)

    async def _fire(self, phase: str, pids: list[int]) -> None:
        """Kill `pids` when `phase` is reached, or when it is not for a while."""
        self._fired.clear()
        if phase in next_hop.PHASES:
            self._tell(arm=phase, pids=pids, skip=self._random.randrange(5))
        elif phase in load.PHASES:
            self._armed = (phase, pids)
        else:
            await asyncio.sleep(self._random.uniform(0.0, 0.3))
            _kill(pids)
            return
        try:
            async with asyncio.timeout(_TRIGGER_S):
                await self._fired.wait()
        except TimeoutError:
            self._armed = None
            self._tell(disarm=True)
            _kill(pids)

    async def _kill_in_start(self) -> None:
        starting = asyncio.create_task(asyncio.to_thread(self._program.start))
        await asyncio.sleep(self._random.uniform(0.3, 1.0))
        _kill([self._program.process.pid])
        await asyncio.gather(starting, return_exceptions=True)
        await asyncio.to_thread(self._program.process.wait)

    def _reach(self, phase: str) -> None:
        if self._armed is not None and self._armed[0] == phase:
            _kill(self._armed[1])
            self._armed = None
            self._fired.set()

    # The next hop

    def _tell(self, **command: Any) -> None:
        assert self._hop.stdin is not None
        self._hop.stdin.write(json.dumps(command).encode() + b"\n")

    async def _listen(self) -> None:
        assert self._hop.stdout is not None
        while line := await self._hop.stdout.readline():
            said = json.loads(line)
            if "port" in said:
                self._hop_port.set_result(said["port"])
            else:
                self._fired.set()

    # Settling accounts

    async def _get(self, path: str) -> Any:
        answer = await asyncio.to_thread(self._program.request, "GET", path)
        assert answer.status == 200, answer.body
        return answer.json

    async def _list(self, query: str) -> list[Any]:
        found: list[Any] = []
        token = ""
        while True:
            page = await self._get(f"/v1/messages?page_size=200&{query}&page_token={token}")
            found += page.get("messages", [])
            if not (token := page.get("next_page_token", "")):
                return found

    async def _drain(self) -> None:
        """Wait until nothing moves any more: everything is accepted, or held in doubt."""
        deadline = time.monotonic() + _DRAIN_S
        while True:
            try:
                moving = [m for state in _TRANSIENT for m in await self._list(f"state={state}")]
                moving += [
                    m
                    for m in await self._list("state=uncertain")
                    if any("next_attempt_at" in r for r in m["recipients"] if r["state"] == "uncertain")
                ]
            except (AssertionError, OSError):  # The store is not back yet.
                moving = [None]
            if not moving:
                return
            if time.monotonic() > deadline:
                self.summary.violations.append(f"not drained after {_DRAIN_S:.0f} s: {len(moving)}, e.g. {moving[0]}")
                return
            await asyncio.sleep(0.2)

    async def _reconcile(self, since: datetime) -> None:
        total = self.summary
        ledger = [json.loads(line) for line in self._ledger.read_text().splitlines()]
        copies = Counter((line["mark"], line["to"]) for line in ledger)
        total.taken = len(ledger)
        total.withheld = sum(line["how"] == "withheld" for line in ledger)
        total.begun, total.acknowledged = len(self._sent.recipients), len(self._sent.acknowledged)
        total.refused = self._sent.refused
        total.recipients = sum(len(self._sent.recipients[mark]) for mark in self._sent.acknowledged)
        total.extra_copies = sum(count - 1 for count in copies.values())
        total.most_copies = max(copies.values(), default=0)
        for key, count in copies.items():
            if count > 1 + self._retries:
                total.violations.append(f"doubled: {key} is {count} times in the ledger")
        listed = await self._list(f"created_after={since:%Y-%m-%dT%H:%M:%SZ}")
        by_id = {message["id"]: message for message in listed}
        doubts = {message["id"] for message in await self._list("state=uncertain")}
        for mark in self._sent.acknowledged.keys() - self._settled:
            id = self._sent.acknowledged[mark]
            if id not in by_id:
                total.violations.append(f"lost: {mark} was acknowledged as {id}, which nobody knows")
        for message in listed:
            mark = message["subject"]
            if mark in self._settled:
                continue
            self._settled.add(mark)
            for recipient in message["recipients"]:
                self._judge(message, recipient, copies[mark, recipient["address"]], message["id"] in doubts)

    def _judge(self, message: Any, recipient: Any, count: int, is_listed: bool) -> None:
        state, name = recipient["state"], f"{message['subject']} ({message['id']}) to {recipient['address']}"
        violations = self.summary.violations
        if state == "accepted":
            if count == 0:
                violations.append(f"lost: {name} is called accepted and is not in the ledger")
        elif state == "uncertain":
            self.summary.uncertain += 1
            if not is_listed:
                violations.append(f"hidden: {name} is uncertain and not listed")
        else:
            violations.append(f"stuck: {name} is {state}, {count} times in the ledger")


def _kill(pids: list[int]) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
