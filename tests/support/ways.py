"""The two kinds of providers behind one face, so that one suite holds for every transport."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from mailward.ids import ProviderId
from mailward.message.content import Content
from mailward.message.envelope import Envelope
from mailward.secretbox import SecretText
from mailward.transport.base import Deadlines, Go, HTTPRelay, NotNow, RelaySettings, TlsMode, Transport
from mailward.transport.outcome import Outcome
from mailward.transport.ways import transport_to
from tests.support.http_servers import HttpScript, scripted_receiver
from tests.support.smtp_servers import Fault, Script, scripted_server
from tests.support.waiting import PATIENCE_S

KEY = "a signing key of thirty-six letters.."
#: Nobody waits for so long. A test of one deadline shortens that one: a busy machine could miss the others.
LONG = Deadlines(
    connect_s=PATIENCE_S, command_s=PATIENCE_S, tls_probe_s=PATIENCE_S, data_s=PATIENCE_S, final_s=PATIENCE_S
)

#: What a provider is to do, in the words of neither protocol.
MOODS: dict[str, tuple[Script, HttpScript]] = {
    "well": ({}, {}),
    "busy": ({"BANNER": b"421 4.3.2 busy\r\n"}, {"BODY": 503}),
    "login refused": (
        {"EHLO": b"250-scripted\r\n250 AUTH PLAIN\r\n", "AUTH": b"535 5.7.8 no\r\n"},
        {"HEAD": 401},
    ),
    "message refused": ({"FINAL": b"554 5.6.0 no\r\n"}, {"BODY": 422}),
    "silent": ({"BANNER": Fault.HANG}, {"ACCEPT": b"220 this is no HTTP\r\n"}),
    "lost before the end": ({"DATA": Fault.DROP}, {"ACCEPT": Fault.DROP}),
    "lost after the end": ({"FINAL": Fault.DROP}, {"BODY": Fault.DROP}),
    "silent after the end": ({"FINAL": Fault.HANG}, {"BODY": Fault.HANG}),
}


@dataclass
class Provider:
    """A provider under test."""

    transport: Transport
    kept: Callable[[], list[bytes]]  #: contents that arrived in full
    connections: Callable[[], int]


@asynccontextmanager
async def provider(kind: str, mood: str = "well", **changes: Any) -> AsyncIterator[Provider]:
    """Run a provider of `kind` ("smtp", "http") in `mood`, with a transport to it."""
    values: dict[str, Any] = {"provider_id": ProviderId("1"), "deadlines": LONG} | changes
    smtp_script, http_script = MOODS[mood]
    if kind == "smtp":
        async with scripted_server(dict(smtp_script)) as server:
            user: dict[str, Any] = {"user": "u", "password": SecretText("p")} if mood == "login refused" else {}
            way = transport_to(
                RelaySettings(
                    host="127.0.0.1", port=server.port, tls=TlsMode.NONE, ehlo_name="gateway.example", **user, **values
                )
            )
            try:
                yield Provider(way, lambda: server.contents, lambda: server.connections)
            finally:
                await way.aclose()
    else:
        async with scripted_receiver(dict(http_script)) as receiver:
            way = transport_to(HTTPRelay(endpoint=receiver.url, signing_key=SecretText(KEY), **values))
            try:
                yield Provider(way, lambda: [one.body for one in receiver.posted], lambda: receiver.connections)
            finally:
                await way.aclose()


async def deliver(
    transport: Transport, envelope: Envelope, content: bytes, mark: Callable[[], Awaitable[None]]
) -> list[Outcome]:
    """Send one message; `mark` is awaited before its hand-over. Raises NotNow, and faults of ours."""
    delivery = _Awaited(envelope, content, mark)
    transport.send(delivery)
    return await delivery.outcomes


class _Awaited:
    """A Delivery that somebody awaits."""

    def __init__(self, envelope: Envelope, content: bytes, mark: Callable[[], Awaitable[None]]) -> None:
        self.envelope = envelope
        self.content: Content = content
        self.outcomes: asyncio.Future[list[Outcome]] = asyncio.get_running_loop().create_future()
        self._mark = mark
        self._marking: asyncio.Task[None] | None = None

    def before_handover(self, go: Go) -> None:
        self._marking = asyncio.get_running_loop().create_task(self._clear(go))

    async def _clear(self, go: Go) -> None:
        try:
            await self._mark()
        except Exception as error:
            go(error)
        else:
            go(None)

    def ended(self, outcomes: list[Outcome]) -> None:
        self.outcomes.set_result(outcomes)

    def follow(self) -> "_Awaited | None":
        return None

    def not_now(self) -> None:
        self.outcomes.set_exception(NotNow())

    def broke(self, error: Exception) -> None:
        self.outcomes.set_exception(error)
