"""The rules of what ZITADEL's wire cannot say of an SMTP provider: options, logins by token, rotation (pure)."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from mailward.errors import FailedPrecondition, NotFound
from mailward.ids import ProviderId
from mailward.provider import options as opt
from mailward.provider.events import Event, ProviderConfigured, SMTPConfigChanged, SMTPPasswordChanged
from mailward.provider.options import OAuthOptions
from mailward.provider.payloads import Sealed
from mailward.provider.state import EmailProviders, SMTPProvider
from mailward.secretbox import SecretText


@dataclass(frozen=True, slots=True)
class OAuthChange:
    """Log in by a token from now on; `secrets` replace those there were."""

    oauth: OAuthOptions
    secrets: Mapping[str, Sealed]


@dataclass(frozen=True, slots=True)
class TokenLogin:
    """How a provider logs in by a token."""

    oauth: OAuthOptions
    secrets: Mapping[str, SecretText]  #: by the names in provider/options.py


@dataclass(frozen=True, slots=True)
class Configure:
    """Set some options and secrets of an SMTP provider, leave the others."""

    id: ProviderId
    options: Mapping[str, Any]  #: field of Options -> new value
    secrets: Mapping[str, Sealed | None] = field(default_factory=dict)  #: None: forget it


@dataclass(frozen=True, slots=True)
class RotatePassword:
    """Replace the password of an SMTP provider, active or not."""

    id: ProviderId
    password: Sealed
    entered_for: tuple[str, bool, str]  #: host, tls, user as they were when it proved itself there


def configure(state: EmailProviders, command: Configure) -> list[Event]:
    """Decide new options. The wire's `tls` follows an explicit TLS mode. Raises InvalidArgument, NotFound."""
    provider = smtp_provider(state, command.id)
    options = replace(provider.options, **command.options)
    kept = {**provider.secrets, **command.secrets}
    if options.oauth is None:
        kept |= dict.fromkeys(opt.OAUTH_SECRETS)
    secrets = {name: sealed for name, sealed in kept.items() if sealed is not None}
    opt.check(options, secrets)
    events: list[Event] = []
    tls = options.tls_mode != "none"
    if "tls_mode" in command.options and options.tls_mode and tls != provider.config.tls:
        events.append(SMTPConfigChanged(id=command.id, tls=tls))
    if options != provider.options or secrets != dict(provider.secrets):
        events.append(ProviderConfigured(id=command.id, options=options, secrets=secrets))
    return events


def rotate_password(state: EmailProviders, command: RotatePassword) -> list[Event]:
    """Decide a new password; the old one is kept for its grace time. Raises NotFound, FailedPrecondition."""
    provider = smtp_provider(state, command.id)
    if not provider.config.user:
        raise FailedPrecondition("PROVIDER-nouser", "the provider has no user, so it needs no password")
    if command.entered_for != (provider.config.host, provider.config.tls, provider.config.user):
        words = "host, TLS mode or user were changed meanwhile, so the password was not: rotate again"
        raise FailedPrecondition("PROVIDER-meanwhile", words)
    return [SMTPPasswordChanged(command.id, command.password)]


def log_in_by(
    provider: SMTPProvider, id: ProviderId, change: OAuthChange | None, *, password: Sealed | None = None
) -> list[Event]:
    """Decide how `provider` logs in after a change over ZITADEL's wire: by a token, or by a new password instead."""
    if change is None and (password is None or provider.options.oauth is None):
        return []
    kept = {name: sealed for name, sealed in provider.secrets.items() if name not in opt.OAUTH_SECRETS}
    secrets = kept if change is None else kept | dict(change.secrets)
    options = replace(provider.options, oauth=None if change is None else change.oauth)
    opt.check(options, secrets)
    return [ProviderConfigured(id=id, options=options, secrets=secrets)]


def smtp_provider(state: EmailProviders, id: ProviderId) -> SMTPProvider:
    """Return the provider. Raises NotFound."""
    provider = state.providers.get(id)
    if not isinstance(provider, SMTPProvider):
        raise NotFound("PROVIDER-unknown", "no such SMTP provider")
    return provider
