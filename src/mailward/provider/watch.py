"""The active provider and those behind it, kept at hand for a worker that cannot wait for a read."""

import asyncio
import contextlib
from collections.abc import Callable

from mailward.errors import MailwardError
from mailward.provider.commands import Providers
from mailward.provider.relay import Relay
from mailward.provider.routing import Plan
from mailward.transport.base import ProviderSettings, RelaySettings


class RelayWatch:
    """Belongs to one event loop. `start`, then `stop`; in between `current` is the active provider.

    A change made by this process is there before its caller has the answer, one by another process within the ttl of
    the relay defaults. When the store cannot be read, the last known one stays: mail goes on.
    """

    def __init__(self, providers: Providers, changed: Callable[[], None]) -> None:
        """`changed` is called after `current` became another value."""
        self._providers = providers
        self._changed = changed
        self._task: asyncio.Task[None] | None = None
        self.current: Relay | None = None
        self.plan: Plan = ()  #: the active provider and those behind it, as far as they can be used

    def settings(self) -> ProviderSettings | None:
        """Return the settings of the first provider that can be used, None when mail waits: `current` says why."""
        return self.plan[0].settings if self.plan else None

    def logins(self) -> list[RelaySettings]:
        """Return the settings of those that are logged in to by token, while mail may go through them."""
        hops = [hop.settings for hop in self.plan]
        return [relay for relay in hops if isinstance(relay, RelaySettings) and relay.oauth is not None]

    async def start(self) -> None:
        """Read once, then keep reading. Raises Unavailable when the store cannot be read at all."""
        self.current, self.plan = await self._providers.plan()
        self._providers.subscribe(self.refresh)
        self._task = asyncio.get_running_loop().create_task(self._poll(), name="mailward-relay-watch")

    async def stop(self) -> None:
        """Stop reading. Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def refresh(self) -> None:
        """Read now, unless what was read is still good."""
        try:
            current, plan = await self._providers.plan()
        except MailwardError:
            return  # The next poll tries again.
        if (current, plan) != (self.current, self.plan):
            self.current, self.plan = current, plan
            self._changed()

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(self._providers.relay_defaults.ttl_us / 1e6)
            await self.refresh()
