"""Kill -9 under load, in the quick version of `scripts/crash`: nothing lost, nothing doubled, every doubt listed."""

import asyncio
import random

from tests.e2e.crash.harness import Harness


async def test_kills_lose_nothing_and_double_nothing_on_either_engine() -> None:
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")

    async with asyncio.TaskGroup() as runs:
        tasks = [
            runs.create_task(Harness("sqlite", kills=5, seed=seed).run()),
            runs.create_task(Harness("postgresql", kills=5, seed=seed).run()),
            runs.create_task(Harness("sqlite", kills=2, seed=seed, uncertain_retries=1).run()),
        ]
    never, with_postgresql, once = (task.result() for task in tasks)

    for summary in (never, with_postgresql, once):
        assert summary.totals.violations == []
        assert summary.totals.acknowledged > 0
    assert never.totals.extra_copies == with_postgresql.totals.extra_copies == 0
    assert once.totals.most_copies <= 2
