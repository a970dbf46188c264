"""REST: a request becomes a call, its outcome a response, in the style of the service called."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections.abc import Callable
from email.utils import formatdate
from random import Random
from typing import Any
from urllib.parse import parse_qsl

import orjson
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from mailward.rpc import protojson_read, protojson_write
from mailward.rpc.http import Request, Response
from mailward.rpc.scalars import UnknownName, Unreadable
from mailward.rpc.service import (
    GATEWAY,
    Call,
    Code,
    Method,
    Registry,
    RestStyle,
    RpcError,
    Service,
    count_call,
    parse_timeout,
)
from mailward.rpc.transcode import BadEscape, Route, Router, clean_path, decode_path, variables

#: HTTP status of each gRPC code.
STATUS = {
    Code.OK: 200,
    Code.CANCELLED: 499,
    Code.UNKNOWN: 500,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.PERMISSION_DENIED: 403,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400,
    Code.ABORTED: 409,
    Code.OUT_OF_RANGE: 400,
    Code.UNIMPLEMENTED: 501,
    Code.INTERNAL: 500,
    Code.UNAVAILABLE: 503,
    Code.DATA_LOSS: 500,
    Code.UNAUTHENTICATED: 401,
}

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class RestGateway:
    """Answers REST requests for every service of a registry."""

    def __init__(
        self,
        registry: Registry,
        *,
        now: Callable[[], float] = time.time,
        new_request_id: Callable[[], str] | None = None,
    ) -> None:
        """`registry` must be complete. `now`: seconds since the epoch."""
        self._registry = registry
        self._router = Router(registry)
        self._now = now
        self._new_request_id = new_request_id or _new_request_id
        self._expires = (0, "")
        self._prefixes = [s.prefix for s in registry.services.values() if s.prefix]
        self._owners: dict[str, Service] = {}  # First segment of a path to the service that has it.
        for route in self._router.routes:
            self._owners.setdefault(route.segments[0], route.method.service)

    def max_body(self, method: str, path: str) -> int:
        """Return the largest body in bytes that is worth reading. A message in JSON may be larger than in binary."""
        service = self._owners.get(path[1:].partition("/")[0])
        return 2 * service.max_message_bytes if service is not None else 1 << 20

    async def __call__(self, request: Request) -> Response:
        """Return the response to `request`. Paths that no service knows are answered too."""
        try:
            path = decode_path(request.path)
        except BadEscape:
            return Response(400, [("Content-Type", "text/plain; charset=utf-8")], b"400 Bad Request")
        if path is None:
            return self._refuse(request, GATEWAY, RpcError(Code.NOT_FOUND, "Not Found"))
        cleaned = clean_path(path)
        if cleaned is not None:
            query = f"?{request.query}" if request.query else ""
            return Response(301, [("Location", cleaned + query)])
        segments = path.split("/")[1:]
        verb = _verb(request)
        route = self._router.find(verb, segments)
        if route is not None:
            return await self._call(request, route, segments)
        owner = self._owners.get(segments[0])
        style = GATEWAY if owner is None else owner.style
        if path in self._prefixes:
            return self._refuse(request, style, RpcError(Code.INVALID_ARGUMENT, "Bad Request"))
        allowed = self._router.allowed(segments)
        if not allowed:
            return self._refuse(request, style, RpcError(Code.NOT_FOUND, "Not Found"))
        refusal = RpcError(Code.UNIMPLEMENTED, "Method Not Allowed", code_name="method_not_allowed", http_status=405)
        response = self._refuse(request, style, refusal)
        if style.problems:
            response.headers.append(("Allow", ", ".join(allowed)))
        return response

    async def _call(self, request: Request, route: Route, segments: list[str]) -> Response:
        style = route.method.service.style
        call = Call(
            method=route.method.path,
            metadata=_metadata(request),
            protocol="rest",
            peer=request.peer,
            request_id=self._request_id(request),
        )
        try:
            timeout = request.headers.get("grpc-timeout")
            timeout_s = parse_timeout(timeout) if timeout else None
        except ValueError as error:
            return self._refuse(request, style, RpcError(Code.INVALID_ARGUMENT, str(error)), call.request_id)
        try:
            if request.large is None:
                message = _read(request, route, segments)
            else:
                message = await asyncio.to_thread(_read, request, route, segments)
        except RpcError as error:
            return self._refuse(request, style, error, call.request_id)
        try:
            _check_size(request, route, message)
            answer = await self._registry.call(route.method, message, call, timeout_s=timeout_s)
        except RpcError as error:
            return self._failed(request, style, error, call.request_id)
        body = protojson_write.write(answer, proto_names=style.proto_names)
        return self.succeeded(request, route.method, body, call.request_id)

    # For whoever answers a request without `__call__` and wants to be told apart from it by nobody.

    def method(self, verb: str, path: str) -> Method:
        """Return the method that answers `verb` at `path`, which has no variables."""
        route = self._router.find(verb, path.split("/")[1:])
        assert route is not None
        return route.method

    def succeeded(self, request: Request, method: Method, body: bytes, request_id: str = "") -> Response:
        """Return the response with which `method` succeeds; `body`: its answer in JSON."""
        style = method.service.style
        headers = [("Content-Type", "application/json"), *self._cache_headers(), *_VARY]
        if style.problems:
            headers.append(("X-Request-Id", request_id or self._request_id(request)))
        return Response(style.statuses.get(method.descriptor.name, 200), headers, body)

    def failed(self, request: Request, method: Method, error: Exception) -> Response:
        """Return the response with which `method` fails when its handler raises `error`."""
        request_id = self._request_id(request)
        call = Call(method.path, _metadata(request), "rest", request.peer, request_id)
        explained = self._registry.explain(error, call)
        count_call("rest", method, explained.code)
        return self._failed(request, method.service.style, explained, request_id)

    def _failed(self, request: Request, style: RestStyle, error: RpcError, request_id: str) -> Response:
        response = self._refuse(request, style, error, request_id)
        response.headers += self._cache_headers()
        return response

    def refuse(self, request: Request, error: RpcError) -> Response:
        """Return the answer that a path beside the services gives for `error`, in the gateway's style."""
        response = self._refuse(request, GATEWAY, error)
        response.headers += self._cache_headers()
        return response

    def _refuse(self, request: Request, style: RestStyle, error: RpcError, request_id: str = "") -> Response:
        status = error.http_status or STATUS[error.code]
        body: dict[str, Any]
        if style.problems:
            request_id = request_id or self._request_id(request)
            body = _problem(style, error, status, request_id)
            headers = [("Content-Type", "application/problem+json"), ("X-Request-Id", request_id)]
        else:
            body = {"code": int(error.code), "message": error.message}
            if error.details:
                body["details"] = [_any(detail) for detail in error.details]
            headers = [("Content-Type", "application/json")]
        if status == 401:
            headers.append(("WWW-Authenticate", "Bearer" if style.problems else _header_safe(error.message)))
        if error.retry_after_s:
            headers.append(("Retry-After", str(error.retry_after_s)))
        return Response(status, headers, b"" if request.method == "HEAD" else orjson.dumps(body))

    def _request_id(self, request: Request) -> str:
        """Return the caller's id for this request if it is a decent one, otherwise a new one."""
        given = request.headers.get("x-request-id")
        return given if _REQUEST_ID.fullmatch(given) else self._new_request_id()

    def _cache_headers(self) -> list[tuple[str, str]]:
        second = int(self._now())
        if self._expires[0] != second:
            self._expires = (second, formatdate(second, usegmt=True))
        return [("Cache-Control", "no-store"), ("Pragma", "no-cache"), ("Expires", self._expires[1])]


# Ids must differ, not be secret: drawn without a system call, which here costs more than the look-up of a route.
_random = Random(secrets.randbits(128))


def _new_request_id() -> str:
    return f"{_random.getrandbits(64):016x}"


_VARY = [("Vary", "Origin"), ("Vary", "Cookie")]


def _verb(request: Request) -> str:
    """Return the verb to route by: a form may ask for another one, as browsers' forms know only two."""
    if request.method == "POST":
        override = request.headers.get("x-http-method-override")
        if override and request.headers.get("content-type") == "application/x-www-form-urlencoded":
            return override.upper()
    return request.method


def _metadata(request: Request) -> dict[str, str]:
    """Return the header fields; the first one wins where a name is repeated. "Grpc-Metadata-X" is also "x"."""
    metadata: dict[str, str] = {}
    for name, value in request.headers:
        metadata.setdefault(name, value)
        if name.startswith("grpc-metadata-"):
            metadata.setdefault(name[14:], value)
    return metadata


def _read(request: Request, route: Route, segments: list[str]) -> Message:
    """Return the request message: the body or the query string, then the path, which wins. Raises RpcError."""
    style = route.method.service.style
    message = route.method.request()
    try:
        if route.takes_body and request.large is not None:
            blocks = request.large.take()
            message = protojson_read.parse_large(route.method.request, blocks, refuse_unknown=style.refuse_unknown)
        elif route.takes_body:
            message = protojson_read.parse(route.method.request, request.body, refuse_unknown=style.refuse_unknown)
        elif style.query and request.query:
            _read_query(message, route.method.descriptor.input_type, request.query)
    except protojson_read.JsonFault as fault:
        raise RpcError(Code.INVALID_ARGUMENT, fault.message, code_name=fault.rule, pointer=fault.pointer) from None
    for field, text in variables(route, segments):
        try:
            protojson_read.set_from_text(message, field, text)
        except UnknownName:
            raise _mismatch(field.name, f"{text} is not valid") from None
        except Unreadable as fault:
            raise _mismatch(field.name, str(fault)) from None
    return message


def _mismatch(name: str, why: str) -> RpcError:
    return RpcError(
        Code.INVALID_ARGUMENT,
        f"type mismatch, parameter: {name}, error: {why}",
        code_name="invalid_value",
        pointer=f"/{name}",
    )


def _read_query(message: Message, descriptor: Descriptor, query: str) -> None:
    """Fill `message` from "page_size=10&state=queued". Unknown parameters are refused, like unknown fields."""
    try:
        pairs = parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=100)
    except ValueError:
        raise RpcError(Code.INVALID_ARGUMENT, "the query string cannot be read", code_name="invalid_value") from None
    seen = set()
    for name, text in pairs:
        field = descriptor.fields_by_name.get(name)
        if field is None:
            raise protojson_read.JsonFault("this parameter does not exist", "unknown_field", "/" + name[:200])
        if name in seen and not field.is_repeated:
            raise protojson_read.JsonFault("this parameter is given twice", "duplicate_field", "/" + name)
        seen.add(name)
        try:
            protojson_read.set_from_text(message, field, text)
        except Unreadable as fault:
            raise _mismatch(name, str(fault)) from None


def _check_size(request: Request, route: Route, message: Message) -> None:
    """Raises RpcError for a message over the limit of its service. The size is that of the binary form."""
    limit = route.method.service.max_message_bytes
    if not route.takes_body or not (request.too_large or request.size > limit):
        return
    size = request.too_large or message.ByteSize()
    if size > limit:
        raise RpcError(
            Code.RESOURCE_EXHAUSTED,
            f"grpc: received message larger than max ({size} vs. {limit})",
            code_name="message_too_large",
            http_status=413 if route.method.service.style.problems else 0,
        )


def _any(detail: Message) -> dict[str, Any]:
    return {"@type": f"type.googleapis.com/{detail.DESCRIPTOR.full_name}", **protojson_write.to_plain(detail)}


def _problem(style: RestStyle, error: RpcError, status: int, request_id: str) -> dict[str, Any]:
    """Return the problem document of RFC 9457."""
    problem: dict[str, Any] = {
        "type": style.problem_type + error.code_name,
        "title": error.code_name.replace("_", " ").capitalize(),
        "status": status,
        "detail": error.message,
        "code": error.code_name,
        "request_id": request_id,
    }
    if error.pointer:
        problem["errors"] = [{"pointer": error.pointer, "code": error.code_name, "message": error.message}]
    return problem


def _header_safe(text: str) -> str:
    return "".join(char if " " <= char <= "~" else "?" for char in text)
