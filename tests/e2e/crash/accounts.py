"""Settling accounts: what clients had acknowledged, what the next hop took, and what the gateway says of it.

What must hold, for every recipient of every message:

- acknowledged: the gateway knows it, and it is in the ledger, or listed as uncertain; nothing else is "lost";
- accepted: in the ledger; what the gateway calls accepted without the next hop's word would be lost silently;
- in the ledger at most once with uncertain_retries = 0, and at most once more for each retry that was allowed.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.e2e.crash.load import Sent
from tests.support.program import Program

_DRAIN_S = 90.0
_TRANSIENT = ("queued", "deferred", "sending")


@dataclass
class Totals:
    """What came of a run, so far."""

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

    def lines(self) -> list[str]:
        return [
            f"  messages: {self.begun} begun, {self.acknowledged} acknowledged ({self.recipients} recipients), "
            f"{self.refused} refused for a while",
            f"  ledger: {self.taken} taken, {self.withheld} of them with the answer withheld; "
            f"{self.extra_copies} extra copies, at most {self.most_copies} of one",
            f"  uncertain, all listed: {self.uncertain}; violations: {len(self.violations)}",
            *[f"  VIOLATION {text}" for text in self.violations[:20]],
        ]


class Accounts:
    """Asks `program`, any node that serves the API, once nothing moves any more."""

    def __init__(self, program: Program, sent: Sent, ledger: Path, uncertain_retries: int) -> None:
        self.totals = Totals()
        self._program = program
        self._sent = sent
        self._ledger = ledger
        self._retries = uncertain_retries
        self._settled: set[str] = set()  # marks whose accounts are settled

    async def settle(self, since: datetime) -> None:
        """Wait until everything has drained, and compare what was handed in since then."""
        await self._drain()
        await self._reconcile(since)

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
        """Wait until nothing moves any more: everything is accepted, or held in doubt.

        Two looks in a row: what is tried between those at "deferred" and at "sending" may be missed by one of them, and
        is seen by the next, because nothing is tried twice within a second.
        """
        deadline = time.monotonic() + _DRAIN_S
        quiet = False
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
            if not moving and quiet:
                return
            quiet = not moving
            if moving and time.monotonic() > deadline:
                self.totals.violations.append(f"not drained after {_DRAIN_S:.0f} s: {len(moving)}, e.g. {moving[0]}")
                return
            await asyncio.sleep(0.2)

    async def _reconcile(self, since: datetime) -> None:
        total = self.totals
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
        violations = self.totals.violations
        if state == "accepted":
            if count == 0:
                violations.append(f"lost: {name} is called accepted and is not in the ledger")
        elif state == "uncertain":
            self.totals.uncertain += 1
            if not is_listed:
                violations.append(f"hidden: {name} is uncertain and not listed")
        else:
            violations.append(f"stuck: {name} is {state}, {count} times in the ledger")
