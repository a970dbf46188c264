"""The OpenAPI document of both services."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from google.protobuf.descriptor import MethodDescriptor
from openapi_spec_validator import OpenAPIV31SpecValidator

from mailward.proto.comments import COMMENTS
from mailward.proto.mailward.v1 import messages_pb2
from mailward.proto.zitadel import admin_pb2
from mailward.rpc import openapi
from mailward.rpc.service import PROBLEM, Call, Registry


class Admin:
    async def add_smtp_config(self, request: Any, call: Call) -> Any: ...


async def guard(method: MethodDescriptor, call: Call) -> None: ...


@pytest.fixture(scope="module")
def document() -> Any:
    registry = Registry(guard)
    registry.add(admin_pb2.DESCRIPTOR.services_by_name["AdminService"], Admin(), prefix="/admin/v1")
    registry.add(messages_pb2.DESCRIPTOR.services_by_name["MessageService"], object(), style=PROBLEM)
    built = openapi.document(registry, title="Mailward", version="1", comments=COMMENTS)
    return orjson.loads(orjson.dumps(built))


def test_the_document_is_valid_openapi(document: Any) -> None:
    assert list(OpenAPIV31SpecValidator(document).iter_errors()) == []


def test_every_bound_method_is_there_and_those_not_served_are_marked(document: Any) -> None:
    operations = [operation for path in document["paths"].values() for operation in path.values()]

    assert len({operation["operationId"] for operation in operations}) == len(operations) == 104 + 1 + 3
    served = [operation["operationId"] for operation in operations if "x-not-implemented" not in operation]
    assert served == ["AddSMTPConfig"]


def test_limits_names_and_comments_come_from_the_proto_files(document: Any) -> None:
    operation = document["paths"]["/admin/v1/smtp"]["post"]

    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    assert schema["required"] == ["senderAddress", "senderName", "host"]
    assert schema["properties"]["host"] == {
        "type": "string",
        "minLength": 1,
        "maxLength": 500,
        "description": '"host:port".',
    }
    assert "additionalProperties" not in schema
    assert "Permission: `iam.write`." in operation["description"]


def test_what_the_path_says_is_not_in_the_body(document: Any) -> None:
    operation = document["paths"]["/admin/v1/smtp/{id}"]["put"]

    assert [parameter["name"] for parameter in operation["parameters"]] == ["id"]
    assert "id" not in operation["requestBody"]["content"]["application/json"]["schema"]["properties"]


def test_our_own_service_has_snake_case_query_parameters_and_problems(document: Any) -> None:
    listing = document["paths"]["/v1/messages"]["get"]
    send = document["paths"]["/v1/messages"]["post"]

    assert [parameter["name"] for parameter in listing["parameters"]] == [
        "state",
        "recipient",
        "tag",
        "created_after",
        "created_before",
        "page_size",
        "page_token",
    ]
    assert "application/problem+json" in listing["responses"]["default"]["content"]
    schema = send["requestBody"]["content"]["application/json"]["schema"]
    assert schema["additionalProperties"] is False
    assert schema["properties"]["raw"]["contentEncoding"] == "base64"


def test_a_method_without_permission_needs_no_token(document: Any) -> None:
    assert document["paths"]["/admin/v1/healthz"]["get"]["security"] == []
