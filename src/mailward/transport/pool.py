"""The SMTP transport: sessions with one relay, kept between messages, checked, aged and shared fairly."""

import asyncio
import ssl
import time
from collections import deque

from mailward import log
from mailward.message.content import Content
from mailward.message.envelope import Envelope
from mailward.smtp.reply import Reply
from mailward.transport import egress
from mailward.transport.base import BeforeHandover, Gate, RelaySettings, TlsMode
from mailward.transport.judge import all_deferred
from mailward.transport.opening import open_session
from mailward.transport.outcome import Accepted, Deferred, Fault, Outcome, Stage
from mailward.transport.session import Session
from mailward.transport.tls import relay_context
from mailward.transport.trouble import Trouble

_OLD_PASSWORD_S = 30.0  # how long the old password goes first after the new one was refused
_CLOSING_S = 2.0  # how long aclose waits for sockets to close by themselves


class SmtpTransport:
    """Transport to one relay over at most `settings.max_connections` sessions. Belongs to one event loop."""

    def __init__(
        self, settings: RelaySettings, *, check: egress.AddressCheck = egress.allow_all, gate: Gate | None = None
    ) -> None:
        """`check`: the egress policy, asked about every address before it is connected to. `gate`: see Gate."""
        self._gate = gate
        self._settings = settings
        self._check = check
        self._idle: list[Session] = []  # the last used is taken first, so that a quiet time closes the others
        self._in_use = 0  # places taken: sessions under way or being opened
        self._waiting: deque[asyncio.Future[None]] = deque()  # first come, first served
        self._known_tls: TlsMode | None = None
        self._old_until = 0.0  # until when the old password is tried first, monotonic
        self._context: ssl.SSLContext | None = None
        self._sweeper: asyncio.TimerHandle | None = None
        self._closing = False

    async def send(self, envelope: Envelope, content: Content, before_handover: BeforeHandover) -> list[Outcome]:
        """See Transport. Waits for a free session first; the deadlines count from then on."""
        if self._closing:
            reply = Reply(451, "4.3.2", "the transport is being closed")
            return [Deferred(Stage.CONNECT, Fault.MESSAGE, reply)] * len(envelope.recipients)
        if self._in_use >= self._settings.max_connections or self._waiting:
            await self._wait_for_place()
        else:
            self._in_use += 1
        session: Session | None = None
        try:
            session = self._take_idle()
            kept = session is not None
            if session is None:
                session = await self._open()
            result = await session.transact(envelope, content, before_handover)
            if kept and result.is_unheard:  # It was dead before we came: no fault of this message's or provider's.
                session = await self._open()
                result = await session.transact(envelope, content, before_handover)
            return result.outcomes
        except Trouble as trouble:
            return all_deferred(trouble, len(envelope.recipients))
        finally:
            self._give_back(session)

    async def probe(self) -> Outcome | None:
        """See Transport. Goes up to the login, and keeps the session."""
        try:
            session = await self._dial()
        except Trouble as trouble:
            return all_deferred(trouble, 1)[0]
        self._in_use += 1
        self._give_back(session)
        return Accepted(Reply(250, "", "the login was taken"))

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

    async def _wait_for_place(self) -> None:
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self._pass_place_on()  # It was given and not taken.
            else:
                self._waiting.remove(place)
            raise

    def _pass_place_on(self) -> None:
        """Give a place in use to who has waited longest, or free it."""
        while self._waiting:
            place = self._waiting.popleft()
            if not place.done():
                place.set_result(None)
                return
        self._in_use -= 1

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
            if (
                session.is_usable
                and now - session.idle_since < self._settings.idle_s
                and not self._is_worn(session, now)
            ):
                return session
            session.connection.quit()
        return None

    def _give_back(self, session: Session | None) -> None:
        if session is not None:
            now = time.monotonic()
            if session.is_usable and not self._closing and not self._is_worn(session, now):
                session.idle_since = now
                self._idle.append(session)
                if self._sweeper is None:
                    self._sweeper = asyncio.get_running_loop().call_later(self._settings.idle_s, self._sweep)
            else:
                session.connection.quit()
        self._pass_place_on()

    def _is_worn(self, session: Session, now: float) -> bool:
        limit = self._settings.messages_per_connection
        return 0 < limit <= session.messages or now - session.opened_at >= self._settings.max_age_s

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
