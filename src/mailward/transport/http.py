"""The HTTP transport: one signed POST per recipient to a provider, over connections that are kept between messages.

An answer is for one recipient, so one recipient's refusal stops no other. The point of no return is the end of a body.
Redirects are not followed and no proxy is asked.
"""

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable
from importlib.metadata import version

from mailward.message.envelope import Envelope
from mailward.smtp.reply import Reply
from mailward.transport import egress
from mailward.transport.base import Delivery, HTTPRelay
from mailward.transport.endpoint import parse_endpoint
from mailward.transport.http_body import Letter, signature
from mailward.transport.http_connection import HttpConnection
from mailward.transport.http_judge import outcome_of, retry_after_s
from mailward.transport.http_opening import open_connection
from mailward.transport.judge import all_deferred
from mailward.transport.outcome import Deferred, Fault, Outcome, Stage, Uncertain
from mailward.transport.tls import client_context
from mailward.transport.trouble import Trouble, local

Mark = Callable[[], Awaitable[None]]

_SMALL_BYTES = 65_536  # what may be parsed on the event loop
_LARGE_AT_ONCE = 2
_MAX_AGE_S = 600.0
_UNTRIED = Reply(451, "4.4.2", "not tried: the answer for another recipient was lost")


class HttpTransport:
    """Transport to one endpoint over at most `settings.max_connections` connections. Belongs to one event loop."""

    def __init__(
        self,
        settings: HTTPRelay,
        *,
        check: egress.AddressCheck = egress.allow_all,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`check`: the egress policy. `clock`: Unix seconds, for signatures. Raises ValueError for a bad endpoint."""
        self._settings = settings
        self._endpoint = parse_endpoint(settings.endpoint)
        self._check = check
        self._clock = clock
        self._places = asyncio.Semaphore(settings.max_connections)  # first come, first served
        self._large = asyncio.Semaphore(_LARGE_AT_ONCE)
        self._under_way: set[asyncio.Task[None]] = set()
        self._idle: list[HttpConnection] = []
        self._context: ssl.SSLContext | None = None
        self._sweeper: asyncio.TimerHandle | None = None
        self._closing = False
        fields = [
            f"POST {self._endpoint.target} HTTP/1.1",
            f"Host: {self._endpoint.authority}",
            f"User-Agent: mailward/{version('mailward')}",
            "Accept: */*",
            "Content-Type: application/json",
        ]
        if self._endpoint.authorization:
            fields.append(f"Authorization: {self._endpoint.authorization}")
        self._head = "\r\n".join(fields)

    def send(self, delivery: Delivery) -> None:
        """See Transport. Waits for a place first; recipients are told one after the other."""
        task = asyncio.get_running_loop().create_task(self._deliver(delivery))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _deliver(self, delivery: Delivery) -> None:
        try:
            outcomes = await self._tell_all(delivery)
        except Exception as error:
            delivery.broke(error)
        else:
            delivery.ended(outcomes)

    async def _tell_all(self, delivery: Delivery) -> list[Outcome]:
        if self._closing:
            reply = Reply(451, "4.3.2", "the transport is being closed")
            return [Deferred(Stage.CONNECT, Fault.MESSAGE, reply)] * len(delivery.envelope.recipients)
        content = delivery.content
        if isinstance(content, bytes):
            return await self._tell_each(delivery, content)
        async with self._large:  # Each is in memory as a whole, and again as JSON.
            return await self._tell_each(delivery, await content.whole())

    async def _tell_each(self, delivery: Delivery, content: bytes) -> list[Outcome]:
        """Trouble of the provider ends the attempt for those who come after: they are deferred, untried."""
        recipients = delivery.envelope.recipients
        async with self._places:
            letter = await self._letter(delivery.envelope, content)
            outcomes: list[Outcome] = []
            marked = False

            async def mark() -> None:
                nonlocal marked
                if not marked:
                    await _leave(delivery)
                    marked = True

            for address in recipients:
                outcome = await self._post(letter.body(address), mark)
                outcomes.append(outcome)
                rest = len(recipients) - len(outcomes)
                if isinstance(outcome, Deferred):
                    return outcomes + [outcome] * rest
                if isinstance(outcome, Uncertain):
                    return outcomes + [Deferred(Stage.CONNECT, Fault.PROVIDER, _UNTRIED)] * rest
            return outcomes

    async def probe(self) -> Outcome | None:
        """See Transport. Connects, and says nothing: only a message shows whether the provider takes one."""
        try:
            connection = await self._open()
        except Trouble as trouble:
            return all_deferred(trouble, 1)[0]
        self._keep(connection)
        return None

    def abort(self) -> None:
        """See Transport."""
        for task in self._under_way:
            task.cancel()

    async def aclose(self) -> None:
        """Close idle connections; those under way close after their message."""
        self._closing = True
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.abort()

    async def _letter(self, envelope: Envelope, content: bytes) -> Letter:
        def make() -> Letter:
            return Letter(
                content,
                reverse_path=envelope.reverse_path,
                provider_id=self._settings.provider_id,
                description=self._settings.description,
            )

        return make() if len(content) <= _SMALL_BYTES else await asyncio.to_thread(make)

    def _keys(self) -> list[str]:
        keys = (self._settings.signing_key, self._settings.old_signing_key)
        return [key.reveal() for key in keys if key is not None]

    async def _post(self, body: bytes, mark: Mark) -> Outcome:
        at_s = int(self._clock())
        head = (
            f"{self._head}\r\nContent-Length: {len(body)}\r\n"
            f"Zitadel-Signature: {signature(self._keys(), body, at_s)}\r\n\r\n"
        ).encode("latin-1")
        connection = self._take_idle()
        if connection is not None:
            try:
                return await self._ask(connection, head, body, mark)
            except Trouble as trouble:
                if connection.body_ended:
                    return Uncertain(trouble.reply)
                if trouble.fault is Fault.MESSAGE:
                    return Deferred(trouble.stage, trouble.fault, trouble.reply)
                # It had died before we came, and nothing was handed over: no fault of anybody's.
        try:
            connection = await self._open()
            return await self._ask(connection, head, body, mark)
        except Trouble as trouble:
            if connection is not None and connection.body_ended:
                return Uncertain(trouble.reply)
            return Deferred(trouble.stage, trouble.fault, trouble.reply)

    async def _ask(self, connection: HttpConnection, head: bytes, body: bytes, mark: Mark) -> Outcome:
        answer = await connection.post(head, body, mark, self._settings.deadlines)
        if connection.is_reusable:
            self._keep(connection)
        wait_s = retry_after_s(answer.fields.get("retry-after", ""), self._clock())
        return outcome_of(answer.status, answer.reason, answer.body, body_ended=connection.body_ended, wait_s=wait_s)

    async def _open(self) -> HttpConnection:
        return await open_connection(self._endpoint, self._settings.deadlines, self._client_context, check=self._check)

    async def _client_context(self) -> ssl.SSLContext:
        if self._context is None:
            try:
                self._context = await asyncio.to_thread(client_context, self._settings.ca_file)
            except OSError as error:
                words = f"CA file cannot be used: {error.strerror}"
                raise local(Stage.TLS, "tls_untrusted_certificate", "4.7.5", words) from None
        return self._context

    def _take_idle(self) -> HttpConnection | None:
        now = time.monotonic()
        while self._idle:
            connection = self._idle.pop()
            if connection.is_open and now - connection.idle_since < self._settings.idle_s:
                return connection
            connection.close()
        return None

    def _keep(self, connection: HttpConnection) -> None:
        now, limit = time.monotonic(), self._settings.messages_per_connection
        worn = 0 < limit <= connection.requests or now - connection.opened_at >= _MAX_AGE_S
        if self._closing or worn or not connection.is_open:
            connection.close()
            return
        connection.idle_since = now
        self._idle.append(connection)
        if self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().call_later(self._settings.idle_s, self._sweep)

    def _sweep(self) -> None:
        """Close what has been idle for too long; comes back as long as something is idle."""
        self._sweeper = None
        now, kept = time.monotonic(), []
        for connection in self._idle:
            if connection.is_open and now - connection.idle_since < self._settings.idle_s:
                kept.append(connection)
            else:
                connection.close()
        self._idle = kept
        if kept:
            due = kept[0].idle_since + self._settings.idle_s - now
            self._sweeper = asyncio.get_running_loop().call_later(max(0.05, due), self._sweep)


async def _leave(delivery: Delivery) -> None:
    """Return once `delivery` may be handed over; raise why it may not."""
    leave: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def go(error: Exception | None) -> None:
        if leave.done():  # It was cut meanwhile.
            return
        if error is None:
            leave.set_result(None)
        else:
            leave.set_exception(error)

    delivery.before_handover(go)
    await leave
