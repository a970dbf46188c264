"""The crash harness: kill gateway and PostgreSQL at chosen and at random moments under load, then settle accounts."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.e2e.crash import load, next_hop
from tests.e2e.crash.accounts import Accounts, Totals
from tests.e2e.crash.hop import Hop
from tests.support.databases import new_postgres_url
from tests.support.postgres import PostgresServer, postgres_server
from tests.support.processes import children_of
from tests.support.program import Program
from tests.support.waiting import PATIENCE_S, until

_TRIGGER_S = 2.0
_FLOW_S = 10.0


@dataclass
class Summary:
    """What came of a run."""

    engine: str
    uncertain_retries: int
    seed: int
    kills: Counter[str] = field(default_factory=Counter)
    totals: Totals = field(default_factory=Totals)
    seconds: float = 0.0

    def lines(self) -> list[str]:
        by_phase = ", ".join(f"{name} {count}" for name, count in sorted(self.kills.items()))
        return [
            f"{self.engine}, uncertain_retries = {self.uncertain_retries}, seed {self.seed}: "
            f"{self.kills.total()} kills in {self.seconds:.0f} s",
            f"  kills: {by_phase}",
            *self.totals.lines(),
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
        self._kinds: Counter[str] = Counter()
        self._seed = seed
        self._sent = load.Sent()
        self._armed: tuple[str, list[int]] | None = None
        self._postgres: PostgresServer | None = None
        self._hop: Hop
        self._program: Program
        self._load: load.Load
        self._accounts: Accounts

    async def run(self) -> Summary:
        """Do it and return what came of it. What the gateway logged is kept when something is wrong."""
        began = time.monotonic()
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mailward-crash-")))
            flags = ["--retry-schedule-s", "1", "--uncertain-retries", str(self._retries), "--shutdown-s", "5"]
            if self._engine == "postgresql":
                self._postgres = stack.enter_context(postgres_server(fsync=False))
                flags += ["--database", new_postgres_url(self._postgres)]
            self._program = Program(folder / "data", *flags)
            try:
                async with Hop(folder / "ledger", self._random.randrange(1 << 30)) as self._hop:
                    await self._run()
            finally:
                if self._program.process.poll() is None:
                    self._program.kill()
            if self._accounts.totals.violations:
                kept = Path(tempfile.gettempdir()) / f"mailward-crash-{self._engine}-{self._seed}.log"
                kept.write_bytes(self._program.log.read_bytes())
                self._say(f"the gateway's log: {kept}")
        seconds = time.monotonic() - began
        return Summary(self._engine, self._retries, self._seed, self._kinds, self._accounts.totals, seconds)

    async def _run(self) -> None:
        await asyncio.to_thread(self._program.start)
        token = await asyncio.to_thread(self._program.token, "sender", "load")
        await asyncio.to_thread(self._program.add_relay, f"127.0.0.1:{self._hop.port}")
        self._accounts = Accounts(self._program, self._sent, self._hop.ledger, self._retries)
        self._load = load.Load(
            self._sent,
            smtp_port=self._program.smtp_port,
            http_port=self._program.http_port,
            token=token,
            reach=self._reach,
            seed=self._random.randrange(1 << 30),
        )
        while (done := self._kinds.total()) < self._kills:
            await self._round(min(self._round_kills, self._kills - done))

    async def _round(self, kills: int) -> None:
        since = datetime.now(UTC) - timedelta(seconds=5)
        self._hop.tell(rough=True)
        self._load.start()
        try:
            for _ in range(kills):
                await asyncio.sleep(self._random.uniform(0.0, 0.5))
                await self._kill_once()
            await asyncio.sleep(0.2)
        finally:
            await self._load.stop()
        self._hop.tell(rough=False)
        await self._accounts.settle(since)
        totals = self._accounts.totals
        self._say(
            f"{self._engine} retries={self._retries}: {self._kinds.total()}/{self._kills} kills, "
            f"{totals.acknowledged} acknowledged, {totals.taken} taken, {totals.uncertain} uncertain, "
            f"{len(totals.violations)} violations"
        )

    async def _kill_once(self) -> None:
        phase = self._random.choice([*next_hop.PHASES, *load.PHASES, "random", "random", "start"])
        targets = ["gateway", "gateway", "gateway", "store"]
        target = self._random.choice(targets if self._postgres is None else [*targets, "postgresql", "both"])
        gateway = self._program.process.pid
        pids = {"gateway": [gateway], "store": children_of(gateway), "both": [gateway]}.get(target, [])
        children: list[int] = []
        if self._postgres is not None and target in ("postgresql", "both"):
            pids.append(self._postgres.pid)
            children = children_of(self._postgres.pid)
        await self._fire(phase, pids)
        self._kinds[f"{target} {phase}" if target != "gateway" else phase] += 1
        if self._postgres is not None and target in ("postgresql", "both"):
            await asyncio.to_thread(self._postgres.restart_after_kill, children)
        if target != "postgresql":  # A gateway that lost its store process ends by itself.
            await asyncio.to_thread(self._program.process.wait, PATIENCE_S)
            if phase == "start":
                await self._kill_in_start()
            await asyncio.to_thread(self._program.start)
        if self._random.random() < 0.8:
            await self._flows_again()

    async def _flows_again(self) -> None:
        """Wait until something is acknowledged, so that the next kill meets a gateway at work."""
        before = len(self._sent.acknowledged)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FLOW_S):
                while len(self._sent.acknowledged) == before:
                    await asyncio.sleep(0.02)

    async def _fire(self, phase: str, pids: list[int]) -> None:
        """Kill `pids` when `phase` is reached, or when it is not for a while."""
        self._hop.fired.clear()
        if phase in next_hop.PHASES:
            self._hop.tell(arm=phase, pids=pids, skip=self._random.randrange(5))
        elif phase in load.PHASES:
            self._armed = (phase, pids)
        else:
            await asyncio.sleep(self._random.uniform(0.0, 0.3))
            _kill(pids)
            return
        try:
            async with asyncio.timeout(_TRIGGER_S):
                await self._hop.fired.wait()
        except TimeoutError:
            self._armed = None
            self._hop.tell(disarm=True)
            _kill(pids)

    async def _kill_in_start(self) -> None:
        before = self._program.process
        starting = asyncio.create_task(asyncio.to_thread(self._program.start))
        await until(lambda: self._program.process is not before)
        await asyncio.sleep(self._random.uniform(0.3, 1.0))
        _kill([self._program.process.pid])
        await asyncio.gather(starting, return_exceptions=True)
        await asyncio.to_thread(self._program.process.wait)

    def _reach(self, phase: str) -> None:
        if self._armed is not None and self._armed[0] == phase:
            _kill(self._armed[1])
            self._armed = None
            self._hop.fired.set()


def _kill(pids: list[int]) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
