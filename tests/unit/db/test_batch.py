"""When the Batcher hands a commit over."""

import asyncio
from typing import Any

from mailward.db.batch import Batcher
from mailward.db.transaction import Transaction
from mailward.db.writer import Batch, Commit


def several(tx: Transaction, items: list[int]) -> list[int]:
    raise NotImplementedError  # The test answers for the writer.


def one(tx: Transaction) -> None:
    raise NotImplementedError


async def begun() -> tuple[Batcher, list[Commit]]:
    """Return a Batcher with a commit of one item in the writer's hands, and the commits as they go there."""
    commits: list[Commit] = []
    batcher = Batcher(asyncio.get_running_loop(), commits.append, max_items=10, max_waiting=10)
    batcher.batch(several, 1).then(lambda _: join(batcher, 2))
    await asyncio.sleep(0)
    assert commits == [[Batch(several, [1])]]
    return batcher, commits


def join(batcher: Batcher, item: int) -> None:
    batcher.batch(several, item)


def functions(commit: Commit) -> list[Any]:
    return [call.function for call in commit]


async def test_what_a_result_leads_to_goes_with_the_next_commit() -> None:
    batcher, commits = await begun()

    batcher.resolve([[True]])

    assert commits[1:] == [[Batch(several, [2])]]


async def test_a_write_goes_to_the_writer_before_the_results_of_the_last_commit_are_told() -> None:
    """A claim takes milliseconds, in which the loop has those results to deal with."""
    batcher, commits = await begun()
    batcher.write(one, ())

    batcher.resolve([[True]])
    assert [functions(commit) for commit in commits[1:]] == [[one]]

    batcher.resolve([None])
    assert commits[2:] == [[Batch(several, [2])]]
