"""gRPC-Web, binary and text, over any version of HTTP: trailers travel as a last frame of the body."""

from __future__ import annotations

import base64
import binascii
import re

from mailward.rpc import unary
from mailward.rpc.grpc import media_type
from mailward.rpc.http import Request, Response
from mailward.rpc.service import Code, Registry, RpcError

_PREFIX = "application/grpc-web"
_TEXT_PREFIX = "application/grpc-web-text"
_TRAILERS = b"\x80"  #: flags of the frame that holds the trailers
_PIECE = re.compile(rb"[A-Za-z0-9+/]+={0,2}")


def serves(request: Request) -> bool:
    """Whether `request` is a gRPC-Web call."""
    return request.method == "POST" and media_type(request).startswith(_PREFIX)


class GrpcWeb:
    """Answers gRPC-Web calls from the methods of a registry. HTTP says 200 whatever happened."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def __call__(self, request: Request) -> Response:
        """Return a data frame and the trailers, the trailers alone, or for a call that reached no method its status
        in the head and an empty body."""
        content_type = media_type(request)
        text = content_type.startswith(_TEXT_PREFIX)
        body = request.take_body()
        if text:
            try:
                body = from_text(body)
            except binascii.Error:
                error = RpcError(Code.UNKNOWN, "illegal base64 data")
                return Response(200, [("content-type", content_type), *unary.status_fields(error)])
            request.too_large = request.too_large // 4 * 3
        is_json = content_type.endswith("+json")
        reply = await unary.call(self._registry, request, body, "grpc-web", is_json=is_json)
        head = [("content-type", content_type)]
        if reply.early:
            return Response(200, head + unary.status_fields(reply.error))
        head += unary.no_store()
        if reply.gzipped:
            head.append(("grpc-encoding", "gzip"))
        answer = reply.frame + _trailers(reply.error)
        return Response(200, head, base64.b64encode(answer) if text else answer)


def _trailers(error: RpcError | None) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in unary.status_fields(error)).encode("ascii")
    return _TRAILERS + len(lines).to_bytes(4, "big") + lines


def from_text(body: bytes | bytearray) -> bytes:
    """Return what the base64 in `body` stands for; it may be several padded pieces, one after the other.

    Raises binascii.Error.
    """
    body = body.translate(None, b"\r\n")
    if b"=" not in body[:-2]:
        return base64.b64decode(body, validate=True)
    pieces = _PIECE.findall(body)
    if sum(map(len, pieces)) != len(body):
        raise binascii.Error("not base64")
    return b"".join(base64.b64decode(piece, validate=True) for piece in pieces)
