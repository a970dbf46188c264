"""One SMTP session: the sans-IO server machine on a socket, with TLS, AUTH, deadlines, and submission behind it."""

import asyncio
from asyncio import Future
from typing import Protocol, cast

from mailward import log
from mailward.access.roles import MESSAGE_SEND
from mailward.access.standing import Standing
from mailward.delivery.submission import Submission
from mailward.errors import MailwardError, refusal_reason
from mailward.ids import MessageId, UserId, format_message_id
from mailward.message.address import parse_addr_spec
from mailward.message.complete import trace
from mailward.smtp.auth import Credentials
from mailward.smtp.events import Closed, Event, MessageReceived, MessageRefused, PieceReceived, StartTls
from mailward.smtp.reply import Reply, format_reply
from mailward.smtp.server import ServerConfig, ServerConnection
from mailward.smtpd import intake, sign_in
from mailward.smtpd.answers import (
    BAD_CREDENTIALS,
    GOOD_NO_LONGER,
    NOT_STORED,
    SHUTTING_DOWN,
    TOO_MANY_FAILURES,
    TOO_MANY_SESSIONS,
    TOO_SLOW,
    refusal,
)
from mailward.smtpd.door import House, SmtpdSettings, client_of
from mailward.smtpd.intake import Received
from mailward.smtpd.large import LargeMail

_FOREVER = float("inf")


class Sessions(Protocol):
    """The listener, as a session sees it."""

    settings: SmtpdSettings
    house: House

    def opened(self, session: "Session") -> bool:
        """Count `session` in; False: there are too many, or the listener is stopping."""
        ...

    def closed(self, session: "Session") -> None: ...

    def machine_config(self, *, is_open: bool, is_loopback: bool) -> ServerConfig: ...


class Session(asyncio.Protocol):
    """One connection from first byte to last.

    No task runs per message: the machine answers in the callback that brought the bytes, and the commit's callback
    sends the 250. What is kept is bounded: one message of lawful size, and one read from the socket behind it.
    """

    def __init__(self, sessions: Sessions, *, implicit_tls: bool) -> None:
        self._sessions = sessions
        self._settings = sessions.settings
        self._house = sessions.house
        self._tls = implicit_tls
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._machine: ServerConnection
        self._peer = ""
        self._caller: UserId | None = None
        self._standing: Standing | None = None  # the caller's, from AUTH on
        self._reverse_path = ""
        self._recipients: list[str] = []  # in A-labels, in step with those the machine accepted
        self._traced: tuple[str, bool, bool, UserId | None] | None = None
        self._trace = b""
        self._auth_failures = 0
        self._large: LargeMail | None = None  # that is coming in
        self._storing: asyncio.Task[MessageId] | None = None  # a large message that has come
        self._task: asyncio.Task[None] | None = None  # AUTH or STARTTLS; neither is part of a message
        self._timer: asyncio.TimerHandle | None = None
        self._deadline = _FOREVER
        self._handshaking = False
        self._early = b""
        self._client_ended = False
        self._stopping = False

    # From the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the banner, or 421 when there are too many sessions."""
        self._transport = cast(asyncio.Transport, transport)
        self._peer, is_loopback = client_of(transport.get_extra_info("peername"))
        config = self._sessions.machine_config(is_open=self._settings.is_open_to(self._peer), is_loopback=is_loopback)
        self._machine = ServerConnection(config, tls=self._tls, on_mail=self._on_mail, on_rcpt=self._on_rcpt)
        if not self._sessions.opened(self):
            log.connection_refused(door="smtp")
            self._transport.write(format_reply(TOO_MANY_SESSIONS))
            self._transport.close()
            return
        self._flush()
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Feed the machine. Bytes that come while an answer is owed wait in it, and nothing more is read."""
        if self._handshaking:
            self._early += data  # Decrypted already: it came with the end of the handshake.
            return
        if self._machine.is_waiting and self._transport is not None:
            self._transport.pause_reading()
        events = self._machine.receive(data)
        if events:
            self._act(events)
        self._flush()

    def eof_received(self) -> bool:
        """Stay open for the answer to a message when the client has only ended its side. TLS cannot."""
        self._client_ended = True
        return self._machine.is_waiting and not self._machine.tls

    def pause_writing(self) -> None:
        """Read nothing more from a client that does not read our replies."""
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._resume()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the client. A message whose commit is under way is stored all the same."""
        self._end()

    # From the listener

    def stop(self) -> None:
        """Say 421 and hang up: now, or after the answer to the message or credentials in hand."""
        self._stopping = True
        if not self._machine.is_waiting:
            self._close(SHUTTING_DOWN)

    def abort(self) -> None:
        """Drop the connection at once."""
        if self._transport is not None:
            self._transport.abort()
        # During a handshake the loop tells the TLS layer that the connection is lost, and not us.
        self._end()

    def _end(self) -> None:
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None and self._task is not asyncio.current_task(self._loop):
            self._task.cancel()
        self._drop_large()
        self._sessions.closed(self)

    # From the machine

    def _on_mail(self, path: str, parameters: dict[str, str]) -> Reply | None:
        self._recipients = []
        if self._standing is not None and not self._standing.permits(MESSAGE_SEND, self._house.now_us()):
            log.authentication_failed(door="smtp", peer=self._peer, reason="good no longer")
            return GOOD_NO_LONGER
        try:
            self._reverse_path = parse_addr_spec(path).addr_spec if path else ""
        except MailwardError as error:
            return Reply(553, "5.1.7", str(error))
        return None

    def _on_rcpt(self, path: str, parameters: dict[str, str]) -> Reply | None:
        try:
            self._recipients.append(parse_addr_spec(path).addr_spec)
        except MailwardError as error:
            return Reply(553, "5.1.3", str(error))
        return None

    def _act(self, events: list[Event]) -> None:
        """Do what the machine asks for. It hands out one event at a time; answering one may give the next."""
        while events:
            event = events[0]
            match event:
                case MessageReceived():
                    events = self._take(event)
                    continue
                case PieceReceived():
                    self._take_piece(event)
                case MessageRefused():
                    self._drop_large()
                    events = self._machine.reject(event.reply)
                    continue
                case Credentials():
                    self._task = self._loop.create_task(self._authenticate(event))
                case StartTls():
                    # Whatever else arrives in clear text goes to the handshake, and makes it fail.
                    cast(asyncio.Transport, self._transport).pause_reading()
                    self._handshaking = True
                    self._task = self._loop.create_task(self._start_tls())
                case Closed():
                    self._hang_up()
            return

    # Messages

    def _take_piece(self, event: PieceReceived) -> None:
        """Store the lines of a large message as they come, and read on when there is room for more."""
        if self._large is None:
            received = self._received(event.smtputf8)
            upload = self._house.upload(received.id, self._resume)
            self._large = LargeMail(received, upload, hostname=self._settings.hostname, now_us=self._house.now_us())
        self._large.take(event.content)
        if self._large.upload.is_full and self._transport is not None:
            self._transport.pause_reading()

    def _drop_large(self) -> None:
        if self._large is not None:
            self._large.discard()
            self._large = None

    def _take(self, event: MessageReceived) -> list[Event]:
        """Complete and submit a message; return what the machine goes on with when the answer is known at once."""
        if self._large is not None:
            self._storing = self._loop.create_task(self._submit_large(self._large, event.content))
            self._storing.add_done_callback(self._stored)
            self._large = None
            return []
        received = self._received(event.smtputf8)
        try:
            submission = intake.submission(
                received, event.content, hostname=self._settings.hostname, now_us=self._house.now_us()
            )
        except Exception as error:
            return self._refuse(error)
        return self._submit(submission)

    async def _submit_large(self, mail: LargeMail, end: bytes) -> MessageId:
        return await self._house.submit(await mail.finish(end))

    def _submit(self, submission: Submission) -> list[Event]:
        try:
            stored = self._house.submit(submission)
        except Exception as error:
            return self._refuse(error)
        if stored.done():
            return self._answer(stored)
        stored.add_done_callback(self._stored)
        return []

    def _stored(self, stored: Future[MessageId]) -> None:
        self._go_on(self._answer(stored))

    def _answer(self, stored: Future[MessageId]) -> list[Event]:
        if stored.cancelled():
            return self._reply(NOT_STORED)
        error = stored.exception()
        if error is not None:
            return self._refuse(error)
        return self._reply(Reply(250, "2.0.0", f"queued as {format_message_id(stored.result())}"))

    def _refuse(self, error: BaseException) -> list[Event]:
        reply = refusal(error)
        if not isinstance(error, MailwardError):
            log.write("error", "smtp.failed", peer=self._peer, error=type(error).__name__)
        log.message_refused(ingress="smtp", reason=refusal_reason(error), detail=str(reply))
        return self._reply(reply)

    def _reply(self, reply: Reply) -> list[Event]:
        if self._machine.is_closed:
            return []
        return self._machine.accept(reply) if reply.code == 250 else self._machine.reject(reply)

    def _received(self, smtputf8: bool) -> Received:
        return Received(
            self._house.draw_id(),
            self._reverse_path,
            tuple(self._recipients),
            smtputf8,
            self._trace_of(smtputf8),
            self._settings.open_sender if self._caller is None else self._caller,
        )

    def _trace_of(self, smtputf8: bool) -> bytes:
        """Return the Received line up to its id, the same until the client greets or authenticates anew."""
        machine = self._machine
        key = (machine.helo, machine.tls, smtputf8, self._caller)
        if key != self._traced:
            kind = ("UTF8SMTP" if smtputf8 else "ESMTP") if machine.is_esmtp else "SMTP"
            protocol = f"{kind}{'S' if machine.tls else ''}{'A' if self._caller is not None else ''}"
            self._traced = key
            self._trace = trace(machine.helo, self._peer, self._settings.hostname, protocol)
        return self._trace

    # AUTH and TLS

    async def _authenticate(self, offered: Credentials) -> None:
        found = await sign_in.verdict(self._house, offered, self._peer, within_s=self._settings.command_s)
        if isinstance(found, Standing):
            self._standing, self._caller = found, found.caller.user_id
            self._go_on(self._machine.accept())
            return
        if found is BAD_CREDENTIALS:
            self._auth_failures += 1
            await asyncio.sleep(self._settings.auth_delay_s * self._auth_failures)
            if self._auth_failures >= self._settings.max_auth_failures:
                found = TOO_MANY_FAILURES
        self._go_on(self._machine.reject(found))

    async def _start_tls(self) -> None:
        assert self._transport is not None and self._settings.tls is not None
        try:
            transport = await self._loop.start_tls(
                self._transport,
                self,
                self._settings.tls,
                server_side=True,
                ssl_handshake_timeout=self._settings.handshake_s,
            )
        except OSError as error:  # ssl.SSLError, TimeoutError and a lost connection among them
            log.write("info", "smtp.tls_failed", peer=self._peer, error=str(error) or type(error).__name__)
            self.abort()
            return
        if transport is None or self._transport is None:
            self.abort()  # The client went away meanwhile.
            return
        self._transport = transport
        self._caller = self._standing = None
        self._machine.tls_started()
        self._deadline = self._loop.time() + self._settings.command_s
        early, self._handshaking, self._early = self._early, False, b""
        self._go_on(self._machine.receive(early))

    # The socket

    def _go_on(self, events: list[Event]) -> None:
        """Go on after an answer: with what was pipelined behind, then with what the socket brings."""
        if self._transport is None:
            return
        self._act(events)
        self._flush()
        if self._machine.is_waiting:
            return
        if self._stopping:
            self._close(SHUTTING_DOWN)
        elif self._client_ended:
            self._hang_up()
        else:
            self._resume()

    def _resume(self) -> None:
        if self._transport is None or self._machine.is_waiting or self._transport.is_closing():
            return
        if self._large is None or not self._large.upload.is_full:
            self._transport.resume_reading()

    def _flush(self) -> None:
        out = self._machine.data_to_send()
        if self._transport is None:
            return
        if out:
            self._transport.write(out)
            is_content = out.startswith(b"354", out.rfind(b"\n", 0, -1) + 1)
            self._deadline = self._loop.time() + (self._settings.data_s if is_content else self._settings.command_s)
        if self._machine.is_waiting:
            self._deadline = _FOREVER  # It is our turn: the client must not pay for our slowness.

    def _close(self, reply: Reply) -> None:
        self._machine.close(reply)
        self._hang_up()

    def _hang_up(self) -> None:
        self._flush()
        if self._transport is not None:
            self._transport.close()

    # Deadlines

    def _watch(self) -> None:
        """Hang up when the deadline has passed; else look again then. One timer serves a session's whole life."""
        if self._transport is None or self._transport.is_closing():
            return
        now = self._loop.time()
        if now >= self._deadline:
            log.write("info", "smtp.timeout", peer=self._peer)
            self._close(TOO_SLOW)
            # A client that reads nothing would keep what is still to be sent, and so the session, for ever.
            self._timer = self._loop.call_later(self._settings.handshake_s, self.abort)
            return
        # A later deadline may be nearer than this one, but never nearer than the shortest that there is.
        wait = min(self._deadline - now, self._settings.command_s, self._settings.data_s)
        self._timer = self._loop.call_later(max(wait, 0.01), self._watch)
