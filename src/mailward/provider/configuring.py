"""The rules of what ZITADEL's wire cannot say of an SMTP provider: options, logins by token, rotation (pure)."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from mailward.errors import FailedPrecondition, InvalidArgument, NotFound
from mailward.ids import ProviderId
from mailward.provider import options as opt
from mailward.provider.events import (
    Event,
    ProviderConfigured,
    RefreshTokenRotated,
    SMTPConfigChanged,
    SMTPPasswordChanged,
)
from mailward.provider.options import OAuthOptions, Options
from mailward.provider.payloads import Sealed
from mailward.provider.state import EmailProviders, SMTPConfig, SMTPProvider
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


#: Host, TLS mode, user and login by token for which a secret was entered.
EnteredFor = tuple[str, bool, str, OAuthOptions | None]


@dataclass(frozen=True, slots=True)
class RotatePassword:
    """Replace the password of an SMTP provider, active or not."""

    id: ProviderId
    password: Sealed
    entered_for: EnteredFor  #: as it was when it proved itself there


@dataclass(frozen=True, slots=True)
class RotateTokenSecret:
    """Replace a secret with which an SMTP provider's tokens are fetched, and perhaps what names it there."""

    id: ProviderId
    name: str  #: as in provider/options.py
    secret: Sealed
    oauth: OAuthOptions  #: from now on
    entered_for: EnteredFor  #: as it was when it proved itself there


@dataclass(frozen=True, slots=True)
class RotateRefreshToken:
    """Store the refresh token that the authorisation server gave in place of `old`."""

    id: ProviderId
    old: Sealed
    new: Sealed


def configure(state: EmailProviders, command: Configure) -> list[Event]:
    """Decide new options. The wire's `tls` follows an explicit TLS mode. Raises InvalidArgument, NotFound."""
    provider = smtp_provider(state, command.id)
    options = replace(provider.options, **command.options)
    kept = {**_kept(provider.secrets, provider.options.oauth, options.oauth), **command.secrets}
    if options.oauth is None:
        kept |= dict.fromkeys(opt.OAUTH_SECRETS)
    secrets = {name: sealed for name, sealed in kept.items() if sealed is not None}
    _check(options, secrets, provider.config.user)
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
    if provider.options.oauth is not None:
        words = (
            f"the provider logs in by token: rotate {', '.join(opt.OAUTH_SECRETS)}, or switch that off for a password"
        )
        raise FailedPrecondition("PROVIDER-token", words)
    if command.entered_for != _entered_for(provider):
        words = "host, TLS mode or user were changed meanwhile, so the password was not: rotate again"
        raise FailedPrecondition("PROVIDER-meanwhile", words)
    return [SMTPPasswordChanged(command.id, command.password)]


def rotate_token_secret(state: EmailProviders, command: RotateTokenSecret) -> list[Event]:
    """Decide a new secret for fetching tokens; the old one is forgotten. Raises NotFound, FailedPrecondition."""
    provider = smtp_provider(state, command.id)
    if command.entered_for != _entered_for(provider):
        words = "host, TLS mode, user or the login by token were changed meanwhile, so the secret was not: rotate again"
        raise FailedPrecondition("PROVIDER-moved", words)
    options = replace(provider.options, oauth=command.oauth)
    secrets = {**provider.secrets, command.name: command.secret}
    _check(options, secrets, provider.config.user)
    return [ProviderConfigured(id=command.id, options=options, secrets=secrets)]


def _entered_for(provider: SMTPProvider) -> EnteredFor:
    return provider.config.host, provider.config.tls, provider.config.user, provider.options.oauth


def rotate_refresh_token(state: EmailProviders, command: RotateRefreshToken) -> list[Event]:
    """Decide the new refresh token. What an operator stored meanwhile stands. Raises NotFound."""
    if smtp_provider(state, command.id).secrets.get(opt.REFRESH_TOKEN) != command.old:
        return []
    return [RefreshTokenRotated(command.id, command.new)]


def log_in_by(
    provider: SMTPProvider,
    id: ProviderId,
    change: OAuthChange | None,
    *,
    password: Sealed | None = None,
    config: SMTPConfig | None = None,
) -> list[Event]:
    """Decide how `provider` logs in after a change over ZITADEL's wire: by a token, or by a new password instead.

    `config`: what the change makes of it. Raises InvalidArgument; a secret for a token does not follow to another host.
    """
    config = config or provider.config
    before = provider.options.oauth
    oauth = before if password is None else None
    if change is not None:
        oauth = opt.meant_on_wire(change.oauth, before)
    options = replace(provider.options, oauth=oauth)
    kept = _kept(provider.secrets, before if config.host == provider.config.host else None, oauth)
    secrets = kept | dict(change.secrets if change is not None else {})
    if oauth is not None:
        _check(options, secrets, config.user)
    if options == provider.options and secrets == dict(provider.secrets):
        return []
    return [ProviderConfigured(id=id, options=options, secrets=secrets)]


def _kept(secrets: Mapping[str, Sealed], before: OAuthOptions | None, after: OAuthOptions | None) -> dict[str, Sealed]:
    """Return those of `secrets` that are still for whom they were given when the login by token changes so."""
    if before is not None and after is not None and before.audience == after.audience:
        return dict(secrets)
    return {name: sealed for name, sealed in secrets.items() if name not in opt.OAUTH_SECRETS}


def _check(options: Options, secrets: Mapping[str, Sealed], user: str) -> None:
    opt.check(options, secrets)
    if options.oauth is not None and not user:
        raise InvalidArgument("PROVIDER-mailbox", "a login by token needs a user: the mailbox", pointer="/user")


def smtp_provider(state: EmailProviders, id: ProviderId) -> SMTPProvider:
    """Return the provider. Raises NotFound."""
    provider = state.providers.get(id)
    if not isinstance(provider, SMTPProvider):
        raise NotFound("PROVIDER-unknown", "no such SMTP provider")
    return provider
