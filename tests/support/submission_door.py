"""The submission door on loopback before a house that only pretends to store, and a client that sends as it is told."""

import asyncio
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Self, cast

from mailward.access.queries import Grant
from mailward.access.roles import MESSAGE_SEND
from mailward.access.standing import Standing
from mailward.access.tokens import Caller
from mailward.db.batch import Pending
from mailward.db.database import Database
from mailward.delivery.submission import Submission
from mailward.delivery.upload import Upload
from mailward.ids import MessageId, UserId
from mailward.message.content import Piece
from mailward.smtpd.door import House, SmtpdSettings
from mailward.smtpd.listener import SmtpListener
from tests.support.waiting import PATIENCE_S

SENDER = Caller(UserId("sender-1"), "1", "app", frozenset(), frozenset({MESSAGE_SEND}), is_member=False)
VIEWER = replace(SENDER, user_id=UserId("viewer-1"), permissions=frozenset({"message.read"}))
TOKENS = {"mw_sender": SENDER, "mw_viewer": VIEWER}
FIRST_ID = 200000000000000001
SETTINGS = SmtpdSettings(hostname="mx.example", auth_delay_s=0)


class PretendingHouse:
    """Takes submissions into a list, not into a store. `hold` delays its answers; `error` makes it fail."""

    def __init__(self) -> None:
        self.submissions: list[Submission] = []
        self.pieces: dict[MessageId, list[bytes]] = {}  #: of large contents, until they are discarded
        self.submitted = asyncio.Event()  #: set by each submission
        self.hold = False
        self.error: Exception | None = None  #: what a submission fails with
        self.standing: Standing | None = None  #: of who signed in last
        self.refused: list[str] = []  #: why credentials were refused without a look
        self.broken: Exception | None = None  #: what authentication fails with
        self._waiting: list[tuple[asyncio.Future[MessageId], MessageId]] = []
        self._last = FIRST_ID - 1

    @property
    def house(self) -> House:
        return House(
            authenticate=self._authenticate,
            refuse=self._refuse,
            submit=self._submit,
            upload=self._upload,
            draw_id=self._draw_id,
            now_us=lambda: 1_796_000_000_000_000,
        )

    def content(self, submission: int = 0) -> bytes:
        """Return the whole content of what was submitted."""
        one = self.submissions[submission]
        if isinstance(one.content, bytes):
            return one.content
        return b"".join([*self.pieces[one.id], one.content.end])

    def release(self) -> None:
        """Answer what is held."""
        for future, message_id in self._waiting:
            future.set_result(message_id)
        self._waiting.clear()

    def batch(self, function: object, item: Piece | MessageId) -> Pending[None]:
        """Stand in for the database that an Upload writes to."""
        if isinstance(item, Piece):
            self.pieces.setdefault(item.message_id, []).append(item.body)
        else:
            del self.pieces[item]
        pending: Pending[None] = Pending()
        asyncio.get_running_loop().call_soon(pending.settle, None)
        return pending

    def _upload(self, id: MessageId, on_room: Callable[[], None]) -> Upload:
        return Upload(cast(Database, self), id, on_room)

    async def _authenticate(self, user: str, token: str, peer: str) -> Standing | None:
        if self.broken is not None:
            raise self.broken
        caller = TOKENS.get(token)
        if caller is None or MESSAGE_SEND not in caller.permissions:
            return None
        self.standing = Standing()
        self.standing.learn(Grant(caller, None, for_api=True), 1)
        return self.standing

    async def _refuse(self, peer: str, reason: str) -> None:
        self.refused.append(reason)

    def _draw_id(self) -> MessageId:
        self._last += 1
        return MessageId(self._last)

    def _submit(self, submission: Submission) -> asyncio.Future[MessageId]:
        future: asyncio.Future[MessageId] = asyncio.get_running_loop().create_future()
        if self.error is not None:
            future.set_exception(self.error)
            return future
        self.submissions.append(submission)
        self.submitted.set()
        self._waiting.append((future, MessageId(self._last)))
        if not self.hold:
            asyncio.get_running_loop().call_soon(self.release)
        return future


@asynccontextmanager
async def open_door(
    house: PretendingHouse, settings: SmtpdSettings = SETTINGS, *, implicit_tls: bool = False
) -> AsyncIterator[tuple[SmtpListener, int]]:
    """Give a listener on a free port of loopback, and the port."""
    listener = SmtpListener(settings, house.house)
    ((_, port),) = await listener.start("127.0.0.1", 0, implicit_tls=implicit_tls)
    try:
        yield listener, port
    finally:
        house.release()
        await listener.stop(1.0)


class Client:
    """An SMTP client that knows nothing of SMTP but what ends a reply."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, port: int) -> Self:
        """Connect, without reading the banner."""
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    @classmethod
    async def greeted(cls, port: int, *, token: str = "mw_sender") -> Self:
        """Connect, say EHLO, and authenticate."""
        client = await cls.connect(port)
        await client.reply()
        await client.say("EHLO client.example")
        if token:
            await client.say("AUTH LOGIN")
            await client.say("YXBw")
            answer = await client.say(b64encode(token.encode()).decode())
            assert answer.startswith("235"), answer
        return client

    async def say(self, line: str) -> str:
        """Send one line and return the reply."""
        self.send(f"{line}\r\n".encode())
        return await self.reply()

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def reply(self) -> str:
        """Return the next reply, its lines joined by newlines; "" when the connection has ended."""
        lines = []
        while True:
            line = (await asyncio.wait_for(self.reader.readline(), PATIENCE_S)).decode()
            lines.append(line.rstrip("\r\n"))
            if line[3:4] != "-":
                return "\n".join(lines)

    async def replies(self, count: int) -> list[str]:
        return [await self.reply() for _ in range(count)]

    async def ended(self) -> bool:
        """Wait until the server has hung up."""
        try:
            return await asyncio.wait_for(self.reader.read(), PATIENCE_S) == b""
        except ConnectionError:
            return True

    async def start_tls(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        await self.writer.start_tls(context)

    async def close(self) -> None:
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except (ConnectionError, ssl.SSLError):
            pass
