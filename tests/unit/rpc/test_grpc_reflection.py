"""Reflection as a stream: frames in, frames out, and how it ends."""

import pytest

from mailward.proto.grpc.reflection.v1.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse
from mailward.rpc.grpc_reflection import PATH, Reflection
from mailward.rpc.http import Headers, Request

LIST = ServerReflectionRequest(list_services="*")


def conversation(*headers: tuple[str, str]) -> Reflection:
    request = Request("POST", PATH.encode(), PATH, "", Headers.of(headers), http_version="2")
    return Reflection(request, ["mailward.v1.MessageService"])


def frame(request: ServerReflectionRequest) -> bytes:
    message = request.SerializeToString()
    return b"\0" + len(message).to_bytes(4, "big") + message


def answers(data: bytes) -> list[ServerReflectionResponse]:
    found = []
    while data:
        end = 5 + int.from_bytes(data[1:5], "big")
        found.append(ServerReflectionResponse.FromString(data[5:end]))
        data = data[end:]
    return found


def names(response: ServerReflectionResponse) -> list[str]:
    return [service.name for service in response.list_services_response.service]


def test_each_request_is_answered_as_it_comes_however_it_is_cut() -> None:
    stream = conversation()
    data = frame(LIST) * 2
    said = [stream.receive(data[at : at + 1]) for at in range(len(data))]

    responses = answers(b"".join(part for part, _ in said))

    assert [names(one) for one in responses] == [
        ["grpc.reflection.v1.ServerReflection", "mailward.v1.MessageService"]
    ] * 2
    assert {end for _, end in said} == {None}
    assert stream.receive(None) == (b"", [("grpc-status", "0")])


def test_a_symbol_is_answered_with_its_file_and_all_that_it_imports() -> None:
    said, _ = conversation().receive(frame(ServerReflectionRequest(file_containing_symbol="mailward.v1.Message")))

    [response] = answers(said)
    assert len(response.file_descriptor_response.file_descriptor_proto) > 3


def test_what_is_not_known_is_an_error_in_the_answer_and_the_stream_goes_on() -> None:
    stream = conversation()

    said, end = stream.receive(frame(ServerReflectionRequest(file_by_filename="no/such.proto")) + frame(LIST))

    unknown, listed = answers(said)
    assert (unknown.error_response.error_code, end) == (5, None)
    assert names(listed)


@pytest.mark.parametrize(
    ("data", "status"),
    [(b"\0\0\0\0\2\xff\xff", "13"), (b"\0\x7f\0\0\0", "8"), (b"\1\0\0\0\0", "13"), (b"\7\0\0\0\0", "13")],
    ids=["no message", "too large", "compressed without saying how", "unknown flags"],
)
def test_a_broken_frame_ends_the_call_after_what_was_answered(data: bytes, status: str) -> None:
    said, end = conversation().receive(frame(LIST) + data)

    assert len(answers(said)) == 1
    assert end is not None
    assert end[0] == ("grpc-status", status)


def test_an_end_in_the_middle_of_a_frame_is_an_error() -> None:
    stream = conversation()
    stream.receive(frame(LIST)[:4])

    _, end = stream.receive(None)

    assert end is not None
    assert end[0] == ("grpc-status", "13")
