"""The SMTP door: where applications submit mail as they would to any relay."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from mailward.access.access import MEMORY_US
from mailward.access.roles import MESSAGE_SEND
from mailward.access.standing import Standing
from mailward.bootstrap.control_plane import ControlPlane
from mailward.bootstrap.data_plane import DataPlane
from mailward.bootstrap.listening import Certificate, shown
from mailward.config import Settings
from mailward.errors import Unavailable
from mailward.peer import networks
from mailward.smtpd.door import House, SmtpdSettings
from mailward.smtpd.listener import SmtpListener
from mailward.smtpd.tls import self_signed, server_context
from mailward.store import now_us


@asynccontextmanager
async def smtp_door(
    settings: Settings, certificate: Certificate, folder: Path, control: ControlPlane, data: DataPlane
) -> AsyncIterator[str]:
    """Listen until the block ends, at the "host:port" that it is given. `folder` keeps the certificate made for it.

    Raises Unavailable when the address cannot be had, InvalidArgument for a certificate that cannot be used.
    """

    async def authenticate(user: str, token: str, peer: str) -> Standing | None:
        return await control.access.sign_in(token, "smtp", peer, MESSAGE_SEND)  # The user name is free text.

    house = House(
        authenticate=authenticate,
        refuse=partial(control.access.refuse, "smtp"),
        submit=data.submissions.submit,
        upload=data.submissions.upload,
        draw_id=data.draw_id,
        now_us=now_us,
    )
    context = certificate.context() or server_context(self_signed(folder, settings.host, datetime.now(UTC)))
    listener = SmtpListener(_smtpd_settings(settings, context), house)
    assert settings.smtp_address is not None
    host, number = settings.smtp_address
    try:
        (_, number), *_ = await listener.start(host, number)
    except OSError as error:
        raise Unavailable("BOOT-smtp", f"cannot listen on {settings.smtp} (--smtp): {error.strerror}") from None
    try:
        async with control.access.standings.watched(MEMORY_US / 1e6):
            yield shown(host, number)
    finally:
        await listener.stop(settings.shutdown_s / 2)


def _smtpd_settings(settings: Settings, context: ssl.SSLContext) -> SmtpdSettings:
    return SmtpdSettings(
        hostname=settings.host,
        max_size_bytes=settings.max_message_bytes,
        max_recipients=settings.max_recipients,
        max_connections=settings.max_connections,
        open_networks=networks(settings.smtp_open_from),
        tls=context,
    )
