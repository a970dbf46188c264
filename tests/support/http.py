"""HTTP connections without sockets, an HTTP/2 client on bytes, and a small gRPC service to call."""

import asyncio
import struct
from collections.abc import Callable
from typing import Any

from google.protobuf.descriptor import MethodDescriptor
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import Event

from mailward.proto.zitadel import admin_pb2
from mailward.rpc.http import BodyLimit, Converse, Handler, Request, Response
from mailward.rpc.http1 import Http1Connection
from mailward.rpc.http2 import Http2Connection
from mailward.rpc.limits import Limits
from mailward.rpc.service import Call, Code, Registry, RpcError
from mailward.rpc.serving import Serving

SERVICE = "zitadel.admin.v1.AdminService"
ADD = f"/{SERVICE}/AddSMTPConfig"
GET = f"/{SERVICE}/GetSMTPConfigById"


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """Return a frame of HTTP/2 (RFC 9113 4.1)."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


class FakeTransport:
    """What a connection writes to. `take` gives what was written since the last look."""

    def __init__(self, *, tls: bool = False) -> None:
        self.written = bytearray()
        self.closed = self.aborted = self.eof = self.reading_paused = False
        self.unsent = 0  #: what get_write_buffer_size answers
        self._tls = tls

    def get_extra_info(self, name: str) -> Any:
        return {"peername": ("192.0.2.7", 4711), "ssl_object": object() if self._tls else None}.get(name)

    def write(self, data: bytes) -> None:
        assert not self.closed and not self.eof
        self.written += data

    def take(self) -> bytes:
        data = bytes(self.written)
        self.written.clear()
        return data

    def can_write_eof(self) -> bool:
        return not self._tls

    def write_eof(self) -> None:
        self.eof = True

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = self.aborted = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.reading_paused = True

    def resume_reading(self) -> None:
        self.reading_paused = False

    def get_write_buffer_size(self) -> int:
        return self.unsent

    @property
    def finished(self) -> bool:
        """Whether nothing more will be written."""
        return self.closed or self.eof


class Echo:
    """A handler that keeps what it was asked and answers 200 with the body, or what `answer` makes of the request."""

    def __init__(self, answer: Callable[[Request], Any] | None = None) -> None:
        self.requests: list[Request] = []
        self._answer = answer

    def __call__(self, request: Request) -> Any:
        self.requests.append(request)
        return Response(200, body=request.body) if self._answer is None else self._answer(request)


def connect1(
    handler: Handler, *, limits: Limits | None = None, max_body: BodyLimit | None = None, tls: bool = False
) -> tuple[Http1Connection, FakeTransport]:
    """Return a new HTTP/1.1 connection and its transport."""
    connection = Http1Connection(Serving(handler, limits=limits, max_body=max_body))
    transport = FakeTransport(tls=tls)
    connection.connection_made(transport)  # type: ignore[arg-type]
    return connection, transport


class Client2:
    """The client's side of an HTTP/2 connection whose server's side is `connection`."""

    def __init__(
        self,
        handler: Handler,
        *,
        limits: Limits | None = None,
        max_body: BodyLimit | None = None,
        settled: bool = True,
        converse: Converse | None = None,
    ) -> None:
        self.connection = Http2Connection(Serving(handler, limits=limits, max_body=max_body, converse=converse))
        self.transport = FakeTransport()
        self.h2 = H2Connection(H2Configuration(client_side=True, header_encoding="latin-1"))
        self.events: list[Event] = []
        self.connection.connection_made(self.transport)  # type: ignore[arg-type]
        if settled:
            self.h2.initiate_connection()
            self.send()
            self.send()

    def send(self, data: bytes = b"") -> None:
        """Send what h2 has ready and `data`, and take in what comes back at once."""
        self.connection.data_received(self.h2.data_to_send() + data)
        self.receive()

    def receive(self) -> None:
        data = self.transport.take()
        if data:
            self.events += self.h2.receive_data(data)

    async def settle(self) -> None:
        """Let the server's callbacks run, then take in what they sent, until nothing more comes."""
        for _ in range(5):
            await asyncio.sleep(0)
            self.receive()
            answer = self.h2.data_to_send()
            if answer:
                self.connection.data_received(answer)

    def request(
        self, method: str = "GET", path: str = "/", *, body: bytes | None = None, fields: dict[str, str] | None = None
    ) -> int:
        """Send a request and return its stream's id. `body` None: there is none; otherwise it ends the stream."""
        stream_id = self.h2.get_next_available_stream_id()
        head = [(":method", method), (":path", path), (":scheme", "http"), (":authority", "localhost")]
        self.h2.send_headers(stream_id, head + list((fields or {}).items()), end_stream=body is None)
        if body is not None:
            self.h2.send_data(stream_id, body, end_stream=True)
        self.send()
        return stream_id

    def of(self, kind: type[Event], stream_id: int | None = None) -> list[Any]:
        """Return the events of `kind` that came so far."""
        return [
            event
            for event in self.events
            if isinstance(event, kind) and (stream_id is None or getattr(event, "stream_id", None) == stream_id)
        ]


async def guard(method: MethodDescriptor, call: Call) -> str:
    """Let in whoever brings any authorization."""
    if "authorization" not in call.metadata:
        raise RpcError(Code.UNAUTHENTICATED, "auth header missing")
    return call.metadata["authorization"]


class Service:
    """Answers two methods of the AdminService. `add_smtp_config` waits for `gate` when there is one."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.gate: asyncio.Event | None = None
        self.waiting = 0
        self.cancelled = 0

    async def add_smtp_config(
        self, request: admin_pb2.AddSMTPConfigRequest, call: Call
    ) -> admin_pb2.AddSMTPConfigResponse:
        self.calls.append(call)
        if self.gate is not None:
            self.waiting += 1
            try:
                await self.gate.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
            finally:
                self.waiting -= 1
        return admin_pb2.AddSMTPConfigResponse(id=request.host)

    async def get_smtp_config_by_id(
        self, request: admin_pb2.GetSMTPConfigByIdRequest, call: Call
    ) -> admin_pb2.GetSMTPConfigByIdResponse:
        """Answers with a sender name of as many letters as the id says; the id "0" is unknown; "x" is a mistake."""
        self.calls.append(call)
        if request.id == "0":
            detail = admin_pb2.GetSMTPConfigByIdRequest(id="detail")
            raise RpcError(Code.NOT_FOUND, "nicht gefunden: 100 % ü", (detail,))
        response = admin_pb2.GetSMTPConfigByIdResponse()
        response.smtp_config.sender_name = "n" * int(request.id)
        return response


def registry(service: Service) -> Registry:
    """Return a registry that serves `service`."""
    result = Registry(guard)
    result.add(admin_pb2.DESCRIPTOR.services_by_name["AdminService"], service, prefix="/admin/v1")
    return result
