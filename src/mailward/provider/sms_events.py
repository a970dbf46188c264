"""What happened to the SMS providers of an instance: wire names and payload keys (spec 3.9)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mailward.ids import ProviderId
from mailward.provider.events import Sealed


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
_NAMES: Mapping[type[Event], str] = {cls: name for name, cls in TYPES.items()}

#: Field here -> key in the payload, in the order of the keys.
_KEYS: Mapping[str, str] = {
    "description": "description",
    "endpoint": "endpoint",
    "id": "id",
    "sender_number": "senderNumber",
    "sid": "sid",
    "signing_key": "signingKey",
    "token": "token",
    "verify_service_sid": "verifyServiceSid",
}
_SECRETS = frozenset({"token", "signing_key"})
_PARTIAL = (TwilioChanged, SMSHTTPChanged)


def type_of(event: Event) -> str:
    """Return the wire name, e.g. "instance.sms.configtwilio.added"."""
    return _NAMES[type(event)]


def to_payload(event: Event) -> dict[str, Any]:
    """Return the JSON-able payload, keys sorted; of a `changed` event only what changed, "" included."""
    partial = isinstance(event, _PARTIAL)
    fields = type(event).__dataclass_fields__
    payload: dict[str, Any] = {}
    for field, key in _KEYS.items():
        value = getattr(event, field) if field in fields else None
        if value is None or (not partial and not value):
            continue
        payload[key] = _crypto_value(value) if field in _SECRETS else value
    return payload


def from_payload(type: str, payload: Mapping[str, Any]) -> Event | None:
    """Return the event that was stored as `type` and `payload`, or None when it is none of the SMS providers'.

    Raises ValueError when the payload does not fit its type.
    """
    cls = TYPES.get(type)
    if cls is None:
        return None
    values = {
        field: payload[key]["Crypted"] if field in _SECRETS else payload[key]
        for field, key in _KEYS.items()
        if field in cls.__dataclass_fields__ and key in payload
    }
    try:
        return cls(**values)
    except TypeError as error:
        raise ValueError(f"an event {type!r} lacks a field: {error}") from None


def _crypto_value(sealed: Sealed) -> dict[str, Any]:
    """Return the form in which ZITADEL shows an encrypted value; the labels are what its clients compare (spec 3.8)."""
    return {"Algorithm": "aes", "Crypted": sealed, "CryptoType": 0, "KeyID": "smsKey"}
