"""Unary gRPC over HTTP/2 (the protocol "gRPC over HTTP2")."""

from __future__ import annotations

from mailward.rpc import unary
from mailward.rpc.http import Request, Response
from mailward.rpc.service import Registry

_TYPES = frozenset(("application/grpc", "application/grpc+proto", "application/grpc+json"))


def serves(request: Request) -> bool:
    """Whether `request` is a gRPC call."""
    return request.http_version == "2" and request.method == "POST" and media_type(request) in _TYPES


def media_type(request: Request) -> str:
    """Return the content type without its parameters, in lower case; "" when there is none."""
    return request.headers.get("content-type").partition(";")[0].strip().lower()


class Grpc:
    """Answers gRPC calls from the methods of a registry."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def __call__(self, request: Request) -> Response:
        """Return HTTP 200 with the status in the trailers, or in the head for a call that never reached a method."""
        content_type = media_type(request)
        reply = await unary.call(
            self._registry, request, request.take_body(), "grpc", is_json=content_type == "application/grpc+json"
        )
        head = [("content-type", content_type)]
        if reply.early:
            return Response(200, head + unary.status_fields(reply.error))
        head += unary.no_store()
        if reply.gzipped:
            head.append(("grpc-encoding", "gzip"))
        return Response(200, head, reply.frame, unary.status_fields(reply.error))
