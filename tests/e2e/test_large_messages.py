"""Mail of up to 25 MiB passes every door, and larger mail is refused in the words of each."""

import json
import smtplib
import socketserver
import threading
import time
from base64 import b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

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


class _Swallower(socketserver.ThreadingTCPServer):
    """A provider that takes every mail and keeps none: aiosmtpd needs a second for 10 MiB."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Swallow)
        self.taken = 0


class _Swallow(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        self.request.sendall(b"220 sink.test\r\n")
        while line := self.request.recv(1 << 16):
            if line.startswith(b"MAIL"):
                self.request.sendall(b"250 ok\r\n" * (line.count(b"\n") - 1) + b"354 go on\r\n")
                end = b""
                while not end.endswith(b"\r\n.\r\n"):
                    end = end[-5:] + self.request.recv(1 << 20)
                assert isinstance(self.server, _Swallower)
                self.server.taken += 1
            self.request.sendall(b"250-sink.test\r\n250 PIPELINING\r\n" if line.startswith(b"EHLO") else b"250 ok\r\n")


def _rss_bytes(program: Program) -> int:
    """Return what the gateway and its store process have in memory."""
    status = [Path(f"/proc/{pid}/status").read_text() for pid in (program.process.pid, program.store_pid)]
    return sum(int(line.split()[1]) << 10 for text in status for line in text.splitlines() if line.startswith("VmRSS"))


def _by_smtp(program: Program) -> None:
    """As `smtp`, without the second that smtplib needs to double dots."""
    client = smtplib.SMTP("127.0.0.1", program.smtp_port, timeout=120)
    client.login("app", program.owner)
    for command in ("MAIL FROM:<noreply@example.com>", "RCPT TO:<ada@example.org>", "DATA"):
        client.docmd(command)
    assert client.sock is not None
    client.sock.sendall(RAW + b".\r\n")
    assert client.getreply()[0] == 250
    client.close()


def _by_http(program: Program, body: bytes) -> None:
    connection = HTTPConnection("127.0.0.1", program.http_port, timeout=120)
    headers = {"authorization": f"Bearer {program.owner}", "content-type": "application/json"}
    connection.request("POST", "/v1/messages", body, headers)
    answer = connection.getresponse()
    assert (answer.status, answer.read()[:6]) == (202, b'{"id":')
    connection.close()


def _by_grpc(program: Program, request: bytes) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{program.http_port}", [("grpc.use_local_subchannel_pool", 1)]) as channel:
        call = channel.unary_unary(
            "/mailward.v1.MessageService/SendMessage", lambda octets: octets, lambda octets: octets
        )
        call(request, metadata=(("authorization", f"Bearer {program.owner}"),), timeout=120)


RAW = b"From: noreply@example.com\r\nSubject: Large\r\n\r\n" + (b"x" * 76 + b"\r\n") * (24 * MIB // 78)
FILE = bytes(range(256)) * (FITS // 256)
ENVELOPE = {"from": "noreply@example.com", "to": ["ada@example.org"]}


def _ways() -> list[Callable[[Program], None]]:
    """Mail of 24 MiB at every door, as it is or as an attachment."""
    attached = messages_pb2.Attachment(name="a.bin", content=FILE)
    requests: list[dict[str, Any]] = [
        {"raw": b64encode(RAW).decode(), "envelope": ENVELOPE},
        MAIL | {"attachments": [{"name": "a.bin", "content": b64encode(FILE).decode()}]},
    ]
    return [
        _by_smtp,
        *[partial(_by_http, body=json.dumps(request).encode()) for request in requests],
        *[
            partial(_by_grpc, request=messages_pb2.SendMessageRequest(**request).SerializeToString())
            for request in (requests[0] | {"raw": RAW}, MAIL | {"attachments": [attached]})
        ],
    ]


def _most_above_idle(program: Program, sink: _Swallower, ways: list[Callable[[Program], None]]) -> int:
    """Send a mail each of these `ways` at once; return how much more memory than before was in use, at most."""
    idle = most = _rss_bytes(program)
    sink.taken = 0
    with ThreadPoolExecutor(len(ways)) as pool:
        calls = [pool.submit(way, program) for way in ways]
        deadline = time.monotonic() + 120
        while sink.taken < len(ways) and time.monotonic() < deadline:
            most = max(most, _rss_bytes(program))
            time.sleep(0.01)
    for call in calls:
        call.result()
    return most - idle


def test_a_mail_of_25_mib_takes_little_memory_and_ten_at_once_little_more(program: Program) -> None:
    """At no door: what came in pieces is nowhere as a whole, and of what must be, there is one at a time."""
    ways = _ways()
    with _Swallower() as sink:
        threading.Thread(target=sink.serve_forever, daemon=True).start()
        host, port = sink.server_address[:2]
        program.add_relay(f"{host!s}:{port}")
        assert http(program, 1) == (202, "")

        for way in ways:
            assert _most_above_idle(program, sink, [way]) < 60 * MIB
        assert _most_above_idle(program, sink, 2 * ways) < 200 * MIB

        sink.shutdown()
