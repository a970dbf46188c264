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

    __slots__ = ("__weakref__", "caller", "grant")

    def __init__(self, grant: Grant) -> None:
        self.caller: Caller = grant.caller  #: at the sign-in
        self.grant: Grant | None = grant  #: None: revoked

    def permits(self, permission: str, now_us: int) -> bool:
        """Whether the token still lives and permits this."""
        grant = self.grant
        return grant is not None and permission in grant.caller.permissions and not grant.has_expired(now_us)


class Standings:
    """The tokens of all open sessions. Belongs to one event loop."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._held: WeakValueDictionary[bytes, Standing] = WeakValueDictionary()

    def hold(self, digest: bytes, grant: Grant) -> Standing:
        """Return the standing of a token that was just found good; sessions with the same token share it."""
        standing = self._held.get(digest)
        if standing is None:
            standing = self._held[digest] = Standing(grant)
        standing.grant = grant
        return standing

    async def refresh(self) -> None:
        """Read what the tokens of open sessions grant now. When that is impossible, what was known stays: mail goes on.

        Their expiry needs no look.
        """
        held = dict(self._held)
        if not held:
            return
        with contextlib.suppress(MailwardError):
            found = await self._database.read(queries.grants, list(held))
            for digest, standing in held.items():
                standing.grant = found.get(digest)

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
