"""The server under test: one way to call it per kind of step, each returning the answer as plain data."""

import base64
import gzip
import http.client
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlencode

import grpc
from google.protobuf import descriptor_pool, json_format, message_factory
from google.protobuf.message import Message

from mailward.proto.google.rpc import status_pb2
from mailward.proto.zitadel import admin_pb2, message_pb2  # noqa: F401  the pool must know the messages
from tests.support.golden.matchers import ABSENT

Step = Mapping[str, Any]
Answer = dict[str, Any]
_TIMEOUT_S = 60.0
_GARBAGE = "no-such-token"


@dataclass(frozen=True)
class Target:
    """A server on loopback, and the tokens of those who call: "owner", "viewer", "nobody", "expired"."""

    host: str
    port: int
    tokens: Mapping[str, str]
    channel: grpc.Channel

    @classmethod
    def at(cls, host: str, port: int, tokens: Mapping[str, str]) -> "Target":
        """Connect to a clear-text port."""
        unlimited = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        return cls(host, port, tokens, grpc.insecure_channel(f"{host}:{port}", unlimited))

    def close(self) -> None:
        self.channel.close()

    def call(self, step: Step) -> Answer:
        """Play one call of any kind."""
        if "grpc" in step:
            return self._grpc(step)
        if "grpcweb" in step:
            return self._grpc_web(step)
        return self._rest(step)

    def _authorization(self, step: Step) -> dict[str, str]:
        who = step.get("as", "none")
        if who == "none":
            return {}
        return {"authorization": f"Bearer {_GARBAGE if who == 'garbage' else self.tokens[who]}"}

    # -- REST --------------------------------------------------------------------------------------------------------

    def _exchange(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=_TIMEOUT_S)
        try:
            named_host = any(key.lower() == "host" for key in headers)
            connection.putrequest(method, path, skip_accept_encoding=True, skip_host=named_host)
            for key, value in headers.items():
                connection.putheader(key, value.encode())
            if body or method in ("POST", "PUT", "PATCH"):
                connection.putheader("content-length", str(len(body)))
            connection.endheaders(body or None)
            response = connection.getresponse()
            got = {key.lower(): ", ".join(response.headers.get_all(key) or []) for key in response.headers}
            return response.status, got, response.read()
        finally:
            connection.close()

    def _rest(self, step: Step) -> Answer:
        headers: dict[str, str | None] = dict(self._authorization(step))
        body = b""
        if "body" in step:
            body = json.dumps(step["body"], ensure_ascii=False).encode()
            headers["content-type"] = "application/json"
        elif "raw" in step:
            body = step["raw"].encode()
            headers["content-type"] = "application/json"
        elif "form" in step:
            body = urlencode(step["form"]).encode()
            headers["content-type"] = "application/x-www-form-urlencoded"
        if "basic" in step:
            headers["authorization"] = "Basic " + base64.b64encode(step["basic"].encode()).decode()
        if step.get("gzip"):
            body = gzip.compress(body)
        headers.update(step.get("headers", {}))
        sent = {key: value for key, value in headers.items() if value is not None}
        status, got, payload = self._exchange(step["method"], step["path"], sent, body)
        if got.get("content-encoding") == "gzip":
            payload = gzip.decompress(payload)
        text = payload.decode("utf-8", "replace")
        is_json = text and got.get("content-type", "").startswith("application/json")
        return {"status": status, "headers": got, "body": json.loads(text) if is_json else text or None}

    # -- gRPC --------------------------------------------------------------------------------------------------------

    def _grpc(self, step: Step) -> Answer:
        metadata = {**self._authorization(step), **step.get("metadata", {})}
        stub = self.channel.unary_unary(step["grpc"], request_serializer=bytes, response_deserializer=bytes)
        answer: Answer = {"code": "OK", "message": "", "details": [], "response": ABSENT}
        try:
            payload, call = stub.with_call(
                _request(step["grpc"], step),
                metadata=[(key.lower(), value) for key, value in metadata.items()],
                timeout=step.get("timeout", _TIMEOUT_S),
                compression=grpc.Compression.Gzip if step.get("gzip") else None,
            )
            answer["response"] = _plain(_message_class(step, "output")().FromString(payload))
        except grpc.RpcError as error:
            call = error
            trailers = dict(error.trailing_metadata() or ())
            answer |= {"code": error.code().name, "message": error.details()}
            answer["details"] = _details(trailers.get("grpc-status-details-bin", b""))
        answer["headers"] = {key: value for key, value in call.initial_metadata() or () if isinstance(value, str)}
        return answer

    # -- gRPC-Web ----------------------------------------------------------------------------------------------------

    def _grpc_web(self, step: Step) -> Answer:
        is_text = step.get("format") == "text"
        kind = "application/grpc-web-text+proto" if is_text else "application/grpc-web+proto"
        headers = {"content-type": kind, "accept": kind, "x-grpc-web": "1", **self._authorization(step)}
        message = _request(step["grpcweb"], step)
        if step.get("gzip"):
            message = gzip.compress(message)
            headers |= {"grpc-encoding": "gzip", "grpc-accept-encoding": "gzip"}
        body = struct.pack(">BI", 1 if step.get("gzip") else 0, len(message)) + message
        if "frame_hex" in step:
            body = bytes.fromhex(step["frame_hex"])
        headers |= step.get("headers", {})
        sent = base64.b64encode(body) if is_text else body
        status, got, payload = self._exchange("POST", step["grpcweb"], headers, sent)
        if is_text:  # The stream may consist of several padded pieces.
            payload = b"".join(base64.b64decode(payload[i : i + 4]) for i in range(0, len(payload), 4))
        if not got.get("content-type", "").startswith("application/grpc-web"):
            payload = b""
        return _web_answer(step, status, got, payload)


def _web_answer(step: Step, status: int, headers: dict[str, str], payload: bytes) -> Answer:
    frames: list[str] = []
    trailers: dict[str, str] = {}
    answer: Answer = {"status": status, "headers": headers, "frames": frames, "trailers": trailers}
    answer |= {"response": ABSENT, "details": []}
    while len(payload) >= 5:
        flag, size = struct.unpack(">BI", payload[:5])
        frame, payload = payload[5 : 5 + size], payload[5 + size :]
        frame = gzip.decompress(frame) if flag & 1 else frame
        if flag & 0x80:
            frames.append("trailers")
            pairs = (line.partition(":") for line in frame.decode().split("\r\n") if line)
            trailers |= {key.strip().lower(): value.strip() for key, _, value in pairs}
        else:
            frames.append("gzip data" if flag else "data")
            answer["response"] = _plain(_message_class(step, "output")().FromString(frame))
    ending = trailers or headers  # An answer without a body carries its status in the headers.
    if number := ending.get("grpc-status"):
        names = {str(code.value[0]): code.name for code in grpc.StatusCode}
        raw = ending.get("grpc-status-details-bin", "")
        answer |= {"code": names.get(number, number), "message": unquote(ending.get("grpc-message", ""))}
        answer["details"] = _details(base64.b64decode(raw + "=" * (-len(raw) % 4)))
    return answer


# -- messages -----------------------------------------------------------------------------------------------------


def _message_class(step: Step, side: str) -> type[Message]:
    """Return the request ("input") or response ("output") class of a step's method."""
    method = step.get("encode_as") or step.get("grpc") or step["grpcweb"]
    found = descriptor_pool.Default().FindMethodByName(method.removeprefix("/").replace("/", "."))
    return message_factory.GetMessageClass(found.input_type if side == "input" else found.output_type)


def _request(method: str, step: Step) -> bytes:
    if "request_hex" in step:
        return bytes.fromhex(step["request_hex"])
    if "frame_hex" in step:
        return b""
    return json_format.ParseDict(step.get("request", {}), _message_class(step, "input")()).SerializeToString()


def _plain(message: Message) -> Any:
    return json_format.MessageToDict(message)


def _details(status: bytes) -> list[Any]:
    """Return the details in a serialized google.rpc.Status; none for b""."""
    return [_plain(detail) for detail in status_pb2.Status.FromString(status).details]
