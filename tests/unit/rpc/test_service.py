"""The registry: names, order of the checks, errors, deadlines."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from google.protobuf.descriptor import MethodDescriptor

from mailward.proto.zitadel import admin_pb2, settings_pb2
from mailward.rpc.service import Call, Code, Registry, RpcError, parse_timeout, snake_case

ADMIN = admin_pb2.DESCRIPTOR.services_by_name["AdminService"]
PATH = "/zitadel.admin.v1.AdminService/"


class Admin:
    async def get_smtp_config(self, request: Any, call: Call) -> Any:
        return admin_pb2.GetSMTPConfigResponse(smtp_config=settings_pb2.SMTPConfig(id=str(call.caller)))

    async def list_smtp_configs(self, request: Any, call: Call) -> Any:
        await asyncio.Event().wait()

    async def remove_smtp_config(self, request: Any, call: Call) -> Any:
        raise TimeoutError("of a peer")


async def guard(method: MethodDescriptor, call: Call) -> str:
    if call.metadata.get("authorization") == "no":
        raise RpcError(Code.UNAUTHENTICATED, "auth header missing")
    return "caller of " + method.name


async def outcome(name: str, request: Any, *, timeout_s: float | None = None, **metadata: str) -> Any:
    registry = Registry(guard)
    registry.add(ADMIN, Admin(), prefix="/admin/v1")
    method = registry.method(PATH + name)
    assert method is not None
    try:
        return await registry.call(
            method, request, Call(method=method.path, metadata=metadata, protocol="grpc"), timeout_s=timeout_s
        )
    except RpcError as error:
        return error.code, error.message


async def test_a_handler_knows_who_the_guard_let_in() -> None:
    response = await outcome("GetSMTPConfig", admin_pb2.GetSMTPConfigRequest())

    assert response.smtp_config.id == "caller of GetSMTPConfig"


async def test_the_guard_comes_before_validation_and_validation_before_unimplemented() -> None:
    empty, full = admin_pb2.ActivateSMTPConfigRequest(), admin_pb2.ActivateSMTPConfigRequest(id="5")

    assert (await outcome("ActivateSMTPConfig", empty, authorization="no"))[0] == Code.UNAUTHENTICATED
    assert (await outcome("ActivateSMTPConfig", empty))[0] == Code.INVALID_ARGUMENT
    assert await outcome("ActivateSMTPConfig", full) == (
        Code.UNIMPLEMENTED,
        "method ActivateSMTPConfig not implemented",
    )


async def test_the_callers_deadline_is_told_from_a_timeout_within() -> None:
    slow = await outcome("ListSMTPConfigs", admin_pb2.ListSMTPConfigsRequest(), timeout_s=0)
    failed = await outcome("RemoveSMTPConfig", admin_pb2.RemoveSMTPConfigRequest(id="5"), timeout_s=60)

    assert slow == (Code.DEADLINE_EXCEEDED, "context deadline exceeded")
    assert failed == (Code.INTERNAL, "internal error")


def test_what_is_not_there_is_named() -> None:
    registry = Registry(guard)
    registry.add(ADMIN, Admin())

    assert registry.method(PATH + "Explode") is None
    assert registry.unknown(PATH + "Explode").message == (
        "unknown method Explode for service zitadel.admin.v1.AdminService"
    )
    assert registry.unknown("/no.such.Service/Get").message == "unknown service no.such.Service"


@pytest.mark.parametrize(
    ("name", "python"),
    [
        ("AddSMTPConfig", "add_smtp_config"),
        ("ListSMTPConfigs", "list_smtp_configs"),
        ("GetSMTPConfigById", "get_smtp_config_by_id"),
        ("TestEmailProviderSMTPById", "test_email_provider_smtp_by_id"),
        ("ListIAMMemberRoles", "list_iam_member_roles"),
        ("Healthz", "healthz"),
    ],
)
def test_methods_are_spelled_the_python_way(name: str, python: str) -> None:
    assert snake_case(name) == python


@pytest.mark.parametrize(("text", "seconds"), [("10S", 10), ("2H", 7200), ("1500m", 1.5), ("3M", 180), ("5u", 5e-6)])
def test_a_grpc_timeout_is_a_number_and_a_unit(text: str, seconds: float) -> None:
    assert parse_timeout(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["soon", "", "S", "1", "1s", "-1S", "123456789S", "١S"])
def test_what_is_no_timeout_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="invalid grpc-timeout"):
        parse_timeout(text)
