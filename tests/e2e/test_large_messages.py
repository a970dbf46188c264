"""Mail of up to 25 MiB passes every door, and larger mail is refused in the words of each."""

import smtplib
from base64 import b64encode

import grpc
import pytest

from mailward.proto.mailward.v1 import messages_pb2
from tests.support.program import Program
from tests.support.sink import Sink

MIB = 1 << 20
FITS, TOO_LARGE = 18 * MIB, 19 * MIB  # base64 makes 24.7 and 26 MiB of them
MAIL = {"from": "noreply@example.com", "to": ["ada@example.org"], "subject": "Large", "text": "See the file."}


def http(program: Program, size: int) -> tuple[int, str]:
    attachment = {"name": "a.bin", "content": b64encode(bytes(size)).decode()}
    answer = program.request("POST", "/v1/messages", MAIL | {"attachments": [attachment]})
    return answer.status, answer.json.get("code", "")


def grpc_send(program: Program, size: int) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{program.http_port}") as channel:
        call = channel.unary_unary(
            "/mailward.v1.MessageService/SendMessage",
            request_serializer=messages_pb2.SendMessageRequest.SerializeToString,
            response_deserializer=messages_pb2.SendMessageResponse.FromString,
        )
        attachment = messages_pb2.Attachment(name="a.bin", content=bytes(size))
        request = messages_pb2.SendMessageRequest(**MAIL, attachments=[attachment])  # type: ignore[arg-type]
        call(request, metadata=(("authorization", f"Bearer {program.owner}"),), timeout=60)


def smtp(program: Program, size: int, *, announced: bool) -> int:
    line = b"x" * 76 + b"\r\n"
    content = b"From: noreply@example.com\r\nSubject: Large\r\n\r\n" + line * (size // len(line))
    with smtplib.SMTP("127.0.0.1", program.smtp_port, timeout=60) as client:
        client.login("app", program.owner)
        code, _ = client.mail("noreply@example.com", [f"SIZE={len(content)}"] if announced else [])
        if code != 250:
            return code
        client.rcpt("ada@example.org")
        return client.data(content)[0]


def test_mail_of_25_mib_passes_every_door_and_arrives(program_on: Program, sink: Sink) -> None:
    program_on.add_relay(sink.address)

    assert http(program_on, FITS) == (202, "")
    grpc_send(program_on, FITS)
    assert smtp(program_on, 24 * MIB, announced=True) == 250

    assert all(len(mail.content) > 23 * MIB for mail in sink.wait(3, timeout_s=60))


def test_larger_mail_is_refused_in_the_words_of_each_door(program: Program) -> None:
    assert http(program, TOO_LARGE) == (413, "message_too_large")
    assert http(program, 60 * MIB) == (413, "message_too_large")
    with pytest.raises(grpc.RpcError) as refused:
        grpc_send(program, TOO_LARGE)
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert smtp(program, 26 * MIB, announced=True) == 552
    assert smtp(program, 26 * MIB, announced=False) == 552
    assert program.request("GET", "/v1/messages").json == {}
