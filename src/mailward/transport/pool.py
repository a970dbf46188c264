"""The SMTP transport: sessions with one relay, kept between messages, checked, aged and shared fairly."""

import asyncio
import ssl
import time
from collections import deque

from mailward import log
from mailward.smtp.reply import Reply
from mailward.transport import egress
from mailward.transport.base import Delivery, Gate, NotNow, RelaySettings, TlsMode
from mailward.transport.judge import all_deferred
from mailward.transport.opening import open_session
from mailward.transport.outcome import Accepted, Deferred, Fault, Outcome, Stage
from mailward.transport.session import Result, Session
from mailward.transport.tls import relay_context
from mailward.transport.tokens import Tokens
from mailward.transport.trouble import Trouble

_OLD_PASSWORD_S = 30.0  # how long the old password goes first after the new one was refused
_ALONE_S = 600.0  # how long no envelope goes out behind a dot after one was not answered that had one behind it
_PATIENCE_S = 1.0  # how long a message may wait behind another's final dot before it goes elsewhere
_CLOSING_S = 2.0  # how long aclose waits for sockets to close by themselves


class SmtpTransport:
    """Transport to one relay over at most `settings.max_connections` sessions. Belongs to one event loop."""

    def __init__(
        self,
        settings: RelaySettings,
        *,
        check: egress.AddressCheck = egress.allow_all,
        gate: Gate | None = None,
        tokens: Tokens | None = None,
    ) -> None:
        """`check`: the egress policy, asked about every address before it is connected to. `gate`: see Gate.

        `tokens`: needed where `settings` say to log in by token.
        """
        self._tokens = tokens
        self._gate = gate
        self._settings = settings
        self._check = check
        self._idle: list[Session] = []  # the last used is taken first, so that a quiet time closes the others
        self._under_way: set[Session] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._waiting: deque[Delivery] = deque()  # for one of those to end; first come, first served
        self._known_tls: TlsMode | None = None
        self._old_until = 0.0  # until when the old password is tried first, monotonic
        self._alone_until = 0.0  # until when no envelope goes out behind a final dot, monotonic
        self._context: ssl.SSLContext | None = None
        self._sweeper: asyncio.TimerHandle | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._closing = False

    def send(self, delivery: Delivery) -> None:
        """See Transport. Waits for a free session first; the deadlines count from then on."""
        if self._closing:
            reply = Reply(451, "4.3.2", "the transport is being closed")
            delivery.ended([Deferred(Stage.CONNECT, Fault.MESSAGE, reply)] * len(delivery.envelope.recipients))
        elif self._waiting or len(self._under_way) + len(self._opening) >= self._settings.max_connections:
            self._waiting.append(delivery)
        else:
            self._begin(delivery)

    def _begin(self, delivery: Delivery) -> None:
        session = self._take_idle()
        if session is None:
            task = asyncio.get_running_loop().create_task(self._begin_on_new(delivery))
            self._opening.add(task)
            task.add_done_callback(self._opened)
        else:
            self._transact(session, delivery)

    def _transact(self, session: Session, delivery: Delivery) -> None:
        self._under_way.add(session)
        if self._watch is None:
            self._watch = asyncio.get_running_loop().call_later(_PATIENCE_S, self._look)
        session.may_follow = not self._alone_until or time.monotonic() >= self._alone_until
        session.transact(delivery, self._finished)

    def _look(self) -> None:
        """Withdraw what follows a message whose answer takes long; comes back as long as anything is under way."""
        self._watch = None
        if self._under_way:
            self._watch = asyncio.get_running_loop().call_later(_PATIENCE_S, self._look)
        before = time.monotonic() - _PATIENCE_S
        for session in [session for session in self._under_way if session.dot_at < before]:
            session.withdraw()

    async def _begin_on_new(self, delivery: Delivery) -> None:
        try:
            session = await self._open()
        except Trouble as trouble:
            delivery.ended(all_deferred(trouble, len(delivery.envelope.recipients)))
        except NotNow:
            delivery.not_now()
        except Exception as error:
            delivery.broke(error)
        else:
            self._transact(session, delivery)

    def _opened(self, task: asyncio.Task[None]) -> None:
        self._opening.discard(task)
        self._serve_next()

    def _finished(self, session: Session, delivery: Delivery, result: Result | Exception) -> None:
        if not session.is_busy:
            self._under_way.discard(session)
        if isinstance(result, Result) and result.trouble is not None and result.dot_sent and session.was_followed:
            # Perhaps it takes what comes behind a dot for content: each such message would end in doubt.
            self._alone_until = time.monotonic() + _ALONE_S
        if isinstance(result, Result) and result.is_unheard and session.is_kept:
            # It was dead before we came: no fault of this message's or provider's.
            self._begin(delivery)
            return
        if not session.is_busy:
            self._keep(session)
        if isinstance(result, Result):
            delivery.ended(result.outcomes)
        else:
            delivery.broke(result)
        self._serve_next()

    def _serve_next(self) -> None:
        if self._waiting and len(self._under_way) + len(self._opening) < self._settings.max_connections:
            self._begin(self._waiting.popleft())

    async def probe(self) -> Outcome | None:
        """See Transport. Goes up to the login, and keeps the session."""
        try:
            session = await self._dial()
        except Trouble as trouble:
            return all_deferred(trouble, 1)[0]
        self._keep(session)
        return Accepted(Reply(250, "", "the login was taken"))

    def abort(self) -> None:
        """See Transport."""
        self._waiting.clear()
        for task in self._opening:
            task.cancel()
        for session in self._under_way:
            session.cut()
        self._under_way.clear()

    async def aclose(self) -> None:
        """Close idle sessions; those under way close after their transaction. Waiting senders are still served."""
        self._closing = True
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        sessions, self._idle = self._idle, []
        for session in sessions:
            session.connection.quit()
        try:
            async with asyncio.timeout(_CLOSING_S):
                for session in sessions:
                    await session.connection.closed.wait()
        except TimeoutError:
            for session in sessions:
                session.connection.abort()

    async def _open(self) -> Session:
        if self._gate is None:
            return await self._dial()
        await self._gate.enter()
        trouble: Trouble | None = None
        session: Session | None = None
        try:
            session = await self._dial()
        except Trouble as caught:
            trouble = caught
            raise
        finally:
            self._gate.left(trouble, opened=session is not None)
        return session

    async def _dial(self) -> Session:
        now = time.monotonic()
        session = await open_session(
            self._settings,
            self._client_context,
            check=self._check,
            known_tls=self._known_tls,
            prefer_old=now < self._old_until,
            tokens=self._tokens,
        )
        if session.by_old_password:  # Providers lock out who keeps trying a password that they refuse.
            if now >= self._old_until:
                log.old_password_used(self._settings.provider_id)
            self._old_until = max(self._old_until, now + _OLD_PASSWORD_S)
        self._known_tls = session.tls
        return session

    def _client_context(self) -> ssl.SSLContext:
        if self._context is None:
            self._context = relay_context(self._settings)
        return self._context

    def _take_idle(self) -> Session | None:
        now = time.monotonic()
        while self._idle:
            session = self._idle.pop()
            if session.is_usable and now - session.idle_since < self._settings.idle_s and not session.is_worn(now):
                return session
            session.connection.quit()
        return None

    def _keep(self, session: Session) -> None:
        now = time.monotonic()
        if not session.is_usable or self._closing or session.is_worn(now):
            session.connection.quit()
            return
        session.idle_since, session.is_kept = now, True
        self._idle.append(session)
        if self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().call_later(self._settings.idle_s, self._sweep)

    def _sweep(self) -> None:
        """Close what has been idle for too long; comes back as long as something is idle."""
        self._sweeper = None
        now, kept = time.monotonic(), []
        for session in self._idle:
            if session.is_usable and now - session.idle_since < self._settings.idle_s:
                kept.append(session)
            else:
                session.connection.quit()
        self._idle = kept
        if kept:
            due = kept[0].idle_since + self._settings.idle_s - now
            self._sweeper = asyncio.get_running_loop().call_later(max(0.05, due), self._sweep)
