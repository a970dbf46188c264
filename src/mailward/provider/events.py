"""What happened to the email providers of an instance: wire names and payload keys (spec 3.9)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mailward.ids import ProviderId
from mailward.provider import options as opt
from mailward.provider.options import Options
from mailward.provider.payloads import Codec, Form, Sealed, sealed_form

AGGREGATE_TYPE = "instance"


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
    password: Sealed | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderConfigured:
    """What is set for an SMTP provider beyond the wire is now this, all of it."""

    id: ProviderId
    options: Options
    secrets: Mapping[str, Sealed] = field(default_factory=dict)  #: by the names in `options`


@dataclass(frozen=True, slots=True)
class RefreshTokenRotated:
    """The authorisation server replaced the refresh token of an SMTP provider."""

    id: ProviderId
    refresh_token: Sealed


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
    | RefreshTokenRotated
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
    "mailward.provider.refresh_token.rotated": RefreshTokenRotated,
}

_SEALED = sealed_form("smtpKey")
CODEC: Codec[Event] = Codec(
    types=TYPES,
    keys={
        "description": "description",
        "endpoint": "endpoint",
        "host": "host",
        "id": "id",
        "ids": "ids",
        "options": "options",
        "password": "password",
        "per_day": "perDay",
        "per_minute": "perMinute",
        "per_second": "perSecond",
        "refresh_token": "refreshToken",
        "reply_to": "replyToAddress",
        "secrets": "secrets",
        "sender_address": "senderAddress",
        "sender_name": "senderName",
        "signing_key": "signingKey",
        "tls": "tls",
        "uncertain_retries": "uncertainRetries",
        "user": "user",
    },
    partial=(SMTPConfigChanged, HTTPConfigChanged, LimitsSet),
    forms={
        "ids": Form(list, tuple),
        "options": Form(opt.to_plain, opt.from_plain),
        "password": _SEALED,
        "refresh_token": _SEALED,
        "secrets": Form(
            lambda secrets: {name: _SEALED.write(sealed) for name, sealed in sorted(secrets.items())},
            lambda stored: {name: _SEALED.read(value) for name, value in stored.items()},
        ),
        "signing_key": _SEALED,
    },
)
type_of, to_payload, from_payload = CODEC.type_of, CODEC.to_payload, CODEC.from_payload


def shown_payload(type: str, payload: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the events API shows of a stored payload.

    It is the stored one, but for `password.changed`: there the original has no id (its defect, departure 1), and its
    clients compare the keys.
    """
    hidden = "id" if TYPES.get(type) is SMTPPasswordChanged else ""
    return {key: value for key, value in payload.items() if key != hidden}
