"""An instance's email providers as folded from their events."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar, assert_never

from mailward.ids import ProviderId
from mailward.provider.events import (
    Event,
    FailoverSet,
    HTTPConfigAdded,
    HTTPConfigChanged,
    LimitsSet,
    ProviderActivated,
    ProviderConfigured,
    ProviderDeactivated,
    ProviderRemoved,
    RefreshTokenRotated,
    SMTPConfigAdded,
    SMTPConfigChanged,
    SMTPPasswordChanged,
)
from mailward.provider.options import NOTHING_SET, REFRESH_TOKEN, Options
from mailward.provider.payloads import Sealed

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class SMTPConfig:
    """All of an SMTP provider but its secret."""

    sender_address: str  #: not checked to be an address
    sender_name: str
    host: str  #: "host:port"
    tls: bool = False
    user: str = ""
    reply_to: str = ""
    description: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPConfig:
    """All of an HTTP provider but its signing key. Neither field is trimmed or parsed."""

    endpoint: str
    description: str = ""


@dataclass(frozen=True, slots=True)
class SMTPProvider:
    """An SMTP provider as it stands."""

    config: SMTPConfig
    password: Sealed | None  #: None: mail goes without AUTH
    options: Options = NOTHING_SET
    secrets: Mapping[str, Sealed] = field(default_factory=dict)  #: beside the password, by the names in `options`


@dataclass(frozen=True, slots=True)
class HTTPProvider:
    """An HTTP provider as it stands."""

    config: HTTPConfig
    signing_key: Sealed


Provider = SMTPProvider | HTTPProvider


@dataclass(frozen=True, slots=True)
class EmailProviders:
    """The providers of an instance, or the slice of them that a command touches.

    That at most one is active is not a rule to keep but the shape of the state.
    """

    providers: Mapping[ProviderId, Provider] = field(default_factory=dict)
    active: ProviderId | None = None
    #: Domains that a sender must have, by the instance's domain policy; None: any (the policy is off).
    sender_domains: frozenset[str] | None = None


def evolve(state: EmailProviders, event: Event) -> EmailProviders:
    """Return the state after `event`. An event about a provider outside the slice changes only who is active."""
    match event:
        case SMTPConfigAdded():
            return _with(state, event.id, SMTPProvider(_config_of(event), event.password))
        case SMTPConfigChanged():
            provider = state.providers.get(event.id)
            if not isinstance(provider, SMTPProvider):
                return state
            password = provider.password if event.password is None else event.password
            changed = replace(provider, config=_changed_smtp(provider.config, event), password=password)
            return _with(state, event.id, changed)
        case SMTPPasswordChanged():
            provider = state.providers.get(event.id)
            if not isinstance(provider, SMTPProvider):
                return state
            return _with(state, event.id, replace(provider, password=event.password))
        case ProviderConfigured():
            provider = state.providers.get(event.id)
            if not isinstance(provider, SMTPProvider):
                return state
            return _with(state, event.id, replace(provider, options=event.options, secrets=event.secrets))
        case RefreshTokenRotated():
            provider = state.providers.get(event.id)
            if not isinstance(provider, SMTPProvider):
                return state
            secrets = {**provider.secrets, REFRESH_TOKEN: event.refresh_token}
            return _with(state, event.id, replace(provider, secrets=secrets))
        case HTTPConfigAdded():
            config = HTTPConfig(endpoint=event.endpoint, description=event.description)
            return _with(state, event.id, HTTPProvider(config, event.signing_key))
        case HTTPConfigChanged():
            provider = state.providers.get(event.id)
            if not isinstance(provider, HTTPProvider):
                return state
            key = provider.signing_key if event.signing_key is None else event.signing_key
            config = HTTPConfig(
                endpoint=_kept(provider.config.endpoint, event.endpoint),
                description=_kept(provider.config.description, event.description),
            )
            return _with(state, event.id, HTTPProvider(config, key))
        case ProviderActivated():
            return replace(state, active=event.id)
        case ProviderDeactivated():
            return replace(state, active=None if state.active == event.id else state.active)
        case ProviderRemoved():
            rest = {id: provider for id, provider in state.providers.items() if id != event.id}
            return replace(state, providers=rest, active=None if state.active == event.id else state.active)
        case LimitsSet() | FailoverSet():  # No rule asks about them.
            return state
        case _:
            assert_never(event)


def replay(events: Iterable[Event], state: EmailProviders | None = None) -> EmailProviders:
    """Return the state after all of `events`, from nothing or from `state`."""
    state = state or EmailProviders()
    for event in events:
        state = evolve(state, event)
    return state


def _with(state: EmailProviders, id: ProviderId, provider: Provider) -> EmailProviders:
    return replace(state, providers={**state.providers, id: provider})


def _kept(old: T, new: T | None) -> T:
    return old if new is None else new


def _config_of(event: SMTPConfigAdded) -> SMTPConfig:
    return SMTPConfig(
        sender_address=event.sender_address,
        sender_name=event.sender_name,
        host=event.host,
        tls=event.tls,
        user=event.user,
        reply_to=event.reply_to,
        description=event.description,
    )


def _changed_smtp(old: SMTPConfig, event: SMTPConfigChanged) -> SMTPConfig:
    return SMTPConfig(
        sender_address=_kept(old.sender_address, event.sender_address),
        sender_name=_kept(old.sender_name, event.sender_name),
        host=_kept(old.host, event.host),
        tls=_kept(old.tls, event.tls),
        user=_kept(old.user, event.user),
        reply_to=_kept(old.reply_to, event.reply_to),
        description=_kept(old.description, event.description),
    )
