"""grpc.reflection.v1 as a stream of gRPC: each request is answered as it comes (the protocol "gRPC over HTTP2")."""

from __future__ import annotations

from collections.abc import Collection

from google.protobuf.message import DecodeError

from mailward.proto.grpc.reflection.v1 import reflection_pb2
from mailward.rpc import reflection, unary
from mailward.rpc.http import Request, Response
from mailward.rpc.service import Code, RpcError

_SERVICE = reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"]
PATH = f"/{_SERVICE.full_name}/ServerReflectionInfo"
_MAX_REQUEST_BYTES = 64 << 10  #: a request holds a name or two

Said = tuple[bytes, list[tuple[str, str]] | None]


class Reflection:
    """One call. Needs no token: what it tells stands in our .proto files."""

    def __init__(self, request: Request, services: Collection[str]) -> None:
        """`services`: the full names that are listed beside reflection itself."""
        self.head = Response(200, [("content-type", "application/grpc"), *unary.no_store()])
        self._encoding = request.headers.get("grpc-encoding")
        self._services = [*services, _SERVICE.full_name]
        self._rest = b""

    def receive(self, data: bytes | None) -> Said:
        """See http.Conversation."""
        if data is None:
            return b"", unary.status_fields(_CUT_SHORT if self._rest else None)
        self._rest += data
        said = b""
        try:
            while (size := self._frame_bytes()) and len(self._rest) >= size:
                frame, self._rest = self._rest[:size], self._rest[size:]
                said += self._answer(frame)
        except unary.EarlyError as fault:
            return said, unary.status_fields(fault.error)
        return said, None

    def _frame_bytes(self) -> int:
        """Return how long the next frame is with its head, 0 when that is not known yet. Raises EarlyError."""
        if len(self._rest) < unary.HEAD_BYTES:
            return 0
        size = int.from_bytes(self._rest[1 : unary.HEAD_BYTES], "big")
        if size > _MAX_REQUEST_BYTES:
            raise unary.EarlyError(unary.too_large(size, _MAX_REQUEST_BYTES))
        return unary.HEAD_BYTES + size

    def _answer(self, frame: bytes) -> bytes:
        message, _ = unary.unframe(frame, self._encoding, _MAX_REQUEST_BYTES)
        try:
            request = reflection_pb2.ServerReflectionRequest.FromString(message)
        except DecodeError:
            raise unary.EarlyError(RpcError(Code.INTERNAL, "the message is no ServerReflectionRequest")) from None
        answer = reflection.answer(request, self._services).SerializeToString()
        return b"\0" + len(answer).to_bytes(4, "big") + answer


_CUT_SHORT = RpcError(Code.INTERNAL, "unexpected EOF")
