"""What was read of the providers is remembered only as long as it is true."""

import asyncio
from collections.abc import Callable

import pytest

from mailward.db.database import Database
from mailward.errors import NotFound
from mailward.ids import UserId
from mailward.provider.commands import Providers
from tests.support.providers import smtp

EDITOR = UserId("298765432109876544")


async def test_what_was_read_before_a_change_is_not_shown_after_it(providers: Providers) -> None:
    one = await providers.add_smtp(smtp(description="before"), None, EDITOR)
    assert (await providers.get(one.id)).description == "before"
    assert (await providers.list(limit=10)).total == 1

    await providers.change_smtp(one.id, smtp(description="after"), None, EDITOR)
    two = await providers.add_smtp(smtp(), None, EDITOR)
    await providers.activate(two.id, EDITOR)

    assert (await providers.get(one.id)).description == "after"
    assert (await providers.list(limit=10)).total == 2
    assert (await providers.active()).id == two.id
    await providers.remove(one.id, EDITOR)
    with pytest.raises(NotFound):
        await providers.get(one.id)


async def test_reads_beside_changes_never_leave_an_old_answer_behind(providers: Providers) -> None:
    added = await providers.add_smtp(smtp(), None, EDITOR)

    for number in range(20):
        change = providers.change_smtp(added.id, smtp(description=str(number)), None, EDITOR)
        await asyncio.gather(change, *(providers.get(added.id) for _ in range(10)))

        assert (await providers.get(added.id)).description == str(number)


async def test_with_several_nodes_a_change_by_another_one_is_read_at_once(
    database: Database, new_providers: Callable[..., Providers]
) -> None:
    """On SQLite there is one process; on PostgreSQL nothing is remembered."""
    here, there = new_providers(database), new_providers(database)
    added = await here.add_smtp(smtp(description="before"), None, EDITOR)
    await here.get(added.id)

    await there.change_smtp(added.id, smtp(description="after"), None, EDITOR)

    expected = "after" if database.dialect == "postgresql" else "before"
    assert (await here.get(added.id)).description == expected
