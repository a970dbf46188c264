"""A port on loopback, on the event loop that the program uses."""

import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

from mailward.rpc.app import App
from mailward.rpc.http import Handler, Request, Response
from mailward.rpc.limits import Limits
from mailward.rpc.port import HttpPort
from tests.support.certificates import Certificates, make_certificates
from tests.support.http import Service, registry

Open = Callable[..., Any]


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> dict[str, Any]:
    """Run these tests on uvloop: its transports differ from asyncio's in small ways."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def ca_file(certificates: Certificates) -> Path:
    return certificates.ca


@pytest.fixture
async def open_port() -> AsyncIterator[Open]:
    """Call with a handler (and limits, an SSL context) to get a port that listens: (HttpPort, its number)."""
    async with contextlib.AsyncExitStack() as ports:

        async def open_one(
            handler: Handler, *, limits: Limits | None = None, tls: ssl.SSLContext | None = None, **more: Any
        ) -> tuple[HttpPort, int]:
            port = HttpPort(handler, limits=limits, **more)
            number = await port.start("127.0.0.1", 0, tls)
            ports.push_async_callback(port.stop, 0.0)
            return port, number

        yield open_one


@pytest.fixture
async def open_service(open_port: Open) -> Open:
    """Like `open_port`, with the dispatcher and a gRPC service behind it."""

    async def open_one(service: Service, **more: Any) -> tuple[HttpPort, int]:
        app = App(registry(service), _rest, {}, rest_limit=lambda method, path: 1 << 20)
        port: tuple[HttpPort, int] = await open_port(
            app, max_body=app.max_body, finish=app.finish, converse=app.converse, **more
        )
        return port

    return open_one


def _rest(request: Request) -> Response:
    return Response(404, [("content-type", "application/json")], b'{"code":5,"message":"Not Found"}')
