"""The dispatcher: what comes in on the HTTP port goes to gRPC, gRPC-Web, a plain route, or the REST gateway."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from mailward.rpc import cors, grpc, grpc_reflection, web
from mailward.rpc.http import BodyLimit, Conversation, Handler, Request, Response
from mailward.rpc.service import Registry
from mailward.rpc.unary import HEAD_BYTES

#: Answers a request at once or by a future, or returns None: then nothing has happened.
Shortcut = Callable[[Request], Response | Awaitable[Response] | None]


class App:
    """The handler of the port; give its `finish`, `max_body` and `converse` to the port too."""

    def __init__(
        self,
        registry: Registry,
        rest: Callable[[Request], Response | Awaitable[Response]],
        routes: Mapping[str, Handler],
        *,
        rest_limit: BodyLimit,
        shortcuts: Mapping[str, Shortcut] | None = None,
    ) -> None:
        """`rest`: answers everything nobody else does.

        `routes`: path → handler, for any method; a path that ends in "/" stands for everything below it too, except
        "/" itself. `rest_limit`: bytes a body may have on routes and REST paths.
        `shortcuts`: path → who is asked first, and may leave the request to all others by returning None.
        """
        self._registry = registry
        self._grpc = grpc.Grpc(registry)
        self._web = web.GrpcWeb(registry)
        self._rest = rest
        self._routes = dict(routes)
        self._below = sorted((path for path in routes if path.endswith("/") and path != "/"), key=len, reverse=True)
        self._rest_limit = rest_limit
        self._shortcuts = dict(shortcuts or {})

    def __call__(self, request: Request) -> Response | Awaitable[Response]:
        """Answer `request`. A path of gRPC asked for in any other way is for REST, which knows no such path (404)."""
        shortcut = self._shortcuts.get(request.path)
        if shortcut is not None and (early := shortcut(request)) is not None:
            return early
        route = self._routes.get(request.path)
        if route is None and grpc.serves(request):
            return self._grpc(request)
        if request.method == "OPTIONS":
            answer = cors.preflight(request)
            if answer is not None:
                return answer
        if route is not None:
            return route(request)
        if web.serves(request):
            return self._web(request)
        for path in self._below:
            if request.path.startswith(path):
                return self._routes[path](request)
        return self._rest(request)

    def converse(self, request: Request) -> Conversation | None:
        """Return the conversation that `request` begins, if it is one: only reflection is a stream."""
        if request.path == grpc_reflection.PATH and grpc.serves(request):
            return grpc_reflection.Reflection(request, self._registry.services)
        return None

    def finish(self, request: Request, response: Response) -> None:
        """Add what every answer carries: nothing of this port is for search engines, any origin may read it."""
        for name, _ in response.headers:
            if len(name) == 12 and name.lower() == "x-robots-tag":
                break
        else:
            response.headers.append(("x-robots-tag", "none"))
        if "origin" in request.headers:
            cors.allow(request, response)

    def max_body(self, method: str, path: str) -> int:
        """Return the bytes a body may have. Calls get room for base64; the exact limit is on their message."""
        called = self._registry.method(path)
        if called is not None:
            return (called.service.max_message_bytes + HEAD_BYTES) * 4 // 3 + 4
        return self._rest_limit(method, path)
