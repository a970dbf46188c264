"""One HTTP/1.1 connection to a provider: a request at a time, read by llhttp, never waiting without a deadline."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import cast

import httptools

from mailward.smtp.reply import Reply
from mailward.transport.base import Deadlines
from mailward.transport.outcome import Fault, Stage
from mailward.transport.trouble import Trouble, local

_CHUNK_BYTES = 64 * 1024
KEPT_BYTES = 4096  #: of an answer's body: enough to say what is wrong
_MAX_HEAD_BYTES = 64 * 1024
_MAX_BODY_BYTES = 1 << 20  # an answer that is longer is not read to its end
_REST_S = 5.0  # how long the rest of an answer is waited for once its status is known


@dataclass(slots=True)
class Answer:
    """A final answer, as far as it was read."""

    status: int = 0
    reason: str = ""
    fields: dict[str, str] = field(default_factory=dict)  #: lower-case names; of equal ones the last
    body: bytes = b""  #: its beginning
    size: int = 0  #: bytes of the body that were seen
    has_head: bool = False
    is_whole: bool = False


class HttpConnection(asyncio.Protocol):
    """Belongs to one task at a time."""

    def __init__(self, kept_bytes: int = KEPT_BYTES) -> None:
        """`kept_bytes`: of an answer's body; what follows is read and dropped."""
        self._kept_bytes = kept_bytes
        self.is_open = False
        self.is_reusable = False  #: the last answer was read to its end and the connection stays
        self.body_ended = False  #: the end of the current body may have left: the point of no return
        self.requests = 0
        self.opened_at = self.idle_since = 0.0
        self.closed = asyncio.Event()
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._head_bytes = 0
        self._answer = Answer()
        self._trouble: Trouble | None = None
        self._progress = asyncio.Event()
        self._writable = True

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name
        self.is_open = True

    def data_received(self, data: bytes) -> None:
        if self.is_reusable:  # Bytes that nobody asked for: what comes next would be taken for another's answer.
            self.abort()
            return
        if not self._answer.has_head:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            hint = ": TLS is spoken on this port" if data[:1] in (b"\x15", b"\x16") else ""
            self._fail("protocol_error", "4.5.0", f"the answer is not HTTP/1.1 ({type(error).__name__}){hint}")
        if self._head_bytes > _MAX_HEAD_BYTES and not self._answer.has_head:
            self._fail("protocol_error", "4.5.0", "the head of the answer is too long")
        if self._answer.size > _MAX_BODY_BYTES:
            self._fail("protocol_error", "4.5.0", "the answer is too long")
        self._progress.set()

    def connection_lost(self, error: Exception | None) -> None:
        self.is_open = self.is_reusable = False
        self.closed.set()
        words = f"connection lost: {error}" if error else "connection closed by the provider"
        self._fail("connection_lost", "4.4.2", words.lower())

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        self._progress.set()

    # llhttp's side

    def on_status(self, status: bytes) -> None:
        self._answer.reason += status.decode("latin-1")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._answer.fields[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self._answer.status = self._parser.get_status_code()
        self._answer.has_head = self._answer.status >= 200

    def on_body(self, data: bytes) -> None:
        answer = self._answer
        answer.size += len(data)
        if len(answer.body) < self._kept_bytes:
            answer.body += data[: self._kept_bytes - len(answer.body)]

    def on_message_complete(self) -> None:
        if self._answer.has_head:
            self._answer.is_whole = True
            self.is_reusable = self._parser.should_keep_alive()
        else:  # 100 Continue, 103 Early Hints
            self._answer = Answer()
            self._head_bytes = 0

    # The caller's side

    async def post(
        self, head: bytes, body: bytes, before_end: Callable[[], Awaitable[None]], deadlines: Deadlines
    ) -> Answer:
        """Send a request and return its answer. Raises Trouble; `body_ended` tells on which side of the end that was.

        `before_end` is awaited before the last bytes of `body` leave; when it raises, the connection is dropped.
        """
        self.requests += 1
        self.is_reusable = self.body_ended = False
        self._parser = httptools.HttpResponseParser(self)
        self._answer, self._head_bytes = Answer(), 0
        try:
            start = await self._send_most(head, body, deadlines.data_s)
            if not self._answer.has_head:
                await _mark(before_end)
                await asyncio.sleep(0)  # If the provider has hung up meanwhile, let us hear of it.
                self._check()
            if not self._answer.has_head:
                assert self._transport is not None
                self.body_ended = True
                self._transport.write(head + body if start == 0 else body[start:])
                await self._wait(lambda: self._answer.has_head, deadlines.final_s, Stage.FINAL)
            return await self._finish()
        except BaseException:
            self.abort()
            raise

    def abort(self) -> None:
        """Drop the connection; nothing more leaves."""
        self.is_open = self.is_reusable = False
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """Close the connection, which is idle."""
        self.is_open = self.is_reusable = False
        if self._transport is not None:
            self._transport.close()

    async def _send_most(self, head: bytes, body: bytes, progress_s: float) -> int:
        """Send all of `body` but its last chunk; return where that begins. Stops early when an answer comes.

        Of a body of one chunk nothing is sent: head and body leave in one segment later.
        """
        assert self._transport is not None
        start, data = 0, head
        while len(body) - start > _CHUNK_BYTES and not self._answer.has_head:
            self._check()
            self._transport.write(data + body[start : start + _CHUNK_BYTES])
            start, data = start + _CHUNK_BYTES, b""
            if not self._writable:
                await self._wait(lambda: self._writable or self._answer.has_head, progress_s, Stage.DATA)
        return start

    async def _finish(self) -> Answer:
        """Read the rest of an answer whose head is there, within reason: what it means is known already."""
        if not self.body_ended:
            self.abort()  # What the provider would read next is unclear.
            return self._answer
        try:
            await self._wait(lambda: self._answer.is_whole, _REST_S, Stage.FINAL)
        except Trouble:
            self.abort()
        if not self.is_reusable:
            self.close()
        return self._answer

    async def _wait(self, until: Callable[[], bool], deadline_s: float, stage: Stage) -> None:
        try:
            async with asyncio.timeout(deadline_s):
                while not until():
                    self._check()
                    self._progress.clear()
                    await self._progress.wait()
        except TimeoutError:
            what = "no answer within" if stage is Stage.FINAL else "no progress for"
            raise local(stage, "timeout", "4.4.2", f"{what} {deadline_s:g} s") from None

    def _check(self) -> None:
        if self._trouble is not None:
            stage = Stage.FINAL if self.body_ended else Stage.DATA
            raise local(stage, self._trouble.code, self._trouble.reply.enhanced, self._trouble.reply.text)

    def _fail(self, code: str, enhanced: str, text: str) -> None:
        if self._trouble is None:
            self._trouble = local(Stage.DATA, code, enhanced, text)
        self._progress.set()


async def _mark(before_end: Callable[[], Awaitable[None]]) -> None:
    try:
        await before_end()
    except Exception as error:
        reply = Reply(451, "4.3.0", f"the hand-over could not be recorded: {type(error).__name__}")
        raise Trouble(Stage.DATA, "handover_failed", reply, fault=Fault.MESSAGE) from error
