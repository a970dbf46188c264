"""One socket to a relay: feeds the client machine, waits for its answers, and never waits without a deadline."""

import asyncio
import ssl
from collections.abc import Callable
from contextlib import aclosing
from typing import cast

from mailward.message.content import Content, StoredContent
from mailward.smtp.client import Answer, ClientConnection, Command
from mailward.smtp.data import stuff
from mailward.smtp.reply import ProtocolError
from mailward.transport.base import Deadlines
from mailward.transport.outcome import Stage
from mailward.transport.tls import handshake_trouble
from mailward.transport.trouble import Trouble, local

#: Called once with the machine's next answer, or with what ended the connection before it came.
Heard = Callable[[Answer | None, Trouble | None], None]

_CHUNK_BYTES = 64 * 1024
_GOODBYE_S = 2.0  # how long a socket may linger for the answer to QUIT, which matters to nobody

STAGES = {
    Command.BANNER: Stage.BANNER,
    Command.EHLO: Stage.EHLO,
    Command.HELO: Stage.EHLO,
    Command.STARTTLS: Stage.TLS,
    Command.AUTH: Stage.AUTH,
    Command.RSET: Stage.MAIL,
    Command.MAIL: Stage.MAIL,
    Command.RCPT: Stage.RCPT,
    Command.DATA: Stage.DATA,
    Command.LONE_DOT: Stage.DATA,
    Command.FINAL: Stage.FINAL,
    Command.QUIT: Stage.QUIT,
}


class RelayConnection(asyncio.Protocol):
    """The machine, its socket and one deadline, for one user at a time."""

    def __init__(self, ehlo_name: str) -> None:
        self.machine = ClientConnection(ehlo_name)
        self.is_open = False
        self.is_encrypted = False
        self.bytes_received = 0
        self.dot_sent = False  #: the final dot of the current content may have left
        self.closed = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._heard: Heard | None = None
        self._sending: asyncio.Task[None] | None = None  # of a content too large for one write
        self._drained: asyncio.Future[None] | None = None
        self._answer: Answer | None = None
        self._trouble: Trouble | None = None
        self._writable = True
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name
        self._transport = transport
        self.is_open = True

    def data_received(self, data: bytes) -> None:
        self.bytes_received += len(data)
        self._take(data)
        while self.machine.has_more and self.is_open:
            self._take(b"")

    def _take(self, data: bytes) -> None:
        idle = self.machine.awaited is None
        try:
            answer = self.machine.receive(data)
        except ProtocolError as error:
            if data[:1] in (b"\x15", b"\x16") and self.machine.awaited is Command.BANNER:
                self._fail(local(Stage.BANNER, "plain_port_speaks_tls", "4.7.5", "the server speaks TLS on this port"))
            else:
                self._fail(local(self._stage, "protocol_error", "4.5.0", str(error)))
            return
        if answer is None:
            self._flush()  # The next line of an exchange of several.
            return
        if idle or answer.command is Command.QUIT:
            self.abort()  # 421 in an idle moment, or goodbye.
        self._answer = answer
        self._tell()

    def connection_lost(self, error: Exception | None) -> None:
        self.is_open = False
        self.closed.set()
        if isinstance(error, ssl.SSLError) and self.machine.awaited in (Command.BANNER, Command.EHLO):
            self._fail(handshake_trouble(error, starttls=True))  # It shook hands, and thought better of it.
            return
        words = (
            f"connection lost: {error.strerror or error}"
            if isinstance(error, OSError)
            else "connection closed by the server"
        )
        self._fail(local(self._stage, "connection_lost", "4.4.2", words.lower()))

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        self._wake()

    # The caller's side

    def expect(self, deadline_s: float, heard: Heard) -> None:
        """Send what the machine has to say, and have `heard` called. After trouble the connection is over."""
        self._flush()
        self._arm(deadline_s)
        self._heard = heard
        if self._answer is not None or self._trouble is not None:
            self._tell()

    async def wait(self, deadline_s: float) -> Answer:
        """Like `expect`, but return the answer. Raises Trouble."""
        future: asyncio.Future[Answer] = self._loop.create_future()

        def heard(answer: Answer | None, trouble: Trouble | None) -> None:
            if future.done():
                return
            if answer is not None:
                future.set_result(answer)
            elif trouble is not None:
                future.set_exception(trouble)

        self.expect(deadline_s, heard)
        return await future

    def send_content(self, content: Content, deadlines: Deadlines, heard: Heard, follow: Callable[[], None]) -> None:
        """Send `content` and the final dot, then `expect` the answer, which may also come before all was sent.

        `dot_sent` tells on which side of the point of no return that was. `follow` may let the machine begin another
        envelope, which goes out with the dot.
        """
        self.machine.finish()
        if isinstance(content, bytes) and len(content) <= _CHUNK_BYTES:
            data, end = stuff(content)
            if self._is_silent:
                follow()
            self._send_rest(data + end + self.machine.data_to_send(), deadlines, heard)
        else:
            self._sending = self._loop.create_task(self._send_large(content, deadlines, heard))

    async def _send_large(self, content: Content, deadlines: Deadlines, heard: Heard) -> None:
        data, end, start = b"", b"", 0
        try:
            last = content if isinstance(content, bytes) else await self._send_pieces(content, deadlines.data_s)
            data, end = stuff(last)
            start = await self._send_most(data, deadlines.data_s)
        except LookupError as error:
            self._fail(local(Stage.DATA, "content_gone", "4.3.0", str(error)))
        except Exception:  # Most often Unavailable; the one who waits must hear of any.
            self._fail(local(Stage.DATA, "content_unreadable", "4.3.0", "the store cannot be read now"))
        self._send_rest(data[start:] + end, deadlines, heard)

    async def _send_pieces(self, content: StoredContent, progress_s: float) -> bytes:
        """Send all of `content` but its last piece; return that. Stops early when an answer comes."""
        last = b""
        async with aclosing(content.pieces()) as pieces:
            async for piece in pieces:
                data, _ = stuff(last)
                start = await self._send_most(data, progress_s)
                if not self._is_silent:
                    break
                assert self._transport is not None
                self._transport.write(data[start:])
                last = piece
        return last

    async def _send_most(self, data: bytes, progress_s: float) -> int:
        """Send all of `data` but its last chunk; return where that begins. Stops early when an answer comes."""
        assert self._transport is not None
        start = 0
        while len(data) - start > _CHUNK_BYTES and self._is_silent:
            self._arm(progress_s)
            self._transport.write(data[start : start + _CHUNK_BYTES])
            start += _CHUNK_BYTES
            while not self._writable and self._is_silent:
                self._drained = self._loop.create_future()
                await self._drained
                self._drained = None
        return start

    def _send_rest(self, data: bytes, deadlines: Deadlines, heard: Heard) -> None:
        assert self._transport is not None
        if self._is_silent:
            self.dot_sent = True
            self._transport.write(data)
        elif self._trouble is not None:
            self._answer = None
        else:  # Refused before it was whole: what the server would read next is unclear.
            self.machine.is_spent = True
        self.expect(deadlines.final_s, heard)

    @property
    def _is_silent(self) -> bool:
        """Whether nothing has come that changes what is to be sent."""
        return self._answer is None and self._trouble is None

    async def start_tls(self, context: ssl.SSLContext, server_hostname: str, deadline_s: float) -> None:
        """Shake hands on this socket, after a 220 to STARTTLS. Raises Trouble."""
        assert self._transport is not None
        if not self.is_open:  # It hung up instead: a handshake would wait for nobody.
            raise handshake_trouble(ConnectionResetError())
        if self.machine.has_unread:
            raise local(
                Stage.TLS, "protocol_error", "4.7.5", "the server sent clear text behind its answer to STARTTLS"
            )
        try:
            async with asyncio.timeout(deadline_s):
                transport = await self._loop.start_tls(self._transport, self, context, server_hostname=server_hostname)
        except (OSError, ssl.SSLError, TimeoutError) as error:
            raise handshake_trouble(error, starttls=True) from None
        if transport is None or self._trouble is not None:
            raise handshake_trouble(ConnectionResetError())
        self._transport = transport
        self.is_encrypted = True

    @property
    def peer_certificate(self) -> bytes | None:
        """The certificate that the server showed, in DER; None without TLS."""
        tls = self._transport.get_extra_info("ssl_object") if self._transport is not None else None
        return cast(bytes | None, tls.getpeercert(binary_form=True)) if tls is not None else None

    def quit(self) -> None:
        """Say goodbye and close soon; nobody waits for the answer."""
        if not self.is_open:
            return
        if self.machine.is_spent or self.machine.awaited is not None:
            self.abort()
            return
        self.machine.quit()
        self._flush()
        self._loop.call_later(_GOODBYE_S, self.abort)

    def abort(self) -> None:
        """Drop the connection at once."""
        self.is_open = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._transport is not None:
            self._transport.abort()

    def cut(self) -> None:
        """Like `abort`, and nobody hears of it."""
        self._heard = None
        if self._sending is not None:
            self._sending.cancel()
        self.abort()

    @property
    def _stage(self) -> Stage:
        awaited = self.machine.awaited
        if awaited is None:  # What was talked of last; between messages, the next one.
            answered = self.machine.answered
            return Stage.MAIL if answered is Command.FINAL else STAGES[answered]
        return Stage.DATA if awaited is Command.FINAL and not self.dot_sent else STAGES[awaited]

    def _flush(self) -> None:
        data = self.machine.data_to_send()
        if data and self._transport is not None:
            self._transport.write(data)

    def _wake(self) -> None:
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    def _tell(self) -> None:
        self._wake()
        heard = self._heard
        if heard is not None:
            self._heard = None
            answer, self._answer = self._answer, None
            heard(answer, self._trouble if answer is None else None)

    def _fail(self, trouble: Trouble) -> None:
        if self._trouble is None:
            self._trouble = trouble
        self.machine.is_spent = True
        self.abort()
        self._tell()

    # One timer for all deadlines: moving a deadline later costs nothing, which is what happens most.

    def _arm(self, seconds: float) -> None:
        self._deadline = self._loop.time() + seconds
        if self._timer is not None:
            if self._timer.when() <= self._deadline:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(self._deadline, self._tick)

    def _tick(self) -> None:
        self._timer = None
        if self._heard is None and self._drained is None:
            return
        if self._loop.time() < self._deadline:
            self._timer = self._loop.call_at(self._deadline, self._tick)
            return
        self._fail(local(self._stage, "timeout", "4.4.2", "the server did not answer in time"))
