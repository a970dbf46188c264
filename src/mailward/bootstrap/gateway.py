"""The composition root: settings in, a running gateway out. This folder alone knows everybody."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from mailward import log, metrics
from mailward.access.access import Access
from mailward.bootstrap.control_plane import control_plane
from mailward.bootstrap.data_plane import begin_life, data_plane
from mailward.bootstrap.http_door import http_door
from mailward.bootstrap.listening import Certificate
from mailward.bootstrap.smtp_door import smtp_door
from mailward.config import Settings
from mailward.store import data_dir, locked, node_name, open_store, write_private

OWNER_TOKEN_FILE = "owner.token"


@dataclass(frozen=True, slots=True)
class Gateway:
    """A running gateway, as whoever started it sees it."""

    scheme: str  #: "http" or "https"
    http_address: str  #: "host:port", the real port also when 0 was asked for
    smtp_address: str  #: "host:port"; "" when there is no SMTP door
    owner_token_file: Path
    access: Access
    #: Set when nothing can be stored any more, because the store process has ended.
    store_lost: asyncio.Event
    renew_certificate: Callable[[], None]  #: see Certificate.renew


@asynccontextmanager
async def gateway(settings: Settings) -> AsyncIterator[Gateway]:
    """Run a gateway until the block ends, then stop it within `shutdown_s`.

    Doors close first, then the worker, then the store: what was acknowledged is on disk, what is on the wire finishes.
    """
    async with AsyncExitStack() as stack:
        folder = data_dir(settings)
        stack.enter_context(locked(folder))
        store = await stack.enter_async_context(open_store(settings, writer="process"))
        life = await begin_life(settings, store.database, node_name(folder))
        control = await stack.enter_async_context(control_plane(settings, store, life.ids))
        token_file = folder / OWNER_TOKEN_FILE
        first = await control.access.ensure_owner()
        if first is not None:
            write_private(token_file, first.text)
        data = await stack.enter_async_context(data_plane(settings, store.database, life, control))
        certificate = Certificate(settings)
        smtp_address = ""
        if settings.role in ("all", "smtp") and settings.smtp_address is not None:
            smtp_address = await stack.enter_async_context(smtp_door(settings, certificate, folder, control, data))
        http_address = await stack.enter_async_context(http_door(settings, certificate, store.database, control, data))

        metrics.build_info.labels(version("mailward")).set(1)
        log.write(
            "info", "server.started", http=http_address, smtp=smtp_address, role=settings.role,
            node=life.owner.node, epoch=life.owner.epoch,
        )  # fmt: skip
        yield Gateway(
            scheme="https" if settings.tls_cert else "http",
            http_address=http_address,
            smtp_address=smtp_address,
            owner_token_file=token_file,
            access=control.access,
            store_lost=store.database.lost,
            renew_certificate=certificate.renew,
        )
        log.write("info", "server.stopping")
