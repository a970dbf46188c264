"""What ZITADEL's Terraform provider does on the wire, resource by resource, as it was seen there.

The provider itself is in no package registry. This makes its calls, in its order and with its headers, over gRPC.
"""

import json
import re
import ssl
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import grpc
from google.protobuf import json_format
from google.protobuf.message_factory import GetMessageClass

from mailward.proto.zitadel import admin_pb2
from tests.support.golden.assertions import ServiceKey

_METHODS = admin_pb2.DESCRIPTOR.services_by_name["AdminService"].methods_by_name
_DEADLINE_S = 1198.0  #: what is left of terraform's twenty minutes after the provider's start
_SCOPE = "openid urn:zitadel:iam:org:project:id:zitadel:aud"

Values = Mapping[str, Any]


@dataclass(frozen=True)
class Resource:
    """The calls that one type of resource makes. "" or (): it makes none of that kind."""

    create: str
    read: str
    update: str
    delete: str = ""
    activate: str = ""
    within: tuple[str, ...] = ()  #: where the answer to `read` has the attributes, e.g. ("config", "smtp")
    secret: str = ""  #: an attribute that is only written; the state keeps its hash
    secret_call: str = ""  #: the call that a new secret takes besides `update`
    has_signing_key: bool = False


RESOURCES = {
    "zitadel_smtp_config": Resource(
        "AddSMTPConfig", "GetSMTPConfigById", "UpdateSMTPConfig", "RemoveSMTPConfig", "ActivateSMTPConfig",
        within=("smtp_config",), secret="password",
    ),
    "zitadel_email_provider_smtp": Resource(
        "AddEmailProviderSMTP", "GetEmailProviderById", "UpdateEmailProviderSMTP", "RemoveEmailProvider",
        "ActivateEmailProvider", within=("config", "smtp"), secret="password",
    ),
    "zitadel_email_provider_http": Resource(
        "AddEmailProviderHTTP", "GetEmailProviderById", "UpdateEmailProviderHTTP", "RemoveEmailProvider",
        "ActivateEmailProvider", within=("config", "http"), has_signing_key=True,
    ),
    "zitadel_sms_provider_twilio": Resource(
        "AddSMSProviderTwilio", "GetSMSProvider", "UpdateSMSProviderTwilio", "RemoveSMSProvider",
        "ActivateSMSProvider", within=("config", "twilio"), secret="token", secret_call="UpdateSMSProviderTwilioToken",
    ),
    "zitadel_sms_provider_http": Resource(
        "AddSMSProviderHTTP", "GetSMSProvider", "UpdateSMSProviderHTTP", "RemoveSMSProvider",
        "ActivateSMSProvider", within=("config", "http"), has_signing_key=True,
    ),
    "zitadel_default_domain_policy": Resource(
        "UpdateDomainPolicy", "GetDomainPolicy", "UpdateDomainPolicy", within=("policy",),
    ),
    "zitadel_default_notification_policy": Resource(
        "UpdateNotificationPolicy", "GetNotificationPolicy", "UpdateNotificationPolicy", within=("policy",),
    ),
    "zitadel_instance_member": Resource(
        "AddIAMMember", "ListIAMMembers", "UpdateIAMMember", "RemoveIAMMember", within=("result",),
    ),
}  # fmt: skip


@dataclass
class State:
    """What terraform remembers of a resource between two runs."""

    type: str
    id: str
    attributes: dict[str, Any]  #: without the secret
    secret: str | None = None  #: None after an import: it cannot be read
    set_active: bool = False
    signing_key: str = ""

    @property
    def resource(self) -> Resource:
        return RESOURCES[self.type]


@dataclass
class Terraform:
    """The provider after it has signed in."""

    channel: grpc.Channel
    authorization: str  #: the header
    transport_headers: tuple[tuple[str, str], ...] = ()
    calls: list[str] = field(default_factory=list)  #: the methods called, in order

    def call(self, method: str, **fields: Any) -> Any:
        """Call `method` of the AdminService. Raises grpc.RpcError."""
        descriptor = _METHODS[method]
        request, answer = (GetMessageClass(one) for one in (descriptor.input_type, descriptor.output_type))
        stub = self.channel.unary_unary(
            f"/{descriptor.containing_service.full_name}/{method}",
            request_serializer=request.SerializeToString,
            response_deserializer=answer.FromString,
        )
        self.calls.append(method)
        headers = (("authorization", self.authorization), *self.transport_headers)
        return stub(json_format.ParseDict(fields, request()), metadata=headers, timeout=_DEADLINE_S)

    def create(self, type: str, wanted: Values) -> State:
        """terraform apply of a resource that is not in the state."""
        resource, (attributes, secret, set_active) = RESOURCES[type], _parts(type, wanted)
        try:
            answer = self.call(resource.create, **attributes, **secret)
        except grpc.RpcError as error:
            if resource.delete or error.code() is not grpc.StatusCode.FAILED_PRECONDITION:
                raise
            answer = None  # The policy is so already.
        id = getattr(answer, "id", "") or str(attributes.get("user_id", ""))
        made = State(type, id, attributes, secret.get(resource.secret), set_active)
        if resource.has_signing_key:
            made.signing_key = answer.signing_key
        if set_active:
            self.call(resource.activate, id=id)
        return made

    def read(self, state: State) -> bool:
        """Refresh `state` and return whether the resource is still there."""
        try:
            answer = self.call(state.resource.read, **_asked(state))
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                return False
            raise
        found = json_format.MessageToDict(answer, preserving_proto_field_name=True)
        seen: dict[str, Any] = {}
        for name in state.resource.within:
            if name not in found:
                return False  # A provider of the other kind has this id.
            found = found[name][0] if isinstance(found[name], list) else found[name]
            seen |= found
        state.attributes = {name: seen.get(name, type(value)()) for name, value in state.attributes.items()}
        state.signing_key = seen.get("signing_key", "")
        return True

    def plan(self, state: State, wanted: Values) -> set[str]:
        """terraform plan: refresh, and return what would be changed; {"create"} for a resource that is gone."""
        attributes, secret, set_active = _parts(state.type, wanted)
        if not self.read(state):
            return {"create"}
        changed = {name for name, value in attributes.items() if state.attributes[name] != value}
        changed |= {name for name, value in secret.items() if state.secret != value}
        return changed | ({"set_active"} if state.set_active != set_active else set())

    def apply(self, state: State, wanted: Values) -> None:
        """terraform apply of a resource that is in the state: plan, and change what differs."""
        changed = self.plan(state, wanted)
        resource, (attributes, secret, set_active) = state.resource, _parts(state.type, wanted)
        if changed - {"set_active"}:
            sent = dict(attributes) if resource.secret_call else {**attributes, **secret}
            if state.id and "user_id" not in sent:
                sent["id"] = state.id
            if state.signing_key:  # Each later update turns the key.
                sent["expiration_signing_key"] = "0s"
            answer = self.call(resource.update, **sent)
            state.signing_key = getattr(answer, "signing_key", "")
            if resource.secret_call and changed & set(secret):
                self.call(resource.secret_call, id=state.id, **secret)
        if "set_active" in changed and set_active:
            self.call(resource.activate, id=state.id)
        state.attributes, state.secret, state.set_active = attributes, secret.get(resource.secret), set_active

    def imported(self, type: str, id: str, like: Values) -> State:
        """terraform import; `like` names the attributes. Raises ValueError for an id that it refuses."""
        text, _, signing_key = id.partition(":")
        if not re.fullmatch(r"\d{18}", text):
            raise ValueError(id)
        state = State(type, text, dict(_parts(type, like)[0]), signing_key=signing_key)
        assert self.read(state)
        return state

    def destroy(self, state: State) -> None:
        """terraform destroy: refresh, then delete what is there."""
        if self.read(state) and state.resource.delete:
            named = {"user_id": state.id} if "user_id" in state.attributes else {"id": state.id}
            self.call(state.resource.delete, **named)


def _parts(type: str, wanted: Values) -> tuple[dict[str, Any], dict[str, Any], bool]:
    """Return (what is written and read, what is only written, whether it is to be the active one)."""
    own = {RESOURCES[type].secret, "set_active"}
    attributes = {name: value for name, value in wanted.items() if name not in own}
    secret = {name: value for name, value in wanted.items() if name == RESOURCES[type].secret}
    return attributes, secret, wanted.get("set_active", False)


def _asked(state: State) -> dict[str, Any]:
    if "user_id" in state.attributes:
        return {"queries": [{"user_id_query": {"user_id": state.id}}]}
    return {"id": state.id} if state.id else {}


def sign_in(base: str, key: ServiceKey, ca: Path) -> str:
    """Sign in with a key file as the provider does (jwt_profile_file), and return the value of `authorization`."""
    context = ssl.create_default_context(cafile=str(ca))
    discovered = _json(f"{base}/.well-known/openid-configuration", context)
    assert discovered["issuer"] == base, "issuer does not match"
    form = {
        "grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer",
        "scope": _SCOPE,
        "assertion": key.assertion("", {"aud": [base], "typ": None}),
    }
    answer = _json(discovered["token_endpoint"], context, urlencode(form).encode())
    assert answer["expires_in"] > 60
    return f"{answer['token_type']} {answer['access_token']}"


def _json(url: str, context: ssl.SSLContext, form: bytes | None = None) -> Any:
    with urllib.request.urlopen(url, form, timeout=60, context=context) as answer:
        return json.load(answer)
