"""`mailward serve`: run the gateway until SIGTERM or SIGINT; SIGHUP has it read its certificate again."""

import asyncio
import contextlib
import gc
import resource
import signal
from typing import Any

import click
import msgspec
import uvloop

from mailward import config, log
from mailward.bootstrap.gateway import Gateway, gateway
from mailward.cli import common
from mailward.cli.tour import tour
from mailward.db.heap import return_large_blocks

_FILES_OF_OUR_OWN = 256  # database, log, probes, and those who are being told that there are too many

_EXAMPLE = '{"senderAddress":"noreply@example.com","senderName":"Example","host":"localhost:25"}'


@click.command(name="serve")
@click.option("--demo", is_flag=True, help="Start a local mail catcher and send two mails through the real doors.")
@common.settings_options(config.names())
def command(settings: config.Loaded, demo: bool) -> None:
    """Run the gateway.

    The first start makes the data dir, the database, a master key and a token of the owner, in owner.token (mode 0600).
    """
    console = settings.settings.log_format == "console" or (
        settings.settings.log_format == "auto" and log.stderr_is_terminal()
    )
    # The tour is for people who look on: what the gateway says meanwhile would bury it.
    log.configure("warning" if demo else settings.settings.log_level, console=console)
    fitting = _within(_allow_many_files(), settings.settings)
    try:
        with common.reported_errors():
            uvloop.run(_serve(fitting, demo))
    finally:
        log.flush()


def _allow_many_files() -> int:
    """Raise the limit on open files to what this process may have, and return it: every connection is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(OSError, ValueError):  # Some systems name a hard limit that they do not grant.
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            return hard
    return soft


def _within(files: int, settings: config.Settings) -> config.Settings:
    """Return settings under which a crowd at the doors leaves files for the store and the providers.

    A connection for which there is no file cannot even be told 421 or 503.
    """
    room = max(1, (files - _FILES_OF_OUR_OWN - settings.relay_connections) // 2)
    if files == resource.RLIM_INFINITY or settings.max_connections <= room:
        return settings
    log.connections_limited(room, files=files)
    return msgspec.structs.replace(settings, max_connections=room)


async def _serve(settings: config.Settings, demo: bool) -> None:
    return_large_blocks()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    async with gateway(settings) as running:
        if settings.tls_cert:  # Without one, SIGHUP ends the process, as when its terminal is closed.
            loop.add_signal_handler(signal.SIGHUP, running.renew_certificate)
        _spare_the_collector()
        click.echo(_welcome(running) if settings.role in ("all", "api") else _welcome_of_part(running, settings.role))
        async with asyncio.TaskGroup() as tasks:
            ends: list[asyncio.Task[Any]] = [tasks.create_task(event.wait()) for event in (stop, running.store_lost)]
            if demo:
                ends.append(tasks.create_task(tour(running)))
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for task in ends:
                task.cancel()
    if running.store_lost.is_set():
        common.fail("the store process ended, so nothing could be stored any more; start again")
    if not stop.is_set():
        raise SystemExit(1)


def _spare_the_collector() -> None:
    """Keep the garbage collector from walking through what lives as long as the process, again and again.

    Modules and descriptors are some 200,000 objects; a request would pay a tenth to a third of its time for them.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def _welcome_of_part(gateway: Gateway, role: str) -> str:
    smtp = f"  SMTP  {gateway.smtp_address}\n" if gateway.smtp_address else ""
    return f"""Mailward is running, as {role} only.

  HTTP  {gateway.scheme}://{gateway.http_address}  (health and metrics)
{smtp}"""


def _welcome(gateway: Gateway) -> str:
    url = f"{gateway.scheme}://{gateway.http_address}"
    auth = f'-H "Authorization: Bearer $(cat {gateway.owner_token_file})"'
    smtp = f"  SMTP  {gateway.smtp_address}\n" if gateway.smtp_address else ""
    return f"""Mailward is running.

  HTTP  {url}  (REST, gRPC and gRPC-Web)
{smtp}  owner token: {gateway.owner_token_file}

Add a provider and activate it; send a mail; see it:

  id=$(curl -s {auth} -d '{_EXAMPLE}' {url}/admin/v1/smtp | sed 's/.*"id":"\\([0-9]*\\)".*/\\1/') && curl {auth} -X POST {url}/admin/v1/smtp/$id/_activate
  curl {auth} -d '{{"from":"noreply@example.com","to":["you@example.com"],"subject":"Hello","text":"It works."}}' {url}/v1/messages
  curl {auth} {url}/v1/messages
"""  # noqa: E501  lines to paste
