"""What the token of an open session grants at this moment, known without a look at the database."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

from mailward.access import queries
from mailward.access.queries import Grant
from mailward.access.tokens import Caller
from mailward.db.database import Database
from mailward.errors import MailwardError


class Standing:
    """A token that a session signed in with. Keep it as long as the session; `Standings` keeps it true."""

    __slots__ = ("__weakref__", "_reading", "caller", "grant")

    caller: Caller  #: as far as known; there is one once there was a grant
    grant: Grant | None  #: None: revoked, or not read yet

    def __init__(self) -> None:
        self.grant = None
        self._reading = 0

    def learn(self, grant: Grant | None, reading: int) -> None:
        """Take over what a look at the store found, unless a later one has told already. See Standings.reading."""
        if reading < self._reading:
            return
        self.grant, self._reading = grant, reading
        if grant is not None:
            self.caller = grant.caller

    def permits(self, permission: str, now_us: int) -> bool:
        """Whether the token still lives, is for the API, and permits this."""
        grant = self.grant
        return (
            grant is not None
            and grant.for_api
            and permission in grant.caller.permissions
            and not grant.has_expired(now_us)
        )


class Standings:
    """The tokens of all open sessions. Belongs to one event loop."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._held: WeakValueDictionary[bytes, Standing] = WeakValueDictionary()
        self._readings = 0

    def reading(self) -> int:
        """Return the number of a look at the store that begins now. What a later one finds is at least as fresh."""
        self._readings += 1
        return self._readings

    def hold(self, digest: bytes) -> Standing:
        """Return the standing of a token, before it is looked at: so no change slips through between look and session.

        Sessions with the same token share it.
        """
        return self._held.setdefault(digest, Standing())

    async def refresh(self) -> None:
        """Read what the tokens of open sessions grant now. When that is impossible, what was known stays: mail goes on.

        Their expiry needs no look.
        """
        held, reading = dict(self._held), self.reading()
        if not held:
            return
        with contextlib.suppress(MailwardError):
            found = await self._database.read(queries.grants, list(held))
            for digest, standing in held.items():
                standing.learn(found.get(digest), reading)

    @asynccontextmanager
    async def watched(self, every_s: float) -> AsyncIterator[None]:
        """Refresh every so many seconds until the block ends: so changes by other processes and nodes are seen."""

        async def watch() -> None:
            while True:
                await asyncio.sleep(every_s)
                await self.refresh()

        task = asyncio.get_running_loop().create_task(watch(), name="mailward-standings")
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
