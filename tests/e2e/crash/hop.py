"""The process of the next hop, as the harness sees it."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from tests.e2e.crash import next_hop

ROOT = Path(__file__).parents[3]


class Hop:
    """Use as a context manager; `port` is there from then on."""

    def __init__(self, ledger: Path, seed: int) -> None:
        self.ledger = ledger
        self.port = 0
        self.fired = asyncio.Event()  #: set when the next hop has killed what it was armed for
        self._seed = seed

    async def __aenter__(self) -> Hop:
        self.ledger.touch()
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", next_hop.__name__, str(self.ledger), "0", str(self._seed),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, cwd=ROOT,
        )  # fmt: skip
        assert self._process.stdout is not None
        self.port = json.loads(await self._process.stdout.readline())["port"]
        self._listening = asyncio.create_task(self._listen(self._process.stdout))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listening.cancel()
        self._process.kill()
        await self._process.wait()

    def tell(self, **command: Any) -> None:
        """Send a command; see NextHop.command."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command).encode() + b"\n")

    async def _listen(self, reports: asyncio.StreamReader) -> None:
        while await reports.readline():
            self.fired.set()
