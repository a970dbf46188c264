"""After a repair: what the trouble of a provider has deferred becomes due, a step at a time, between other mail."""

from collections.abc import Callable

from mailward import log
from mailward.db.database import Database
from mailward.delivery.hasten import hasten
from mailward.delivery.operators import START, Cursor


class Repair:
    """Belongs to one event loop. Every node that delivers does it: each may have deferred something until it knew."""

    def __init__(self, database: Database, now_us: Callable[[], int]) -> None:
        self._database = database
        self._now_us = now_us
        self._cursor: Cursor | None = None
        self._begun = 0

    @property
    def is_under_way(self) -> bool:
        return self._cursor is not None

    def begin(self) -> None:
        """A provider was changed, or works again."""
        self._begun += 1
        self._cursor = START

    async def step(self) -> int:
        """Do a bit of it; return how many recipients are due now. Raises as the store does; then it is done again."""
        if self._cursor is None:
            return 0
        begun = self._begun
        done = await self._database.write(hasten, self._cursor, self._now_us())
        if begun == self._begun:  # Otherwise it begins anew.
            self._cursor = done.cursor
        if done.count:
            log.mail_hastened(done.count)
        return done.count
