"""`scripts/crash`: the long run of the crash harness."""

from __future__ import annotations

import argparse
import asyncio
import random
import sys

from tests.e2e.crash.harness import Harness, Summary


async def run(engines: list[str], kills: int, seed: int) -> list[Summary]:
    """Share `kills` among the engines, with and without a retry of doubts, side by side; return the summaries."""
    each = kills // len(engines)
    retried = each // 5
    shares = ((0, each - retried), (1, retried))
    async with asyncio.TaskGroup() as runs:
        tasks = [
            runs.create_task(Harness(engine, kills=share, seed=seed, uncertain_retries=retries, say=_say).run())
            for engine in engines
            for retries, share in shares
            if share
        ]
    return [task.result() for task in tasks]


def _say(text: str) -> None:
    print(text, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/crash")
    parser.add_argument("--kills", type=int, default=200, help="how many, the same number on each engine")
    parser.add_argument("--engine", choices=["sqlite", "postgresql", "both"], default="both")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    given = parser.parse_args()
    engines = ["sqlite", "postgresql"] if given.engine == "both" else [given.engine]
    _say(f"seed {given.seed}")
    summaries = asyncio.run(run(engines, given.kills, given.seed))
    for summary in summaries:
        _say("\n".join(summary.lines()))
    violated = any(summary.totals.violations for summary in summaries)
    _say(
        "NOT CLEAN" if violated else "clean: nothing lost, nothing doubled beyond what was allowed, every doubt listed"
    )
    return 1 if violated else 0


if __name__ == "__main__":
    sys.exit(main())
