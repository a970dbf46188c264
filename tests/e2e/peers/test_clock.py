"""The clock of a running gateway jumps by an hour, both ways and past its start: mail flows on as if nothing happened.

libfaketime (Debian) sets the clock that the process sees; the monotonic one goes on, as when an administrator sets it.
"""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest

from tests.e2e.crash import load
from tests.e2e.crash.accounts import Accounts
from tests.e2e.crash.hop import Hop
from tests.e2e.test_trouble import FLAGS
from tests.support.program import Program
from tests.support.waiting import until, wait_until

HOUR_S = 3600


class Clock:
    """What the program takes for the time of day, as seconds away from ours."""

    def __init__(self, folder: Path) -> None:
        (library,) = Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")
        self._file = folder / "clock"
        self.set(0)
        self.env = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_DONT_RESET": "1",
        }

    def set(self, away_s: int) -> None:
        new = self._file.with_suffix(".new")
        new.write_text(f"{away_s:+d}s\n")
        os.replace(new, self._file)


def seconds_away(program: Program) -> float:
    """Return how far the program is from our time."""
    return (parsedate_to_datetime(program.request("GET", "/livez").headers["date"]) - datetime.now(UTC)).total_seconds()


@pytest.mark.parametrize("jumps_s", [(HOUR_S, 0), (-HOUR_S, 0)], ids=["forward", "back"])
async def test_mail_flows_on_when_the_clock_jumps_by_an_hour(
    tmp_path: Path, store_flags: list[str], jumps_s: tuple[int, ...]
) -> None:
    """The provider defers and hangs up meanwhile, so that there is always something to be tried again in a second."""
    since = datetime.now(UTC) - timedelta(hours=2)
    clock = Clock(tmp_path)
    with Program(tmp_path / "data", *store_flags, *FLAGS, env=clock.env) as program:
        async with Hop(tmp_path / "ledger", 1) as hop:
            program.add_relay(f"127.0.0.1:{hop.port}")
            sent = load.Sent()
            clients = load.Load.of(program, sent, seed=1)
            clients.start()
            for away_s in (0, *jumps_s):
                clock.set(away_s)
                wanted = len(sent.acknowledged) + 40
                await until(lambda wanted=wanted: len(sent.acknowledged) >= wanted)  # type: ignore[misc]
                # The Date field is made once a second.
                there = lambda away_s=away_s: abs(seconds_away(program) - away_s) < HOUR_S / 2  # noqa: E731
                await asyncio.to_thread(wait_until, there)
            await clients.stop()
            hop.tell(rough=False)
            accounts = Accounts(program, sent, hop.ledger, 0)
            await accounts.settle(since)
        log = program.log.read_text()

    assert accounts.totals.violations == []
    assert accounts.totals.most_copies == 1
    assert sent.refused == 0
    for trouble in ("lease.lost", "node.lost", "node.buried", "node.reborn", "store.failed", '"expired"'):
        assert trouble not in log
