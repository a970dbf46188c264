"""The data plane in one piece, without doors: submissions, queue, worker and a real relay connection."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from mailward.db.database import Database
from mailward.delivery import nodes, queries, queue
from mailward.delivery.hold import HoldLimits
from mailward.delivery.queue import Recovered
from mailward.delivery.retry import RetryPolicy
from mailward.delivery.submission import Submission, Submissions
from mailward.delivery.views import MessageView
from mailward.delivery.worker import Worker
from mailward.ids import IdSource, MessageId, ProviderId, UserId
from mailward.message.envelope import Envelope
from mailward.provider.routing import Hop, Plan
from mailward.transport.base import ProviderSettings, RelaySettings, TlsMode
from mailward.transport.ways import transport_to
from tests.support.queued import CONTENT, NOW, PROVIDER
from tests.support.ways import LONG

SENDER = UserId("300000000000000001")


def relay_at(port: int, **changes: Any) -> RelaySettings:
    """Return settings for a server of the test at `port` of loopback."""
    values: dict[str, Any] = {
        "provider_id": ProviderId(PROVIDER),
        "host": "127.0.0.1",
        "port": port,
        "tls": TlsMode.NONE,
        "ehlo_name": "gateway.test",
        "deadlines": LONG,
    }
    return RelaySettings(**(values | changes))


def as_plan(relay: ProviderSettings | None) -> Plan:
    return () if relay is None else (Hop(settings=relay),)


class Gateway:
    """`relay` (or `plan`) and `now_us` are the test's to change."""

    def __init__(
        self,
        database: Database,
        relay: ProviderSettings | Plan | None,
        *,
        policy: RetryPolicy | None = None,
        limits: HoldLimits | None = None,
    ) -> None:
        self.database = database
        self._plan: Plan = relay if isinstance(relay, tuple) else as_plan(relay)
        self.now_us = NOW
        self.policy = policy or RetryPolicy()
        self._limits = limits
        self.ids = IdSource(0, lambda: self.now_us // 1_000)
        self.worker: Worker
        self.submissions: Submissions
        self.recovered: Recovered

    @property
    def relay(self) -> ProviderSettings | None:
        return self._plan[0].settings if self._plan else None

    @relay.setter
    def relay(self, relay: ProviderSettings | None) -> None:
        self.plan = as_plan(relay)

    @property
    def plan(self) -> Plan:
        return self._plan

    @plan.setter
    def plan(self, plan: Plan) -> None:
        self._plan = plan
        self.worker.relay_changed()

    async def start(self) -> None:
        """Begin a life of the node: register, recover, work."""
        owner = await self.database.write(nodes.register, "gateway", self.now_us)
        self.recovered = await self.database.write(queue.recover, owner, self.policy, self.now_us)
        self.worker = Worker(
            self.database,
            owner,
            self.ids,
            plan=lambda: self._plan,
            transport=transport_to,
            now_us=lambda: self.now_us,
            policy=self.policy,
            limits=self._limits,
            jitter=lambda: 0.0,
        )
        self.submissions = Submissions(self.database, self.worker, lambda: self.now_us, self.policy.lifetime_s)
        self.worker.start()

    def hand_in(self, *addresses: str, **changes: Any) -> asyncio.Future[MessageId]:
        """Submit a message to `addresses`; the future resolves after its commit."""
        values: dict[str, Any] = {
            "id": MessageId(self.ids()),
            "envelope": Envelope("shop@example.com", addresses or ("ada@example.net",)),
            "content": CONTENT,
            "subject": "Your order",
            "sender": SENDER,
            "ingress": "http",
        }
        return self.submissions.submit(Submission(**(values | changes)))

    async def pass_time(self, seconds: float) -> None:
        """Let `seconds` pass for the gateway, and wait until it has done what is due."""
        self.now_us += int(seconds * 1_000_000)
        self.worker.wake()
        await self.worker.settled()

    async def view(self, id: MessageId) -> MessageView:
        """Return message `id` as it is stored."""
        return await self.database.read(queries.get_message, id, None)


@asynccontextmanager
async def running_gateway(
    database: Database, relay: ProviderSettings | Plan | None, **options: Any
) -> AsyncIterator[Gateway]:
    """Run the data plane on `database` until the block ends, then stop it within a second."""
    gateway = Gateway(database, relay, **options)
    await gateway.start()
    try:
        yield gateway
    finally:
        await gateway.worker.stop(1.0)
