"""Any message of its type, whole or damaged, to every method over gRPC: no status blames the server."""

from collections import Counter

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mailward.proto.mailward.v1 import messages_pb2, providers_pb2, queue_pb2, routing_pb2
from mailward.proto.zitadel import admin_pb2
from tests.support.messages import messages
from tests.support.program import Program
from tests.support.waiting import PATIENCE_S

#: Tests of providers connect to any host they are told; of the message texts, none is served.
METHODS: list[MethodDescriptor] = [
    method
    for file in (admin_pb2, messages_pb2, providers_pb2, queue_pb2, routing_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
    if not method.name.startswith("Test") and "MessageText" not in method.name
]
THE_SERVERS = {grpc.StatusCode[name] for name in ("UNKNOWN", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED")}
UNREADABLE = "grpc: error unmarshalling request: "


def fuzz(channel: grpc.Channel, method: MethodDescriptor, token: str) -> Counter[grpc.StatusCode]:
    """Call `method` with ten messages and return how that ended. Raises AssertionError for a fault of the server."""
    path = f"/{method.containing_service.full_name}/{method.name}"
    stub = channel.unary_unary(path, request_serializer=bytes, response_deserializer=bytes)
    whole = messages(GetMessageClass(method.input_type)).map(lambda message: message.SerializeToString())
    seen: Counter[grpc.StatusCode] = Counter()

    @settings(max_examples=10, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(data=whole, at=st.integers(0, 20), instead=st.none() | st.binary(max_size=3))
    def ask(data: bytes, at: int, instead: bytes | None) -> None:
        sent = data if instead is None else data[:at] + instead + data[at + 1 :]
        try:
            stub(sent, metadata=[("authorization", f"Bearer {token}")], timeout=PATIENCE_S)
            seen[grpc.StatusCode.OK] += 1
        except grpc.RpcError as error:
            seen[error.code()] += 1
            fault = error.code() in THE_SERVERS and not error.details().startswith(UNREADABLE)
            assert not fault, (path, sent, error.code(), error.details())

    ask()
    return seen


def test_no_message_however_odd_or_damaged_is_a_server_error(program: Program) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{program.http_port}") as channel:
        seen = sum((fuzz(channel, method, program.owner) for method in METHODS), Counter[grpc.StatusCode]())

    assert {grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.INTERNAL} <= set(seen)
    assert b"Traceback" not in program.log.read_bytes()
