"""Logs in to the providers in use from time to time: one that fails at night shows before the morning's mail."""

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress

from mailward import log
from mailward.ids import ProviderId
from mailward.provider.extension import Login
from mailward.provider.routing import Plan
from mailward.transport.base import RelaySettings

_SPREAD = 0.2


class Probes:
    """Belongs to one event loop: `start`, then `stop`. For SMTP providers with a password or none.

    HTTP has no request that does nothing; and whether a login by token works shows when the token is renewed in time.
    """

    def __init__(self, plan: Callable[[], Plan], login: Login, interval_s: float) -> None:
        """`login`: transport.smtp.login, the code path of delivery up to the login. No mail is sent."""
        self._plan = plan
        self._login = login
        self._interval_s = interval_s
        self._failed: set[ProviderId] = set()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run(), name="mailward-probes")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def take(self) -> None:
        """Log in to each of them now, and tell the log and the metrics what came of it."""
        settings = [hop.settings for hop in self._plan()]
        relays = [one for one in settings if isinstance(one, RelaySettings) and one.oauth is None]
        self._failed &= {relay.provider_id for relay in relays}
        async with asyncio.TaskGroup() as tasks:
            for relay in relays:
                tasks.create_task(self._probe(relay))

    async def _probe(self, relay: RelaySettings) -> None:
        failure = (await self._login(relay)).failure
        if failure is not None:
            self._failed.add(relay.provider_id)
            log.provider_failed(relay.provider_id, stage=failure.stage.value, code=failure.code, text=failure.words)
            return
        log.provider_probed(relay.provider_id, again=relay.provider_id in self._failed)
        self._failed.discard(relay.provider_id)

    async def _run(self) -> None:
        while True:
            # Spread, so that the nodes of a cell do not all knock at once.
            await asyncio.sleep(self._interval_s * random.uniform(1 - _SPREAD, 1 + _SPREAD))
            await self.take()
