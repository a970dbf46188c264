"""What grpc.reflection.v1 answers: which services there are and how their messages look."""

from __future__ import annotations

from collections.abc import Iterable

from google.protobuf import descriptor_pool
from google.protobuf.descriptor import FileDescriptor

from mailward.proto.grpc.reflection.v1 import reflection_pb2 as pb
from mailward.rpc.service import Code

_POOL = descriptor_pool.Default()


def answer(request: pb.ServerReflectionRequest, services: Iterable[str]) -> pb.ServerReflectionResponse:
    """Return the response to one request of the stream. `services`: the full names that may be listed.

    What is not known is an error in the response, not of the call, as the protocol wants it.
    """
    response = pb.ServerReflectionResponse(valid_host=request.host, original_request=request)
    try:
        match request.WhichOneof("message_request"):
            case "list_services":
                response.list_services_response.SetInParent()
                for name in sorted(services):
                    response.list_services_response.service.add(name=name)
            case "file_by_filename":
                _add_files(response, _POOL.FindFileByName(request.file_by_filename))
            case "file_containing_symbol":
                _add_files(response, _file_of(request.file_containing_symbol))
            case "file_containing_extension":
                wanted = request.file_containing_extension
                extended = _POOL.FindMessageTypeByName(wanted.containing_type)
                extension = _POOL.FindExtensionByNumber(extended, wanted.extension_number)
                _add_files(response, _file_of(extension.full_name))
            case "all_extension_numbers_of_type":
                name = request.all_extension_numbers_of_type
                extensions = _POOL.FindAllExtensions(_POOL.FindMessageTypeByName(name))
                response.all_extension_numbers_response.base_type_name = name
                response.all_extension_numbers_response.extension_number.extend(sorted(e.number for e in extensions))
            case _:
                _fail(response, Code.INVALID_ARGUMENT, "the request asks for nothing")
    except KeyError:
        _fail(response, Code.NOT_FOUND, "not known here")
    return response


def _file_of(symbol: str) -> FileDescriptor:
    """Return the file in which `symbol` stands. Raises KeyError."""
    try:
        return _POOL.FindFileContainingSymbol(symbol)
    except KeyError:  # The pool does not find methods by name, but their service.
        return _POOL.FindFileContainingSymbol(symbol.rpartition(".")[0])


def _add_files(response: pb.ServerReflectionResponse, file: FileDescriptor) -> None:
    """Add `file`, first, and all that it imports."""
    found: dict[str, bytes] = {}
    todo = [file]
    while todo:
        one = todo.pop()
        if one.name not in found:
            found[one.name] = one.serialized_pb
            todo += one.dependencies
    response.file_descriptor_response.file_descriptor_proto.extend(found.values())


def _fail(response: pb.ServerReflectionResponse, code: Code, message: str) -> None:
    response.error_response.error_code = int(code)
    response.error_response.error_message = message
