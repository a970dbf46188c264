"""Facts of the wire that generated code must not lose: numbers, order, rules, paths, permissions."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

from mailward.proto.google.api import annotations_pb2
from mailward.proto.mailward.v1 import messages_pb2
from mailward.proto.zitadel import admin_pb2, options_pb2, settings_pb2

ADMIN = admin_pb2.DESCRIPTOR.services_by_name["AdminService"]
MESSAGES = messages_pb2.DESCRIPTOR.services_by_name["MessageService"]


def numbers(name: str) -> dict[str, int]:
    return {field.name: field.number for field in admin_pb2.DESCRIPTOR.message_types_by_name[name].fields}


def test_add_and_update_number_reply_to_and_password_differently() -> None:
    add, update = numbers("AddSMTPConfigRequest"), numbers("UpdateSMTPConfigRequest")

    assert [add[name] for name in ("user", "password", "reply_to_address", "description")] == [5, 6, 7, 8]
    assert [update[name] for name in ("user", "reply_to_address", "password", "description", "id")] == [5, 6, 7, 8, 9]


@pytest.mark.parametrize(
    ("message", "first"),
    [("AddEmailProviderSMTPRequest", 9), ("UpdateEmailProviderSMTPRequest", 10), ("TestEmailProviderSMTPRequest", 9)],
)
def test_the_ways_to_authenticate_are_one_oneof(message: str, first: int) -> None:
    auth = admin_pb2.DESCRIPTOR.message_types_by_name[message].oneofs_by_name["Auth"]

    assert {field.name: field.number for field in auth.fields} == {
        "none": first,
        "plain": first + 1,
        "xoauth2": first + 2,
    }


def test_lists_of_sms_providers_and_generators_skip_number_two() -> None:
    assert numbers("ListSMSProvidersResponse") == numbers("ListSecretGeneratorsResponse") == {"details": 1, "result": 3}


def test_an_email_provider_shows_its_description_before_its_settings() -> None:
    fields = settings_pb2.DESCRIPTOR.message_types_by_name["EmailProvider"].fields

    assert [(field.name, field.number) for field in fields] == [
        ("details", 1),
        ("id", 2),
        ("state", 3),
        ("description", 6),
        ("smtp", 4),
        ("http", 5),
    ]


def test_every_method_has_a_path_and_all_but_the_health_check_a_permission() -> None:
    assert len(ADMIN.methods) == 104
    without = []
    for method in (*ADMIN.methods, *MESSAGES.methods):
        options = method.GetOptions()
        assert options.Extensions[annotations_pb2.http].WhichOneof("pattern")
        if not options.Extensions[options_pb2.auth_option].permission:
            without.append(method.name)
    assert without == ["Healthz"]


def test_the_eleven_smtp_calls_are_bound_as_clients_expect() -> None:
    bound = {}
    for method in ADMIN.methods:
        rule = method.GetOptions().Extensions[annotations_pb2.http]
        verb = str(rule.WhichOneof("pattern"))
        if getattr(rule, verb).startswith("/smtp"):
            permission = method.GetOptions().Extensions[options_pb2.auth_option].permission
            bound[method.name] = f"{verb} {getattr(rule, verb)} {rule.body or '-'} {permission}"

    assert bound == {
        "GetSMTPConfig": "get /smtp - iam.read",
        "GetSMTPConfigById": "get /smtp/{id} - iam.read",
        "ListSMTPConfigs": "post /smtp/_search * iam.read",
        "AddSMTPConfig": "post /smtp * iam.write",
        "UpdateSMTPConfig": "put /smtp/{id} * iam.write",
        "UpdateSMTPConfigPassword": "put /smtp/{id}/password * iam.write",
        "ActivateSMTPConfig": "post /smtp/{id}/_activate * iam.write",
        "DeactivateSMTPConfig": "post /smtp/{id}/_deactivate * iam.write",
        "RemoveSMTPConfig": "delete /smtp/{id} - iam.write",
        "TestSMTPConfigById": "post /smtp/{id}/_test * iam.write",
        "TestSMTPConfig": "post /smtp/_test * iam.write",
    }


@pytest.mark.parametrize("name", ["google.api.annotations", "google.api.http", "google.rpc.status"])
def test_googles_own_files_are_the_same_as_in_googleapis_common_protos(name: str) -> None:
    """Both may be loaded into one process, and a difference would be an error there."""
    ours = importlib.import_module(f"mailward.proto.{name}_pb2")
    theirs = importlib.import_module(f"{name}_pb2")

    assert ours.DESCRIPTOR.serialized_pb == theirs.DESCRIPTOR.serialized_pb


def test_generated_code_needs_neither_grpcio_nor_googleapis_common_protos() -> None:
    code = (
        "import sys; sys.modules['grpc'] = sys.modules['google.api'] = sys.modules['google.rpc'] = None;"
        "from mailward.proto.zitadel import admin_pb2; from mailward.proto.mailward.v1 import messages_pb2;"
        "from mailward.proto.google.rpc import status_pb2; from mailward.proto.grpc.health.v1 import health_pb2"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
