"""The official gRPC client against our port."""

import asyncio
import queue
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from mailward.proto.grpc.reflection.v1.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse
from mailward.proto.zitadel import admin_pb2
from mailward.rpc.grpc_reflection import PATH
from tests.e2e.rpc.conftest import Open
from tests.support.certificates import Certificates
from tests.support.http import ADD, GET, SERVICE, Service
from tests.support.waiting import PATIENCE_S, until

TOKEN = (("authorization", "Bearer t"),)


class Caller:
    """A channel, used from threads so that the server's loop stays free."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.channel = channel

    def start(self, path: str, message: bytes, **options: Any) -> Any:
        stub = self.channel.unary_unary(path, request_serializer=bytes, response_deserializer=bytes)
        return stub.future(
            message, metadata=options.pop("metadata", TOKEN), timeout=options.pop("timeout", PATIENCE_S), **options
        )

    async def call(self, path: str, message: bytes, **options: Any) -> tuple[grpc.StatusCode, str, bytes, Any]:
        """Return (code, text, answer, call)."""
        future = self.start(path, message, **options)
        await asyncio.to_thread(future.exception)
        code = future.code()
        return code, future.details(), future.result() if code is grpc.StatusCode.OK else b"", future


def get(id: str) -> bytes:
    return admin_pb2.GetSMTPConfigByIdRequest(id=id).SerializeToString()


def add() -> bytes:
    return admin_pb2.AddSMTPConfigRequest(sender_address="a@b.c", sender_name="A", host="h:25").SerializeToString()


def name_in(answer: bytes) -> str:
    return admin_pb2.GetSMTPConfigByIdResponse.FromString(answer).smtp_config.sender_name


@pytest.fixture(params=["h2c", "tls"])
async def caller(request: pytest.FixtureRequest, open_service: Open, certificates: Certificates) -> Any:
    service = Service()
    if request.param == "tls":
        _, port = await open_service(service, tls=certificates.server_context())
        credentials = grpc.ssl_channel_credentials(Path(certificates.ca).read_bytes())
        channel = grpc.secure_channel(f"localhost:{port}", credentials)
    else:
        _, port = await open_service(service)
        channel = grpc.insecure_channel(f"127.0.0.1:{port}")
    result = Caller(channel)
    result.service = service  # type: ignore[attr-defined]
    yield result
    await asyncio.to_thread(channel.close)


async def test_a_call_is_answered_with_its_metadata(caller: Caller) -> None:
    code, _, answer, call = await caller.call(GET, get("3"))

    assert (code, name_in(answer)) == (grpc.StatusCode.OK, "nnn")
    head = dict(call.initial_metadata())
    assert (head["cache-control"], head["x-robots-tag"]) == ("no-store", "none")


async def test_an_error_has_code_text_and_details(caller: Caller) -> None:
    code, text, _, call = await caller.call(GET, get("0"))

    assert (code, text) == (grpc.StatusCode.NOT_FOUND, "nicht gefunden: 100 % ü")
    assert b"detail" in dict(call.trailing_metadata())["grpc-status-details-bin"]


async def test_a_call_that_reaches_no_method_is_told_so(caller: Caller) -> None:
    code, text, _, _ = await caller.call(f"/{SERVICE}/Explode", b"")

    assert (code, text) == (grpc.StatusCode.UNIMPLEMENTED, f"unknown method Explode for service {SERVICE}")
    code, text, _, _ = await caller.call(ADD, b"\x0a\xff")
    assert (code, text) == (
        grpc.StatusCode.INTERNAL,
        "grpc: error unmarshalling request: proto:\u00a0cannot parse invalid wire-format data",
    )


async def test_three_megabytes_pass_and_five_do_not(caller: Caller) -> None:
    request = admin_pb2.AddSMTPConfigRequest(sender_address="a@b.c", sender_name="A", host="h:25")
    request.user = "u" * (3 << 20)
    code, _, _, _ = await caller.call(ADD, request.SerializeToString())
    assert code is grpc.StatusCode.OK

    request.user = "u" * (5 << 20)
    size = request.ByteSize()
    code, text, _, _ = await caller.call(ADD, request.SerializeToString())
    assert (code, text) == (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        f"grpc: received message larger than max ({size} vs. 4194304)",
    )
    code, _, _, _ = await caller.call(GET, get("1"))
    assert code is grpc.StatusCode.OK


async def test_compression_works_both_ways(caller: Caller) -> None:
    code, _, answer, call = await caller.call(GET, get("1000"), compression=grpc.Compression.Gzip)

    assert (code, len(name_in(answer))) == (grpc.StatusCode.OK, 1000)
    assert call is not None


async def test_a_deadline_and_a_cancelled_call_end_the_method(caller: Caller) -> None:
    service: Service = caller.service  # type: ignore[attr-defined]
    service.gate = asyncio.Event()

    for timeout_s in (0.2, 2.0, 20.0):  # The first may pass before the call has come.
        code, _, _, _ = await caller.call(ADD, add(), timeout=timeout_s)
        assert code is grpc.StatusCode.DEADLINE_EXCEEDED
        await until(lambda: service.waiting == 0)
        if service.cancelled:
            break
    future = caller.start(ADD, add())
    await until(lambda: service.waiting == 1)
    future.cancel()
    await until(lambda: service.waiting == 0)
    assert service.cancelled == 2
    code, _, _, _ = await caller.call(GET, get("1"))
    assert code is grpc.StatusCode.OK


async def test_six_megabytes_come_through_flow_control(open_service: Open) -> None:
    _, port = await open_service(Service())
    channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.max_receive_message_length", -1)])
    caller = Caller(channel)

    answers = await asyncio.gather(*(caller.call(GET, get("6000000")) for _ in range(10)))

    assert [len(name_in(answer)) for _, _, answer, _ in answers] == [6_000_000] * 10
    await asyncio.to_thread(channel.close)


async def test_calls_given_up_by_the_hundred_harm_nobody(open_service: Open) -> None:
    service = Service()
    service.gate = asyncio.Event()
    port, number = await open_service(service)
    channel = grpc.insecure_channel(f"127.0.0.1:{number}")
    caller = Caller(channel)

    for _ in range(15):
        futures = [caller.start(ADD, add()) for _ in range(100)]
        await until(lambda: service.waiting > 0)
        for future in futures:
            future.cancel()
        await until(lambda: service.waiting == 0)

    code, _, _, _ = await caller.call(GET, get("1"))
    assert code is grpc.StatusCode.OK
    await until(lambda: not port._serving.tasks)
    await asyncio.to_thread(channel.close)


async def test_a_hundred_connections_get_every_answer(open_service: Open) -> None:
    port, number = await open_service(Service())
    options = [("grpc.use_local_subchannel_pool", 1)]
    callers = [Caller(grpc.insecure_channel(f"127.0.0.1:{number}", options=options)) for _ in range(100)]

    async def calls(caller: Caller) -> list[Any]:
        return [(await caller.call(GET, get(str(size))))[2] for size in range(1, 21)]

    answers = await asyncio.gather(*map(calls, callers))

    assert all([len(name_in(a)) for a in per] == list(range(1, 21)) for per in answers)
    assert port.connections == 100
    for caller in callers:
        await asyncio.to_thread(caller.channel.close)
    await until(lambda: port.connections == 0)


async def test_calls_in_flight_finish_when_the_port_stops(open_service: Open) -> None:
    service = Service()
    service.gate = asyncio.Event()
    port, number = await open_service(service)
    channel = grpc.insecure_channel(f"127.0.0.1:{number}")
    caller = Caller(channel)
    futures = [caller.start(ADD, add()) for _ in range(50)]
    await until(lambda: service.waiting == 50)

    stopping = asyncio.ensure_future(port.stop(PATIENCE_S))
    await asyncio.sleep(0)
    service.gate.set()

    assert await stopping is True
    for future in futures:
        await asyncio.to_thread(future.exception)
        assert future.code() is grpc.StatusCode.OK
    assert port.connections == 0
    code, _, _, _ = await caller.call(GET, get("1"))
    assert code is grpc.StatusCode.UNAVAILABLE
    await asyncio.to_thread(channel.close)


async def test_reflection_answers_each_request_while_the_call_goes_on(caller: Caller) -> None:
    """A client that waits for an answer before it asks on, as grpcurl does."""

    def ask() -> tuple[list[list[str]], grpc.StatusCode]:
        answers: queue.Queue[bytes] = queue.Queue()

        def requests() -> Iterator[bytes]:
            yield ServerReflectionRequest(list_services="").SerializeToString()
            first = ServerReflectionResponse.FromString(answers.get(timeout=PATIENCE_S))
            name = first.list_services_response.service[-1].name
            yield ServerReflectionRequest(file_containing_symbol=name).SerializeToString()

        stub = caller.channel.stream_stream(PATH, request_serializer=bytes, response_deserializer=bytes)
        call = stub(requests(), timeout=PATIENCE_S)
        seen = []
        for answer in call:
            answers.put(answer)
            seen.append([field.name for field, _ in ServerReflectionResponse.FromString(answer).ListFields()])
        return seen, call.code()

    seen, code = await asyncio.to_thread(ask)

    assert [fields[-1] for fields in seen] == ["list_services_response", "file_descriptor_response"]
    assert code is grpc.StatusCode.OK


async def test_a_client_that_leaves_reflection_in_the_middle_harms_nobody(caller: Caller) -> None:
    def leave() -> None:
        gone = threading.Event()

        def requests() -> Iterator[bytes]:
            yield ServerReflectionRequest(list_services="").SerializeToString()
            gone.wait(PATIENCE_S)

        stub = caller.channel.stream_stream(PATH, request_serializer=bytes, response_deserializer=bytes)
        call = stub(requests(), timeout=PATIENCE_S)
        next(call)
        call.cancel()
        gone.set()

    await asyncio.to_thread(leave)

    code, *_ = await caller.call(GET, get("3"))
    assert code is grpc.StatusCode.OK
