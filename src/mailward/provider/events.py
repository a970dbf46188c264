"""What happened to the email providers of an instance: wire names and payload keys (spec 3.9), and upcasting."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NewType

from mailward.ids import ProviderId
from mailward.provider import options as opt
from mailward.provider.options import Options

AGGREGATE_TYPE = "instance"

Sealed = NewType("Sealed", str)
"""A secret as stored: base64 of what `secretbox` sealed. Says nothing to whoever lacks the master key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SMTPConfigAdded:
    """A new SMTP provider, inactive."""

    id: ProviderId
    description: str = ""
    sender_address: str
    sender_name: str
    reply_to: str = ""
    tls: bool = False
    host: str  #: "host:port"
    user: str = ""
    password: Sealed | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SMTPConfigChanged:
    """What changed of an SMTP provider; None: that field stayed. An empty text means: cleared."""

    id: ProviderId
    description: str | None = None
    sender_address: str | None = None
    sender_name: str | None = None
    reply_to: str | None = None
    tls: bool | None = None
    host: str | None = None
    user: str | None = None
    password: Sealed | None = None


@dataclass(frozen=True, slots=True)
class SMTPPasswordChanged:
    """The password of an SMTP provider was replaced, or erased (None)."""

    id: ProviderId
    password: Sealed | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderConfigured:
    """What is set for an SMTP provider beyond the wire is now this, all of it."""

    id: ProviderId
    options: Options
    secrets: Mapping[str, Sealed] = field(default_factory=dict)  #: by the names in `options`


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPConfigAdded:
    """A new HTTP provider, inactive."""

    id: ProviderId
    description: str = ""
    endpoint: str
    signing_key: Sealed


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPConfigChanged:
    """What changed of an HTTP provider; None: that field stayed."""

    id: ProviderId
    description: str | None = None
    endpoint: str | None = None
    signing_key: Sealed | None = None


@dataclass(frozen=True, slots=True)
class ProviderActivated:
    """This provider is now the active one, and thereby no other is."""

    id: ProviderId


@dataclass(frozen=True, slots=True)
class ProviderDeactivated:
    """This provider is no longer the active one."""

    id: ProviderId


@dataclass(frozen=True, slots=True)
class ProviderRemoved:
    """This provider is gone, active or not."""

    id: ProviderId


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsSet:
    """What a provider may get was set, all of it; a field that is left out has no limit, or the default."""

    id: ProviderId
    per_second: int = 0
    per_minute: int = 0
    per_day: int = 0
    uncertain_retries: int | None = None


@dataclass(frozen=True, slots=True)
class FailoverSet:
    """Which providers take over when the active one cannot, in order; no other does."""

    ids: tuple[ProviderId, ...] = ()


Event = (
    SMTPConfigAdded
    | SMTPConfigChanged
    | SMTPPasswordChanged
    | ProviderConfigured
    | HTTPConfigAdded
    | HTTPConfigChanged
    | ProviderActivated
    | ProviderDeactivated
    | ProviderRemoved
    | LimitsSet
    | FailoverSet
)

#: A name is forever: stored events are found by it, and clients filter by it.
TYPES: Mapping[str, type[Event]] = {
    "instance.smtp.config.added": SMTPConfigAdded,
    "instance.smtp.config.changed": SMTPConfigChanged,
    "instance.smtp.config.password.changed": SMTPPasswordChanged,
    "instance.smtp.config.http.added": HTTPConfigAdded,
    "instance.smtp.config.http.changed": HTTPConfigChanged,
    "instance.smtp.config.activated": ProviderActivated,
    "instance.smtp.config.deactivated": ProviderDeactivated,
    "instance.smtp.config.removed": ProviderRemoved,
    # Ours: no ZITADEL has them.
    "mailward.provider.limits.set": LimitsSet,
    "mailward.provider.failover.set": FailoverSet,
    "mailward.provider.configured": ProviderConfigured,
}
_NAMES: Mapping[type[Event], str] = {cls: name for name, cls in TYPES.items()}

#: Field here -> key in the payload, in the order of the keys.
_KEYS: Mapping[str, str] = {
    "description": "description",
    "endpoint": "endpoint",
    "host": "host",
    "id": "id",
    "ids": "ids",
    "password": "password",
    "per_day": "perDay",
    "per_minute": "perMinute",
    "per_second": "perSecond",
    "reply_to": "replyToAddress",
    "sender_address": "senderAddress",
    "sender_name": "senderName",
    "signing_key": "signingKey",
    "tls": "tls",
    "uncertain_retries": "uncertainRetries",
    "user": "user",
}
_SECRETS = frozenset({"password", "signing_key"})
_PARTIAL = (SMTPConfigChanged, HTTPConfigChanged, LimitsSet)


def type_of(event: Event) -> str:
    """Return the wire name, e.g. "instance.smtp.config.added"."""
    return _NAMES[type(event)]


def to_payload(event: Event) -> dict[str, Any]:
    """Return the JSON-able payload, keys sorted.

    Zero values are left out; of a `changed` event only what did not change: there "" and false are what it changed to.
    """
    payload: dict[str, Any]
    if isinstance(event, ProviderConfigured):
        secrets = {name: _crypto_value(sealed) for name, sealed in sorted(event.secrets.items())}
        payload = {"id": event.id, "options": opt.to_plain(event.options)}
        return payload | ({"secrets": secrets} if secrets else {})
    partial = isinstance(event, _PARTIAL)
    fields = type(event).__dataclass_fields__
    payload = {}
    for name, key in _KEYS.items():
        if name not in fields:
            continue
        value = getattr(event, name)
        if value is None or (not partial and not value):
            continue
        payload[key] = _crypto_value(value) if name in _SECRETS else list(value) if name == "ids" else value
    return payload


def from_payload(type: str, payload: Mapping[str, Any]) -> Event | None:
    """Return the event that was stored as `type` and `payload`, or None when it is none of the email providers'.

    Raises ValueError when the payload does not fit its type: then the log was written by something else.
    """
    cls = TYPES.get(type)
    if cls is None:
        return None
    payload = upcast(type, payload)
    if cls is ProviderConfigured:
        sealed = {name: _sealed_of(value) for name, value in payload.get("secrets", {}).items()}
        return ProviderConfigured(id=payload["id"], options=opt.from_plain(payload["options"]), secrets=sealed)
    names = cls.__dataclass_fields__
    values: dict[str, Any] = {
        name: _sealed_of(payload[key]) if name in _SECRETS else payload[key]
        for name, key in _KEYS.items()
        if name in names and key in payload
    }
    if "ids" in values:
        values["ids"] = tuple(values["ids"])
    if cls is SMTPPasswordChanged:
        values.setdefault("password", None)
    try:
        return cls(**values)
    except TypeError as error:
        raise ValueError(f"an event {type!r} lacks a field: {error}") from None


def upcast(type: str, payload: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return `payload` in its present shape. Payloads only grow, so nothing to do yet; a renamed key is mapped here."""
    return payload


def shown_payload(type: str, payload: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the events API shows of a stored payload.

    It is the stored one, but for `password.changed`: there the original has no id (its defect, departure 1), and its
    clients compare the keys.
    """
    hidden = "id" if type == _NAMES[SMTPPasswordChanged] else ""
    return {key: value for key, value in payload.items() if key != hidden}


def _crypto_value(sealed: Sealed) -> dict[str, Any]:
    """Return the form in which ZITADEL shows an encrypted value (spec 3.8).

    Algorithm and KeyID are labels that its clients compare; cipher and key id of ours are inside "Crypted".
    """
    return {"Algorithm": "aes", "Crypted": sealed, "CryptoType": 0, "KeyID": "smtpKey"}


def _sealed_of(value: Mapping[str, Any]) -> Sealed:
    return Sealed(str(value["Crypted"]))
