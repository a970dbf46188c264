"""What happens to mail in this node: submissions, the worker, housekeeping, the operators' hand."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

from mailward.bootstrap.control_plane import ControlPlane
from mailward.config import Settings
from mailward.db.database import Database
from mailward.delivery.census import Census
from mailward.delivery.control import Control
from mailward.delivery.elsewhere import Elsewhere
from mailward.delivery.housekeeping import Housekeeper, Keep
from mailward.delivery.lease import Owner
from mailward.delivery.life import Life, Pace
from mailward.delivery.retry import RetryPolicy
from mailward.delivery.submission import Submissions
from mailward.delivery.waiting import reason_to_wait
from mailward.delivery.worker import Worker
from mailward.ids import MessageId
from mailward.provider.probes import Probes
from mailward.provider.watch import RelayWatch
from mailward.store import now_us
from mailward.transport.policy import address_check
from mailward.transport.ways import transport_to


@dataclass(frozen=True, slots=True, kw_only=True)
class DataPlane:
    """Its parts, as the doors use them."""

    draw_id: Callable[[], MessageId]
    watch: RelayWatch
    worker: Worker | Elsewhere
    submissions: Submissions
    control: Control
    census: Census

    def waits_for(self) -> str:
        """Return why new mail would wait in the queue; "" when it would not."""
        return (self.route_waits_for() if not self.watch.plan else "") or self.worker.waits_for()

    def route_waits_for(self) -> str:
        """Return why the active provider takes no mail; "" when it does."""
        return reason_to_wait(self.watch.current)


async def begin_life(settings: Settings, database: Database, name: str) -> Life:
    """Begin a life of the node called `name`: what its last one left is recovered."""
    pace = Pace(heartbeat_s=settings.heartbeat_s, dead_after_s=settings.node_dead_after_s)
    life = Life(database, name, _policy(settings), now_us=now_us, monotonic=time.monotonic, pace=pace)
    await life.begin()
    return life


@asynccontextmanager
async def data_plane(
    settings: Settings, database: Database, life: Life, control_plane: ControlPlane
) -> AsyncIterator[DataPlane]:
    """Deliver mail until the block ends; then what is on the wire has half of `shutdown_s` to finish."""
    async with AsyncExitStack() as stack:
        stack.push_async_callback(life.stop)
        watch, worker = await _start_worker(settings, database, control_plane, life)
        stack.push_async_callback(watch.stop)
        if isinstance(worker, Worker):
            # A stop has one deadline for everything; the doors leave half of it to mail that is on the wire.
            stack.push_async_callback(worker.stop, settings.shutdown_s / 2)
            if settings.probe_s:
                probes = Probes(lambda: watch.plan, control_plane.login, settings.probe_s)
                probes.start()
                stack.push_async_callback(probes.stop)
        submissions = Submissions(database, worker, now_us, settings.lifetime_s)
        census = Census(database, now_us)
        census.start()
        stack.push_async_callback(census.stop)
        keep = Keep(content_days=settings.content_days, message_days=settings.message_days)
        housekeeper = Housekeeper(database, keep, now_us)
        housekeeper.start(lambda: life.owner.node)
        stack.push_async_callback(housekeeper.stop)

        def draw_id() -> MessageId:
            return MessageId(life.ids())

        instance = control_plane.access.instance
        control = Control(database, worker, submissions, instance=instance, draw_id=draw_id, now_us=now_us)
        yield DataPlane(
            draw_id=draw_id, watch=watch, worker=worker, submissions=submissions, control=control, census=census
        )


async def _start_worker(
    settings: Settings, database: Database, control_plane: ControlPlane, life: Life
) -> tuple[RelayWatch, Worker | Elsewhere]:
    worker: Worker | None = None

    def changed() -> None:
        if worker is not None:
            worker.relay_changed()

    async def reborn(owner: Owner) -> None:
        if worker is not None:
            await worker.live_again(owner)

    watch = RelayWatch(control_plane.providers, changed)
    await watch.start()
    if settings.role in ("all", "worker"):
        worker = Worker(
            database,
            life.owner,
            life.ids,
            plan=lambda: watch.plan,
            transport=partial(transport_to, check=address_check(settings.egress_deny), tokens=control_plane.tokens),
            now_us=now_us,
            policy=_policy(settings),
            is_sure=life.is_sure,
            doubt=life.doubt,
        )
        worker.start()
        control_plane.tokens.start(watch.logins)
    life.start(reborn)
    return watch, worker or Elsewhere()


def _policy(settings: Settings) -> RetryPolicy:
    return RetryPolicy(
        schedule_s=settings.retry_schedule_s,
        lifetime_s=settings.lifetime_s,
        uncertain_retries=settings.uncertain_retries,
    )
