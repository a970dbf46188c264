"""The way to an HTTP endpoint: resolve, connect, shake hands, each with its deadline."""

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable

from mailward.transport import egress
from mailward.transport.base import Deadlines
from mailward.transport.endpoint import Endpoint
from mailward.transport.http_connection import KEPT_BYTES, HttpConnection
from mailward.transport.tls import handshake_trouble


async def open_connection(
    endpoint: Endpoint,
    deadlines: Deadlines,
    context: Callable[[], Awaitable[ssl.SSLContext]],
    *,
    check: egress.AddressCheck,
    kept_bytes: int = KEPT_BYTES,
) -> HttpConnection:
    """Return a connection to `endpoint`. Raises Trouble, and what `context` raises, which is called for https only.

    `kept_bytes`: how much of an answer's body is wanted.
    """
    addresses = await egress.resolve(endpoint.host, endpoint.port, deadlines.connect_s, check)
    sock, _ = await egress.connect(addresses, deadlines.connect_s)
    connection = HttpConnection(kept_bytes)
    loop = asyncio.get_running_loop()
    try:
        if endpoint.is_https:
            tls = await context()
            async with asyncio.timeout(deadlines.connect_s):
                await loop.create_connection(lambda: connection, sock=sock, ssl=tls, server_hostname=endpoint.host)
        else:
            await loop.create_connection(lambda: connection, sock=sock)
    except (OSError, TimeoutError) as error:  # ssl.SSLError is an OSError.
        sock.close()
        raise handshake_trouble(error) from None
    except BaseException:
        sock.close()
        raise
    connection.opened_at = time.monotonic()
    return connection
