"""ZITADEL's Terraform provider meets what it expects: every resource, both ways to sign in, clear text and TLS."""

import contextlib
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from tests.support.certificates import Certificates, make_certificates
from tests.support.golden.assertions import ServiceKey
from tests.support.program import Program
from tests.support.terraform import RESOURCES, State, Terraform, sign_in

#: Type → a configuration and what it is changed to, all that a text may hold among the values.
SMTP = {
    "sender_address": "noreply@example.com", "sender_name": "Größe 漢字 🚀", "tls": True, "host": "[::1]:25",
    "user": "relay", "reply_to_address": "", "password": "first", "set_active": False,
}  # fmt: skip
HTTP = {"endpoint": "https://hooks.example.com/mail?team=a&x=%20y#z", "description": "", "set_active": False}
CONFIGURATIONS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "zitadel_smtp_config": (
        SMTP,
        SMTP | {"sender_name": "Shop", "tls": False, "user": "", "reply_to_address": "help@example.com"},
    ),
    "zitadel_email_provider_smtp": (
        SMTP | {"description": "by Terraform"},
        SMTP | {"description": "", "host": "mail.example.com:587", "set_active": True},
    ),
    "zitadel_email_provider_http": (HTTP, HTTP | {"description": "müde", "set_active": True}),
    "zitadel_sms_provider_twilio": (
        {"sid": "AC1", "sender_number": "+41 44 0", "token": "first", "description": "", "set_active": False},
        {"sid": "AC2", "sender_number": "", "token": "first", "description": "two", "set_active": True},
    ),
    "zitadel_sms_provider_http": (HTTP, HTTP | {"endpoint": "http://127.0.0.1:1/", "set_active": True}),
    "zitadel_default_domain_policy": (
        {
            "user_login_must_be_domain": True,
            "validate_org_domains": True,
            "smtp_sender_address_matches_instance_domain": False,
        },
        {
            "user_login_must_be_domain": False,
            "validate_org_domains": False,
            "smtp_sender_address_matches_instance_domain": False,
        },
    ),
    "zitadel_default_notification_policy": ({"password_change": True}, {"password_change": False}),
    "zitadel_instance_member": (
        {"user_id": "", "roles": ["IAM_OWNER_VIEWER"]},
        {"user_id": "", "roles": ["IAM_OWNER", "IAM_OWNER_VIEWER"]},
    ),
}
OBJECTS = [type for type, resource in RESOURCES.items() if resource.delete]
PROVIDERS = [type for type, resource in RESOURCES.items() if resource.activate]


@pytest.fixture(scope="module", params=["insecure", "tls"])
def scheme(request: pytest.FixtureRequest) -> str:
    return {"insecure": "http", "tls": "https"}[str(request.param)]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def gateway(scheme: str, certificates: Certificates, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """A running gateway that speaks `scheme`."""
    tls = ["--tls-cert", str(certificates.server), "--tls-key", str(certificates.server)] if scheme == "https" else []
    with Program(tmp_path_factory.mktemp("terraform") / "data", *tls) as program:
        yield program


@pytest.fixture(scope="module")
def key(gateway: Program) -> ServiceKey:
    """A key file that `mailward key create` made, in the form that the provider can read."""
    file = gateway.cli("key", "create", "--role", "owner", "--name", "terraform").stdout
    assert "BEGIN RSA PRIVATE KEY" in file
    return ServiceKey(file)


@pytest.fixture(scope="module")
def user(gateway: Program) -> str:
    """The id of a user who is no member."""
    return ServiceKey(gateway.cli("key", "create", "--role", "sender", "--name", "somebody").stdout).user


@pytest.fixture(scope="module", params=["access_token", "jwt_profile"])
def terraform(
    request: pytest.FixtureRequest, scheme: str, gateway: Program, key: ServiceKey, certificates: Certificates
) -> Iterator[Terraform]:
    """The provider, signed in."""
    domain = f"localhost:{gateway.http_port}"
    if scheme == "https":
        channel = grpc.secure_channel(domain, grpc.ssl_channel_credentials(certificates.ca.read_bytes()))
    else:
        channel = grpc.insecure_channel(domain)
    authorization = f"Bearer {gateway.owner}"
    if request.param == "jwt_profile":
        authorization = sign_in(f"{scheme}://{domain}", key, certificates.ca)
    with contextlib.closing(channel):
        yield Terraform(channel, authorization, (("x-team", "mail"), ("x-trace", "1")))


def configurations(type: str, user: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a configuration of `type`, of `user` if it is about one, and what it is changed to."""
    first, changed = CONFIGURATIONS[type]
    about = {"user_id": user} if "user_id" in first else {}
    return first | about, changed | about


@pytest.mark.parametrize("type", RESOURCES)
def test_a_resource_is_applied_changed_imported_and_destroyed_and_plans_between_are_quiet(
    terraform: Terraform, user: str, type: str
) -> None:
    first, changed = configurations(type, user)

    state = terraform.create(type, first)
    assert terraform.plan(state, first) == set()

    terraform.apply(state, changed)
    assert terraform.plan(state, changed) == set()

    if state.resource.delete:
        imported = terraform.imported(type, state.id, changed)
        lost = {state.resource.secret} - {""} | ({"set_active"} if changed.get("set_active") else set())
        assert terraform.plan(imported, changed) == lost

    terraform.destroy(state)
    assert terraform.read(state) is (state.resource.delete == "")


@pytest.mark.parametrize("type", [type for type in RESOURCES if RESOURCES[type].secret])
def test_a_changed_password_alone_sends_the_whole_update(terraform: Terraform, type: str) -> None:
    first, _ = CONFIGURATIONS[type]
    state = terraform.create(type, first)
    rotated = first | {state.resource.secret: "second"}
    assert terraform.plan(state, rotated) == {state.resource.secret}

    terraform.calls.clear()
    terraform.apply(state, rotated)

    assert terraform.calls == [name for name in (
        state.resource.read, state.resource.update, state.resource.secret_call
    ) if name]  # fmt: skip
    assert terraform.plan(state, rotated) == set()
    terraform.destroy(state)


@pytest.mark.parametrize("type", [type for type in RESOURCES if RESOURCES[type].has_signing_key])
def test_each_update_of_an_http_provider_turns_its_key_and_the_state_follows(terraform: Terraform, type: str) -> None:
    first, changed = CONFIGURATIONS[type]
    state = terraform.create(type, first)
    made = state.signing_key
    assert terraform.read(state) and state.signing_key == made != ""

    terraform.apply(state, changed)

    turned = state.signing_key
    assert turned not in ("", made)
    assert terraform.imported(type, f"{state.id}:{turned}", changed).signing_key == turned
    terraform.destroy(state)


@pytest.mark.parametrize("type", PROVIDERS)
def test_activating_the_active_one_is_a_failed_precondition(terraform: Terraform, type: str) -> None:
    state = terraform.create(type, CONFIGURATIONS[type][0] | {"set_active": True})

    with pytest.raises(grpc.RpcError) as caught:
        terraform.call(state.resource.activate, id=state.id)

    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    terraform.destroy(state)


@pytest.mark.parametrize("type", OBJECTS)
def test_what_somebody_else_removed_is_planned_anew_and_destroyed_without_a_call(
    terraform: Terraform, user: str, type: str
) -> None:
    first, _ = configurations(type, user)
    state = terraform.create(type, first)
    terraform.destroy(State(**vars(state)))

    assert terraform.plan(state, first) == {"create"}
    terraform.calls.clear()
    terraform.destroy(state)
    assert terraform.calls == [state.resource.read]
    if state.resource.activate:
        with pytest.raises(grpc.RpcError) as caught:
            terraform.call(state.resource.delete, id=state.id)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_a_provider_of_the_other_kind_counts_as_gone(terraform: Terraform) -> None:
    smtp = terraform.create("zitadel_email_provider_smtp", SMTP)

    smtp.type = "zitadel_email_provider_http"

    assert terraform.read(smtp) is False
    smtp.type = "zitadel_email_provider_smtp"
    terraform.destroy(smtp)


def test_message_texts_are_told_to_be_unimplemented(terraform: Terraform) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        terraform.call("SetDefaultInitMessageText", language="en", title="Welcome")

    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
