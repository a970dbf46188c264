"""What a sender may ask beside the mail itself: a key, a lane, an end; at every door of the built program."""

import smtplib
import socket
import time
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import grpc
import pytest

from mailward.proto.mailward.v1 import messages_pb2
from tests.support.program import Program
from tests.support.sink import Sink
from tests.support.waiting import PATIENCE_S

MAIL = {"from": "Example <noreply@example.com>", "to": ["ada@example.org"], "subject": "Hello", "text": "It works.\n"}
KEY = {"Idempotency-Key": "order-17"}


def smtp(program: Program, token: str, *fields: str, text: str = "It works.") -> tuple[int, str]:
    """Send a mail with further header `fields`; return the answer to its content."""
    lines = ["From: noreply@example.com", "To: ada@example.org", "Subject: Hello", *fields, "", text, ""]
    with smtplib.SMTP("127.0.0.1", program.smtp_port, timeout=PATIENCE_S) as client:
        client.login("app", token)
        client.mail("noreply@example.com")
        client.rcpt("ada@example.org")
        code, words = client.data("\r\n".join(lines).encode())
        return code, words.decode()


def grpc_send(program: Program, token: str, key: str, **mail: object) -> str:
    """Send a mail over gRPC; return its id. Raises grpc.RpcError."""
    with grpc.insecure_channel(f"127.0.0.1:{program.http_port}") as channel:
        call = channel.unary_unary(
            "/mailward.v1.MessageService/SendMessage",
            request_serializer=messages_pb2.SendMessageRequest.SerializeToString,
            response_deserializer=messages_pb2.SendMessageResponse.FromString,
        )
        metadata = (("authorization", f"Bearer {token}"), ("idempotency-key", key))
        return str(call(messages_pb2.SendMessageRequest(**mail), metadata=metadata, timeout=PATIENCE_S).id)  # type: ignore[arg-type]


def test_equal_requests_under_a_key_make_one_mail_at_every_door(program_on: Program, sink: Sink) -> None:
    token = program_on.token("sender", "app")

    def send(n: int) -> tuple[int, str]:
        answer = program_on.request("POST", "/v1/messages", MAIL, headers=KEY, token=token)
        return answer.status, answer.json["id"]

    with ThreadPoolExecutor(20) as pool:
        by_http = pool.map(send, range(100))
        by_grpc = pool.map(lambda _: grpc_send(program_on, token, "order-17", **MAIL), range(100))
        by_smtp = pool.map(lambda n: smtp(program_on, token, "Idempotency-Key: order-18", f"Date: {n}"), range(100))
    [(status, id)] = set(by_http)
    [(code, _)] = set(by_smtp)

    assert (status, code) == (202, 250)
    assert set(by_grpc) == {id}
    program_on.add_relay(sink.address)
    mails = sink.wait(2)
    assert not any(b"idempotency" in mail.content.lower() for mail in mails)
    assert len(program_on.request("GET", "/v1/messages", token=token).json["messages"]) == 2


def test_something_else_under_a_key_is_refused_at_every_door(program_on: Program) -> None:
    token = program_on.token("sender", "app")
    program_on.request("POST", "/v1/messages", MAIL, headers=KEY, token=token)

    answer = program_on.request("POST", "/v1/messages", MAIL | {"text": "Other"}, headers=KEY, token=token)
    other_user = program_on.request("POST", "/v1/messages", MAIL | {"text": "Other"}, headers=KEY)
    with pytest.raises(grpc.RpcError) as refused:
        grpc_send(program_on, token, "order-17", **(MAIL | {"text": "Other"}))
    code, text = smtp(program_on, token, "Idempotency-Key: order-17")

    assert (answer.status, answer.json["code"]) == (409, "idempotency_conflict")
    assert other_user.status == 202
    assert refused.value.code() is grpc.StatusCode.ALREADY_EXISTS
    assert (code, text[:5]) == (550, "5.7.1") and "idempotency key" in text


def test_a_bad_key_is_refused(program_on: Program) -> None:
    answer = program_on.request("POST", "/v1/messages", MAIL, headers={"Idempotency-Key": "x" * 257})

    assert (answer.status, answer.json["code"]) == (400, "invalid_argument")


def test_lane_tags_and_end_are_understood_and_do_not_travel(program_on: Program, sink: Sink) -> None:
    token = program_on.token("sender", "app")
    program_on.add_relay(sink.address)

    code, words = smtp(program_on, token, "X-Mailward-Lane: otp", "X-Mailward-Tag: login", "X-Mailward-TTL: 300")
    wrong = smtp(program_on, token, "X-Mailward-Lane: urgent")

    assert (code, wrong[0], "otp, transactional, bulk" in wrong[1]) == (250, 550, True)
    shown = program_on.wait_for_state(words.rsplit(" ", 1)[-1], "accepted")
    created, expires = (datetime.fromisoformat(shown[name]) for name in ("created_at", "expires_at"))
    assert (shown["lane"], shown["tags"], expires - created) == ("otp", ["login"], timedelta(seconds=300))
    assert b"x-mailward" not in sink.wait()[0].content.lower()


def test_a_message_past_its_end_is_never_tried_and_says_expired(program_on: Program, sink: Sink) -> None:
    past = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()

    program_on.add_relay(sink.address)
    id = program_on.request("POST", "/v1/messages", MAIL | {"expires_at": past}).json["id"]

    assert "attempts" not in program_on.wait_for_state(id, "expired")
    assert sink.mails.empty()
    both = program_on.request("POST", "/v1/messages", MAIL | {"ttl": 1, "expires_at": past})
    assert both.status == 400


BULK_MAILS, SENDERS, CODES = 10_000, 10, 50
CONNECTIONS = 20  #: to the provider, by default


def _send_bulk(program: Program, token: str, count: int) -> None:
    """Send `count` bulk mails on one connection, commands of each pipelined."""
    content = b"From: noreply@example.com\r\nX-Mailward-Lane: bulk\r\nSubject: News\r\n\r\nNews.\r\n.\r\n"
    with (
        socket.create_connection(("127.0.0.1", program.smtp_port), timeout=PATIENCE_S) as client,
        client.makefile("rb") as file,
    ):

        def expect(code: bytes, replies: int = 1) -> None:
            while replies:
                line = file.readline()
                assert line.startswith((code, b"250", b"354")), line
                replies -= line[3:4] == b" "

        expect(b"220")
        client.sendall(b"EHLO app\r\n")
        expect(b"250")
        login = b64encode(f"\0app\0{token}".encode())
        client.sendall(b"AUTH PLAIN " + login + b"\r\n")
        expect(b"235")
        for _ in range(count):
            client.sendall(b"MAIL FROM:<noreply@example.com>\r\nRCPT TO:<ada@example.org>\r\nDATA\r\n")
            expect(b"354", 3)
            client.sendall(content)
            expect(b"250")


def test_a_code_overtakes_ten_thousand_bulk_mails_in_under_a_second(program: Program, sink: Sink) -> None:
    """The provider takes a tenth of a second for each mail, so that the bulk mail would keep a code for minutes.

    It is a second of the provider, in which it takes ten mails on each connection: those of a busy machine are longer.
    """
    sink.delay_s = 0.1
    program.add_relay(sink.address)
    token = program.token("sender", "app")
    with ThreadPoolExecutor(SENDERS) as pool:
        list(pool.map(lambda _: _send_bulk(program, token, BULK_MAILS // SENDERS), range(SENDERS)))

    ahead = []
    for n in range(CODES):
        sent = time.monotonic()
        mail = MAIL | {"to": [f"code{n}@example.org"], "lane": "otp"}
        assert program.request("POST", "/v1/messages", mail, token=token).status == 202
        ahead.append(0)
        while (arrived := sink.wait()[0]).recipients != (f"code{n}@example.org",):
            ahead[-1] += arrived.at_s > sent

    queued = program.request("GET", "/v1/messages?state=queued&page_size=1").json["messages"]
    assert queued, "the bulk mail must still be waiting"
    assert max(ahead) < 10 * CONNECTIONS
