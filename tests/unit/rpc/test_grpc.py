"""gRPC and gRPC-Web calls, by handing requests to their adapters."""

import asyncio
import base64
import gzip
import struct
from typing import Any
from urllib.parse import unquote

import pytest

from mailward.proto.google.rpc.status_pb2 import Status
from mailward.proto.zitadel import admin_pb2
from mailward.rpc import grpc, web
from mailward.rpc.grpc import Grpc
from mailward.rpc.http import Headers, Request, Response
from mailward.rpc.web import GrpcWeb, from_text
from tests.support.http import ADD, GET, SERVICE, Service, registry


def frame(message: bytes, flags: int = 0) -> bytes:
    return struct.pack(">BI", flags, len(message)) + message


def call(
    path: str, body: bytes, *, content_type: str = "application/grpc", too_large: int = 0, **fields: str
) -> Request:
    headers = {"content-type": content_type, "authorization": "Bearer t"}
    headers |= {name.replace("_", "-"): value for name, value in fields.items()}
    pairs = [(name, value) for name, value in headers.items() if value]
    return Request(
        "POST", path.encode(), path, "", Headers.of(pairs), body, "192.0.2.7:1", http_version="2", too_large=too_large
    )


def get(id: str) -> bytes:
    return admin_pb2.GetSMTPConfigByIdRequest(id=id).SerializeToString()


async def grpc_call(request: Request, service: Service | None = None) -> Response:
    return await Grpc(registry(service or Service()))(request)


async def web_call(request: Request) -> Response:
    return await GrpcWeb(registry(Service()))(request)


def field(fields: list[tuple[str, str]] | None, name: str) -> str | None:
    return dict(fields or []).get(name)


def status_of(response: Response) -> tuple[int, str]:
    """Return code and text, wherever they are."""
    fields = response.headers if response.trailers is None else response.trailers
    return int(field(fields, "grpc-status") or -1), unquote(field(fields, "grpc-message") or "")


def frames_of(body: bytes) -> list[tuple[int, bytes]]:
    frames = []
    while body:
        flags, size = struct.unpack(">BI", body[:5])
        frames.append((flags, body[5 : 5 + size]))
        body = body[5 + size :]
    return frames


async def test_an_answer_is_a_frame_and_its_status_is_in_the_trailers() -> None:
    service = Service()

    response = await grpc_call(call(GET, frame(get("3")), x_zitadel_orgid="1"), service)

    flags, message = frames_of(response.body)[0]
    assert flags == 0
    assert admin_pb2.GetSMTPConfigByIdResponse.FromString(message).smtp_config.sender_name == "nnn"
    assert (response.status, response.trailers) == (200, [("grpc-status", "0")])
    assert field(response.headers, "content-type") == "application/grpc"
    assert field(response.headers, "cache-control") == "no-store" and field(response.headers, "pragma") == "no-cache"
    seen = service.calls[0]
    assert (seen.method, seen.protocol, seen.peer, seen.caller) == (GET, "grpc", "192.0.2.7:1", "Bearer t")
    assert seen.metadata["x-zitadel-orgid"] == "1"


async def test_an_error_of_a_method_carries_text_and_details_in_the_trailers() -> None:
    response = await grpc_call(call(GET, frame(get("0"))))

    assert response.body == b"" and response.trailers is not None
    assert status_of(response) == (5, "nicht gefunden: 100 % ü")
    assert field(response.trailers, "grpc-message") == "nicht gefunden: 100 %25 %C3%BC"
    details = field(response.trailers, "grpc-status-details-bin") or ""
    assert not details.endswith("=")
    status = Status.FromString(base64.b64decode(details + "=" * (-len(details) % 4)))
    detail = admin_pb2.GetSMTPConfigByIdRequest()
    assert (status.code, status.message) == (5, "nicht gefunden: 100 % ü")
    assert status.details[0].Unpack(detail) and detail.id == "detail"


async def test_errors_of_guard_and_validation_are_the_methods() -> None:
    unknown = await grpc_call(call(GET, frame(get("1")), authorization=""))
    invalid = await grpc_call(call(GET, frame(b"")))

    assert status_of(unknown) == (16, "auth header missing") and unknown.trailers is not None
    assert status_of(invalid) == (
        3,
        "invalid GetSMTPConfigByIdRequest.Id: value length must be between 1 and 100 runes, inclusive",
    )


EARLY: list[tuple[str, bytes, dict[str, Any], int, str]] = [
    (f"/{SERVICE}/Explode", frame(b""), {}, 12, f"unknown method Explode for service {SERVICE}"),
    ("/no.such.Service/Get", frame(b""), {}, 12, "unknown service no.such.Service"),
    (ADD, b"", {}, 2, "EOF"),
    (ADD, b"\0\0\0", {}, 2, "EOF"),
    (ADD, b"\0\0\0\0\x0a\x01\x02", {}, 2, "unexpected EOF"),
    (ADD, b"\x01\0\0\0\x01\0", {}, 13, "grpc: compressed flag set with identity or empty encoding"),
    (ADD, b"\x02\0\0\0\x01\0", {}, 13, "grpc: received unexpected payload format 2"),
    (
        ADD,
        frame(b"x", 1),
        {"grpc_encoding": "snappy"},
        12,
        'grpc: Decompressor is not installed for grpc-encoding "snappy"',
    ),
    (
        ADD,
        frame(bytes.fromhex("0aff")),
        {},
        13,
        "grpc: error unmarshalling request: proto:\u00a0cannot parse invalid wire-format data",
    ),
    (
        ADD,
        frame(bytes.fromhex("0a02c328")),
        {},
        13,
        "grpc: error unmarshalling request: string field contains invalid UTF-8",
    ),
    (ADD, frame(b"x" * 5_242_924), {}, 8, "grpc: received message larger than max (5242924 vs. 4194304)"),
    (ADD, b"", {"too_large": 5_242_929}, 8, "grpc: received message larger than max (5242924 vs. 4194304)"),
    (
        ADD,
        frame(gzip.compress(b"\0" * 5_000_000), 1),
        {"grpc_encoding": "gzip"},
        8,
        "grpc: received message after decompression larger than max 4194304",
    ),
    (ADD, frame(b""), {"grpc_timeout": "soon"}, 13, "malformed grpc-timeout: soon"),
]


@pytest.mark.parametrize(("path", "body", "fields", "code", "text"), EARLY)
async def test_a_call_that_reaches_no_method_has_its_status_in_the_head(
    path: str, body: bytes, fields: dict[str, Any], code: int, text: str
) -> None:
    """The token plays no part in it."""
    for token in ("Bearer t", ""):
        service = Service()
        response = await grpc_call(call(path, body, authorization=token, **fields), service)

        assert (status_of(response), response.trailers, response.body) == ((code, text), None, b"")
        assert field(response.headers, "cache-control") is None and service.calls == []


@pytest.mark.parametrize("broken", [gzip.compress(b"abc", mtime=0)[:-3], b"no gzip"])
async def test_a_message_that_cannot_be_unpacked_is_refused(broken: bytes) -> None:
    response = await grpc_call(call(ADD, frame(broken, 1), grpc_encoding="gzip"))

    code, text = status_of(response)
    assert code == 13 and text.startswith("grpc: failed to decompress the received message: ")


async def test_a_packed_question_gets_a_packed_answer() -> None:
    response = await grpc_call(call(GET, frame(gzip.compress(get("1000")), 1), grpc_encoding="gzip"))

    flags, message = frames_of(response.body)[0]
    assert flags == 1 and field(response.headers, "grpc-encoding") == "gzip"
    answer = admin_pb2.GetSMTPConfigByIdResponse.FromString(gzip.decompress(message))
    assert len(answer.smtp_config.sender_name) == 1000


async def test_what_follows_the_first_frame_is_ignored() -> None:
    response = await grpc_call(call(GET, frame(get("1")) + b"more"))

    assert status_of(response) == (0, "")


async def test_messages_may_be_json() -> None:
    response = await grpc_call(call(GET, frame(b'{"id":"2"}'), content_type="application/grpc+json"))
    broken = await grpc_call(call(GET, frame(b'{"id":'), content_type="application/grpc+json"))

    assert frames_of(response.body)[0][1] == b'{"smtpConfig": {"senderName": "nn"}}'
    assert field(response.headers, "content-type") == "application/grpc+json"
    assert status_of(broken)[0] == 13


async def test_a_deadline_that_passes_cancels_the_method() -> None:
    service = Service()
    service.gate = asyncio.Event()
    request = admin_pb2.AddSMTPConfigRequest(sender_address="a@b.c", sender_name="A", host="h:25")

    response = await grpc_call(call(ADD, frame(request.SerializeToString()), grpc_timeout="1m"), service)

    assert status_of(response) == (4, "context deadline exceeded")
    assert (service.cancelled, service.waiting) == (1, 0)


async def test_a_mistake_of_ours_tells_nothing() -> None:
    response = await grpc_call(call(GET, frame(get("x"))))

    assert status_of(response)[0] == 13 and "invalid literal" not in status_of(response)[1]


@pytest.mark.parametrize(
    ("method", "version", "content_type", "expected"),
    [
        ("POST", "2", "application/grpc", True),
        ("POST", "2", "application/grpc+proto; charset=utf-8", True),
        ("POST", "2", "application/grpc+thrift", False),
        ("POST", "2", "application/grpc-web", False),
        ("POST", "1.1", "application/grpc", False),
        ("PUT", "2", "application/grpc", False),
    ],
)
def test_what_is_grpc(method: str, version: str, content_type: str, expected: bool) -> None:
    request = Request(method, b"", "/", "", Headers.of([("content-type", content_type)]), http_version=version)

    assert grpc.serves(request) is expected


@pytest.mark.parametrize(
    "content_type",
    [
        "application/grpc-web",
        "application/grpc-web+proto",
        "application/grpc-web-text",
        "application/grpc-web-text+proto",
    ],
)
async def test_grpc_web_answers_in_the_kind_it_was_asked_in(content_type: str) -> None:
    text = "text" in content_type
    body = frame(get("3"))
    request = call(GET, base64.b64encode(body) if text else body, content_type=content_type)

    response = await web_call(request)

    assert web.serves(request)
    assert (response.status, field(response.headers, "content-type"), response.trailers) == (200, content_type, None)
    frames = frames_of(from_text(response.body) if text else response.body)
    assert [flags for flags, _ in frames] == [0, 0x80]
    assert admin_pb2.GetSMTPConfigByIdResponse.FromString(frames[0][1]).smtp_config.sender_name == "nnn"
    assert frames[1][1] == b"grpc-status: 0\r\n"


async def test_an_error_of_a_method_is_a_frame_of_trailers_on_the_web() -> None:
    response = await web_call(call(GET, frame(get("0")), content_type="application/grpc-web+proto"))

    frames = frames_of(response.body)
    assert (response.status, [flags for flags, _ in frames]) == (200, [0x80])
    lines = frames[0][1].decode().split("\r\n")
    assert lines[0] == "grpc-status: 5" and lines[1] == "grpc-message: nicht gefunden: 100 %25 %C3%BC"
    assert lines[2].startswith("grpc-status-details-bin: ") and lines[3:] == [""]


@pytest.mark.parametrize(("path", "body", "fields", "code", "text"), EARLY)
@pytest.mark.parametrize("kind", ["application/grpc-web+proto", "application/grpc-web-text"])
async def test_a_call_that_reaches_no_method_has_no_frame_on_the_web(
    path: str, body: bytes, fields: dict[str, Any], code: int, text: str, kind: str
) -> None:
    encoded = base64.b64encode(body) if "text" in kind else body
    if "text" in kind and "too_large" in fields:
        fields = {"too_large": (fields["too_large"] + 2) // 3 * 4}

    response = await web_call(call(path, encoded, content_type=kind, **fields))

    assert (response.status, response.body) == (200, b"")
    answer_code, answer_text = status_of(response)
    assert answer_code == code
    assert answer_text == text or "larger than max" in text


async def test_a_packed_question_gets_a_packed_answer_on_the_web() -> None:
    response = await web_call(
        call(GET, frame(gzip.compress(get("5")), 1), content_type="application/grpc-web", grpc_encoding="gzip")
    )

    assert [flags for flags, _ in frames_of(response.body)] == [1, 0x80]


async def test_text_may_come_in_padded_pieces_and_must_be_base64() -> None:
    pieces = b"".join(base64.b64encode(piece) for piece in (frame(get("3"))[:4], frame(get("3"))[4:]))
    broken = await web_call(call(GET, b"!!!", content_type="application/grpc-web-text"))

    assert b"=" in pieces[:-2] and from_text(pieces) == frame(get("3"))
    assert status_of(broken)[0] == 2
