"""Waiting for what has to come: at once on a machine with nothing else to do, and many times later on a busy one."""

import asyncio
import time
from collections.abc import Callable

PATIENCE_S = 60.0  #: for whatever comes within a second when nothing else runs


async def until(true: Callable[[], object], timeout_s: float = PATIENCE_S) -> None:
    """Let the event loop turn until `true()`. Raises TimeoutError."""
    async with asyncio.timeout(timeout_s):
        while not true():
            await asyncio.sleep(0.001)


def wait_until(true: Callable[[], object], timeout_s: float = PATIENCE_S) -> None:
    """Ask until `true()`. Raises TimeoutError."""
    deadline = time.monotonic() + timeout_s
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"in vain for {timeout_s:.0f} s")
        time.sleep(0.02)
