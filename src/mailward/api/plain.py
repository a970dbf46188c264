"""The routes that are no method of a service: health, metrics, the OpenAPI document."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import orjson

from mailward import metrics
from mailward.proto.comments import COMMENTS
from mailward.rpc.http import Handler, Request, Response
from mailward.rpc.openapi import document
from mailward.rpc.service import Registry

_TEXT = "text/plain; charset=utf-8"
_JSON = "application/json"
_LOGIN = "/ui/login"  #: where ZITADEL sends whoever opens "/"

#: What is asked to find out whether the gateway can work: name → None, or what is wrong.
Checks = Mapping[str, Callable[[], Awaitable[str | None]]]


def plain_routes(registry: Registry, checks: Checks, *, version: str) -> dict[str, Handler]:
    """Return path → handler. `checks` say whether the gateway is ready; a broken provider is no reason not to be."""
    openapi: list[bytes] = []

    async def ready(request: Request) -> Response:
        faults = {name: fault for name, check in checks.items() if (fault := await check()) is not None}
        if "verbose" in request.query:
            states = {name: faults.get(name, "ok") for name in checks}
            return _answer(503 if faults else 200, orjson.dumps(states), _JSON)
        return _answer(503 if faults else 200, b"not ready" if faults else b"ok", _TEXT)

    async def ready_as_zitadel(request: Request) -> Response:
        faults = [fault for check in checks.values() if (fault := await check()) is not None]
        return _answer(412 if faults else 200, orjson.dumps(faults[0] if faults else "ok"), _JSON)

    async def serving(request: Request) -> Response:
        faults = [fault for check in checks.values() if (fault := await check()) is not None]
        body = b'{"status":"NOT_SERVING"}' if faults else b'{"status":"SERVING"}'
        return _answer(503 if faults else 200, body, _JSON)

    async def scrape(request: Request) -> Response:
        return _answer(200, await asyncio.to_thread(metrics.render), metrics.CONTENT_TYPE)

    def describe(request: Request) -> Response:
        if not openapi:  # 0.1 s of work that most processes never need
            openapi.append(orjson.dumps(document(registry, title="Mailward", version=version, comments=COMMENTS)))
        return _answer(200, openapi[0], _JSON)

    def alive(request: Request) -> Response:
        return _answer(200, b"ok", _TEXT)

    def to_login(request: Request) -> Response:
        body = b"" if request.method == "HEAD" else f'<a href="{_LOGIN}">Found</a>.\n\n'.encode()
        return Response(302, [("location", _LOGIN), ("content-type", "text/html; charset=utf-8")], body)

    def alive_as_service(request: Request) -> Response:
        return _answer(200, b"{}", _JSON)

    routes: dict[str, Handler] = {
        "/livez": alive,
        "/readyz": ready,
        "/healthz": serving,
        "/metrics": scrape,
        "/openapi.json": describe,
        "/debug/healthz": alive,
        "/debug/ready": ready_as_zitadel,
        "/debug/validate": ready_as_zitadel,
        "/debug/metrics": scrape,
        "/management/v1/healthz": alive_as_service,
        "/auth/v1/healthz": alive_as_service,
    }
    return {"/": to_login, **{path: _only_get(handler) for path, handler in routes.items()}}


def _only_get(handler: Handler) -> Handler:
    def run(request: Request) -> Response | Awaitable[Response]:
        if request.method not in ("GET", "HEAD"):
            return _answer(405, b"Method Not Allowed", _TEXT)
        return handler(request)

    return run


def _answer(status: int, body: bytes, content_type: str) -> Response:
    return Response(status, [("content-type", content_type)], body)
