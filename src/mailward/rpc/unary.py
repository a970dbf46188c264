"""What gRPC and gRPC-Web share: one request message in a frame, one call, one answer or a status."""

from __future__ import annotations

import base64
import logging
import zlib
from dataclasses import dataclass
from email.utils import formatdate
from typing import Literal, cast
from urllib.parse import quote

from google.protobuf import json_format
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError, Message

from mailward.proto.google.rpc.status_pb2 import Status
from mailward.rpc.http import Request
from mailward.rpc.service import Call, Code, Method, Registry, RpcError, parse_timeout

log = logging.getLogger("mailward.rpc")

HEAD_BYTES = 5  #: of a frame: flags and the length of its message
_COMPRESSED = 1
_GZIP = 16 + zlib.MAX_WBITS
#: What need not be escaped in grpc-message: printable ASCII without "%".
_PRINTABLE = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")


class EarlyError(Exception):
    """The call failed before it reached guard, validation or handler: nothing is to be said but the status."""

    def __init__(self, error: RpcError) -> None:
        super().__init__(error.message)
        self.error = error


@dataclass(slots=True)
class Reply:
    """How a call ended."""

    error: RpcError | None
    frame: bytes = b""  #: the answer in its frame; empty when there is an error
    gzipped: bool = False
    early: bool = False  #: see EarlyError


async def call(
    registry: Registry,
    request: Request,
    body: bytes | bytearray,
    protocol: Literal["grpc", "grpc-web"],
    *,
    is_json: bool,
) -> Reply:
    """Call what `request` names with the message in `body`. Raises nothing but CancelledError."""
    try:
        method, message, gzipped, timeout_s = _read(registry, request, body, is_json)
        if isinstance(body, bytearray):  # Others have it too, and need it no more than we do.
            body.clear()
        metadata: dict[str, str] = {}
        for name, value in request.headers:
            metadata.setdefault(name, value)
        context = Call(method.path, metadata, protocol, request.peer)
        answer = await registry.call(method, message, context, timeout_s=timeout_s)
        return Reply(None, _frame(answer, gzipped, is_json), gzipped)
    except EarlyError as fault:
        return Reply(fault.error, early=True)
    except RpcError as error:
        return Reply(error)
    except Exception as error:
        log.exception("unhandled %s in %s", type(error).__name__, request.path)
        return Reply(RpcError(Code.INTERNAL, "An internal error occurred"))


def _read(
    registry: Registry, request: Request, body: bytes | bytearray, is_json: bool
) -> tuple[Method, Message, bool, float | None]:
    """Return method, request message, whether it was compressed, and the timeout. Raises EarlyError."""
    method = registry.method(request.path)
    if method is None:
        raise EarlyError(registry.unknown(request.path))
    timeout_s = None
    timeout = request.headers.get("grpc-timeout")
    if timeout:
        try:
            timeout_s = parse_timeout(timeout)
        except ValueError:
            raise EarlyError(RpcError(Code.INTERNAL, f"malformed grpc-timeout: {timeout}")) from None
    limit = method.service.max_message_bytes
    if request.too_large:
        raise EarlyError(too_large(request.too_large - HEAD_BYTES, limit))
    data, gzipped = unframe(body, request.headers.get("grpc-encoding"), limit)
    try:
        if is_json:
            return method, json_format.Parse(data, method.request(), ignore_unknown_fields=True), gzipped, timeout_s
        return method, method.request.FromString(data), gzipped, timeout_s
    except DecodeError as error:
        # The runtime has one text for all faults of the wire format and another for text that is not UTF-8.
        reason = _NO_UTF8 if "UTF-8" in str(error) else _NO_MESSAGE
    except (json_format.ParseError, UnicodeDecodeError, RecursionError):
        reason = "the message is no JSON of its type"
    raise EarlyError(RpcError(Code.INTERNAL, f"grpc: error unmarshalling request: {reason}"))


_NO_UTF8 = "string field contains invalid UTF-8"
_NO_MESSAGE = "proto:\u00a0cannot parse invalid wire-format data"


def too_large(size: int, limit: int) -> RpcError:
    """Return the error for a message of `size` bytes where `limit` are allowed."""
    return RpcError(Code.RESOURCE_EXHAUSTED, f"grpc: received message larger than max ({size} vs. {limit})")


def unframe(body: bytes | bytearray, encoding: str, limit: int) -> tuple[bytes, bool]:
    """Return the message in the first frame of `body`, unpacked, and whether it was compressed. Raises EarlyError.

    What follows the first frame is ignored; a bytearray becomes the message, without a copy. The texts are those that
    clients know from grpc-go.
    """
    if len(body) < HEAD_BYTES:
        raise EarlyError(RpcError(Code.UNKNOWN, "EOF"))
    flags = body[0]
    size = int.from_bytes(body[1:HEAD_BYTES], "big")
    if size > limit:
        raise EarlyError(too_large(size, limit))
    if len(body) < HEAD_BYTES + size:
        raise EarlyError(RpcError(Code.UNKNOWN, "unexpected EOF"))
    if isinstance(body, bytearray):
        del body[HEAD_BYTES + size :], body[:HEAD_BYTES]
        data = cast(bytes, body)  # Whoever reads it reads either.
    else:
        data = body[HEAD_BYTES : HEAD_BYTES + size]
    if flags == 0:
        return data, False
    if flags != _COMPRESSED:
        raise EarlyError(RpcError(Code.INTERNAL, f"grpc: received unexpected payload format {flags}"))
    if encoding in ("", "identity"):
        raise EarlyError(RpcError(Code.INTERNAL, "grpc: compressed flag set with identity or empty encoding"))
    if encoding != "gzip":
        text = f'grpc: Decompressor is not installed for grpc-encoding "{encoding}"'
        raise EarlyError(RpcError(Code.UNIMPLEMENTED, text))
    unpacker = zlib.decompressobj(_GZIP)
    try:
        data = unpacker.decompress(data, limit + 1)
    except zlib.error as error:
        text = f"grpc: failed to decompress the received message: {error}"
        raise EarlyError(RpcError(Code.INTERNAL, text)) from None
    if len(data) > limit:
        text = f"grpc: received message after decompression larger than max {limit}"
        raise EarlyError(RpcError(Code.RESOURCE_EXHAUSTED, text))
    if not unpacker.eof:
        text = "grpc: failed to decompress the received message: unexpected EOF"
        raise EarlyError(RpcError(Code.INTERNAL, text))
    return data, True


def _frame(message: Message, gzipped: bool, is_json: bool) -> bytes:
    data = json_format.MessageToJson(message, indent=None).encode() if is_json else message.SerializeToString()
    if gzipped:
        packer = zlib.compressobj(1, zlib.DEFLATED, _GZIP)
        data = packer.compress(data) + packer.flush()
    return bytes((_COMPRESSED if gzipped else 0,)) + len(data).to_bytes(4, "big") + data


def status_fields(error: RpcError | None) -> list[tuple[str, str]]:
    """Return the fields that say how a call ended, for trailers or for the head of an answer without any."""
    if error is None:
        return [("grpc-status", "0")]
    fields = [("grpc-status", str(int(error.code))), ("grpc-message", quote(error.message, safe=_PRINTABLE))]
    if error.details:
        status = Status(code=int(error.code), message=error.message)
        for detail in error.details:
            packed = AnyMessage()
            packed.Pack(detail)
            status.details.append(packed)
        value = base64.b64encode(status.SerializeToString()).rstrip(b"=").decode("ascii")
        fields.append(("grpc-status-details-bin", value))
    if error.retry_after_s:
        fields.append(("retry-after", str(error.retry_after_s)))
    return fields


def no_store() -> list[tuple[str, str]]:
    """Return the fields that keep an answer out of every cache."""
    return [("cache-control", "no-store"), ("pragma", "no-cache"), ("expires", formatdate(usegmt=True))]
