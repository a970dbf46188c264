"""Who changed what: the log with the names of its editors, and without what nobody may see."""

import itertools

from mailward.access.access import open_access
from mailward.access.audit import Audit
from mailward.access.roles import TokenRole
from mailward.db.database import Database
from mailward.eventstore.search import Search


async def test_the_log_names_its_editors_and_hides_what_lets_somebody_in(database: Database) -> None:
    ids = itertools.count(298_765_432_109_880_001)
    access = await open_access(database, lambda: next(ids), lambda: 1_700_000_000_000_000)
    owner = await access.ensure_owner()
    assert owner is not None
    await access.create_token(TokenRole.SENDER, "app", editor=owner.row.user_id)

    entries = await Audit(database).search(Search(types=frozenset({"user.pat.added"})))

    assert [entry.editor_name for entry in entries] == ["Owner", "SYSTEM"]
    assert all("digest" in entry.event.payload and "digest" not in entry.payload for entry in entries)
    assert entries[0].payload["role"] == "sender"
