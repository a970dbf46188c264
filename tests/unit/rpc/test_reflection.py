"""Answers of the reflection service."""

from __future__ import annotations

from google.protobuf.descriptor_pb2 import FileDescriptorProto

from mailward.proto.grpc.reflection.v1 import reflection_pb2 as pb
from mailward.proto.zitadel import admin_pb2
from mailward.rpc.reflection import answer


def files(response: pb.ServerReflectionResponse) -> list[str]:
    protos = response.file_descriptor_response.file_descriptor_proto
    return [FileDescriptorProto.FromString(proto).name for proto in protos]


def test_services_are_listed_in_order() -> None:
    response = answer(pb.ServerReflectionRequest(list_services="*"), ["b.Two", "a.One"])

    assert [service.name for service in response.list_services_response.service] == ["a.One", "b.Two"]


def test_a_symbol_leads_to_its_file_first_and_all_that_it_imports() -> None:
    request = pb.ServerReflectionRequest(file_containing_symbol="zitadel.admin.v1.AdminService.AddSMTPConfig")

    found = files(answer(request, []))

    assert found[0] == admin_pb2.DESCRIPTOR.name == "zitadel/admin.proto"
    assert {"zitadel/object.proto", "google/api/http.proto", "validate/validate.proto"} <= set(found)
    assert len(set(found)) == len(found)


def test_a_file_is_found_by_its_name_and_an_extension_by_its_number() -> None:
    by_name = answer(pb.ServerReflectionRequest(file_by_filename="zitadel/options.proto"), [])
    extension = pb.ExtensionRequest(containing_type="google.protobuf.MethodOptions", extension_number=50000)
    by_extension = answer(pb.ServerReflectionRequest(file_containing_extension=extension), [])
    of_type = answer(pb.ServerReflectionRequest(all_extension_numbers_of_type="google.protobuf.MethodOptions"), [])

    assert files(by_name)[0] == files(by_extension)[0] == "zitadel/options.proto"
    assert 50000 in of_type.all_extension_numbers_response.extension_number


def test_what_is_not_known_is_an_error_in_the_response() -> None:
    unknown = answer(pb.ServerReflectionRequest(file_containing_symbol="no.such.Thing"), [])
    empty = answer(pb.ServerReflectionRequest(), [])

    assert (unknown.error_response.error_code, empty.error_response.error_code) == (5, 3)
