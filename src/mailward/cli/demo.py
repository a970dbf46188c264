"""`mailward demo`: a mail catcher for trying things out. It takes every mail and keeps none."""

import asyncio
import signal
import socket
import time
from typing import cast

import click
import orjson

from mailward.cli import common
from mailward.smtp.events import Closed, MessageReceived
from mailward.smtp.reply import Reply
from mailward.smtp.server import ServerConfig, ServerConnection


@click.group()
def command() -> None:
    """A local mail catcher, for trying things out. `mailward serve --demo` gives a whole tour."""


@command.command()
@click.option("--listen", default="127.0.0.1:0", show_default=True, metavar="HOST:PORT", help="Where; port 0: any.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line, first the address.")
def catcher(listen: str, as_json: bool) -> None:
    """Run an SMTP server that takes every mail and prints it."""
    host, colon, port = listen.rpartition(":")
    if not colon or not port.isdigit():
        common.fail(f"--listen must be HOST:PORT, got {listen!r}", code=2)
    try:
        asyncio.run(_catch(host.strip("[]"), int(port), as_json))
    except OSError as error:
        common.fail(f"cannot listen on {listen} (--listen): {error.strerror}")


async def _catch(host: str, port: int, as_json: bool) -> None:
    config = ServerConfig(hostname=socket.gethostname())
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    server = await loop.create_server(lambda: _Session(config, as_json), host, port)
    bound = server.sockets[0].getsockname()
    address = f"{bound[0]}:{bound[1]}"
    click.echo(orjson.dumps({"listening": address}).decode() if as_json else f"Catching mail on {address}")
    await stop.wait()
    server.close()  # Whoever is still connected is cut off when the process ends: nothing here is kept.


class _Session(asyncio.Protocol):
    """One client: accepts whatever is syntactically right."""

    def __init__(self, config: ServerConfig, as_json: bool) -> None:
        self._connection = ServerConnection(config)
        self._as_json = as_json

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name
        self._transport = transport
        transport.write(self._connection.data_to_send())

    def data_received(self, data: bytes) -> None:
        events = self._connection.receive(data)
        while events:
            event = events.pop(0)
            if isinstance(event, MessageReceived):
                _print_mail(event, self._as_json)
                events += self._connection.accept(Reply(250, "2.0.0", "caught"))
            elif isinstance(event, Closed):
                self._transport.write(self._connection.data_to_send())
                self._transport.close()
        self._transport.write(self._connection.data_to_send())


def _print_mail(mail: MessageReceived, as_json: bool) -> None:
    content = mail.content.decode(errors="replace")
    if as_json:
        seen = {"from": mail.reverse_path, "to": mail.recipients, "content": content}
        click.echo(orjson.dumps(seen).decode())
        return
    click.echo(f"{time.strftime('%H:%M:%S')} from <{mail.reverse_path}> for <{'>, <'.join(mail.recipients)}>")
    click.echo(content)
