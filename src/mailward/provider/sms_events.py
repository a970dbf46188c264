"""What happened to the SMS providers of an instance: wire names and payload keys (spec 3.9)."""

from collections.abc import Mapping
from dataclasses import dataclass

from mailward.ids import ProviderId
from mailward.provider.payloads import Codec, Sealed, sealed_form


@dataclass(frozen=True, slots=True, kw_only=True)
class TwilioAdded:
    """A new Twilio account, inactive."""

    id: ProviderId
    description: str = ""
    sid: str
    token: Sealed
    sender_number: str = ""
    verify_service_sid: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TwilioChanged:
    """What changed of a Twilio account; None: that field stayed. An empty text means: cleared."""

    id: ProviderId
    description: str | None = None
    sid: str | None = None
    sender_number: str | None = None
    verify_service_sid: str | None = None


@dataclass(frozen=True, slots=True)
class TwilioTokenChanged:
    """The token of a Twilio account was replaced."""

    id: ProviderId
    token: Sealed


@dataclass(frozen=True, slots=True, kw_only=True)
class SMSHTTPAdded:
    """A new HTTP endpoint for SMS, inactive."""

    id: ProviderId
    description: str = ""
    endpoint: str
    signing_key: Sealed


@dataclass(frozen=True, slots=True, kw_only=True)
class SMSHTTPChanged:
    """What changed of an HTTP endpoint; None: that field stayed."""

    id: ProviderId
    description: str | None = None
    endpoint: str | None = None
    signing_key: Sealed | None = None


@dataclass(frozen=True, slots=True)
class SMSActivated:
    """This SMS provider is now the active one, and thereby no other is."""

    id: ProviderId


@dataclass(frozen=True, slots=True)
class SMSDeactivated:
    """This SMS provider is no longer the active one."""

    id: ProviderId


@dataclass(frozen=True, slots=True)
class SMSRemoved:
    """This SMS provider is gone, active or not."""

    id: ProviderId


Event = (
    TwilioAdded
    | TwilioChanged
    | TwilioTokenChanged
    | SMSHTTPAdded
    | SMSHTTPChanged
    | SMSActivated
    | SMSDeactivated
    | SMSRemoved
)

#: A name is forever. There is no dot before "twilio", "http" and the verbs: so ZITADEL has them.
TYPES: Mapping[str, type[Event]] = {
    "instance.sms.configtwilio.added": TwilioAdded,
    "instance.sms.configtwilio.changed": TwilioChanged,
    "instance.sms.configtwilio.token.changed": TwilioTokenChanged,
    "instance.sms.confighttp.added": SMSHTTPAdded,
    "instance.sms.confighttp.changed": SMSHTTPChanged,
    "instance.sms.configactivated": SMSActivated,
    "instance.sms.configdeactivated": SMSDeactivated,
    "instance.sms.configremoved": SMSRemoved,
}

_SEALED = sealed_form("smsKey")
CODEC: Codec[Event] = Codec(
    types=TYPES,
    keys={
        "description": "description",
        "endpoint": "endpoint",
        "id": "id",
        "sender_number": "senderNumber",
        "sid": "sid",
        "signing_key": "signingKey",
        "token": "token",
        "verify_service_sid": "verifyServiceSid",
    },
    partial=(TwilioChanged, SMSHTTPChanged),
    forms={"signing_key": _SEALED, "token": _SEALED},
)
type_of, to_payload, from_payload = CODEC.type_of, CODEC.to_payload, CODEC.from_payload
