"""The rules of an instance's email providers: state and command in, events or an error out (spec 3.1-3.5)."""

from dataclasses import dataclass, replace
from typing import assert_never

from mailward.errors import FailedPrecondition, InvalidArgument, NotFound
from mailward.ids import ProviderId
from mailward.provider import configuring, hostport
from mailward.provider.configuring import Configure, OAuthChange, RotatePassword, RotateRefreshToken, RotateTokenSecret
from mailward.provider.events import (
    Event,
    FailoverSet,
    HTTPConfigAdded,
    HTTPConfigChanged,
    LimitsSet,
    ProviderActivated,
    ProviderDeactivated,
    ProviderRemoved,
    SMTPConfigAdded,
    SMTPConfigChanged,
    SMTPPasswordChanged,
)
from mailward.provider.payloads import Sealed
from mailward.provider.routing import ProviderLimits
from mailward.provider.state import EmailProviders, HTTPConfig, HTTPProvider, SMTPConfig, SMTPProvider

#: What counts as blank around a value: Unicode's White_Space, so a no-break space, but no zero-width space.
BLANK = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))

_INVALID = "Errors.Invalid.Argument"  # The original has no text for these two: its clients see, and compare, the key.
_ALREADY_ACTIVE = "Errors.SMTPConfig.AlreadyActive"
_ALREADY_INACTIVE = "SMTP configuration already deactivated"
_NOT_FOUND = "SMTP configuration not found"
_ID_MISSING = "ID missing"
_FOREIGN_SENDER = "The sender address must be configured as custom domain on the instance."


# --- commands: what a caller may want. Secrets come sealed.


@dataclass(frozen=True, slots=True)
class AddSMTP:
    """Add an SMTP provider under an id that was never given out."""

    id: ProviderId
    config: SMTPConfig
    password: Sealed | None = None
    oauth: OAuthChange | None = None  #: log in by token


@dataclass(frozen=True, slots=True)
class ChangeSMTP:
    """Replace everything but the secret; the secret too when one is given."""

    id: ProviderId
    config: SMTPConfig
    password: Sealed | None = None  #: a new one also ends the login by token
    oauth: OAuthChange | None = None


@dataclass(frozen=True, slots=True)
class ChangePassword:
    """Replace the password of the active provider, or erase it (None)."""

    id: ProviderId
    password: Sealed | None


@dataclass(frozen=True, slots=True)
class AddHTTP:
    """Add an HTTP provider under an id that was never given out."""

    id: ProviderId
    config: HTTPConfig
    signing_key: Sealed


@dataclass(frozen=True, slots=True)
class ChangeHTTP:
    """Replace endpoint and description; the signing key too when one is given."""

    id: ProviderId
    config: HTTPConfig
    signing_key: Sealed | None = None


@dataclass(frozen=True, slots=True)
class Activate:
    """Make a provider the active one."""

    id: ProviderId


@dataclass(frozen=True, slots=True)
class Deactivate:
    """Leave the instance without an active provider."""

    id: ProviderId


@dataclass(frozen=True, slots=True)
class Remove:
    """Remove a provider, active or not."""

    id: ProviderId


@dataclass(frozen=True, slots=True)
class SetLimits:
    """Set what a provider may get, all of it."""

    id: ProviderId
    limits: ProviderLimits


@dataclass(frozen=True, slots=True)
class SetFailover:
    """Set who takes over when the active provider cannot, in order."""

    ids: tuple[ProviderId, ...]


Command = (
    AddSMTP
    | ChangeSMTP
    | ChangePassword
    | RotatePassword
    | RotateTokenSecret
    | RotateRefreshToken
    | Configure
    | AddHTTP
    | ChangeHTTP
    | Activate
    | Deactivate
    | Remove
    | SetLimits
    | SetFailover
)


def decide(state: EmailProviders, command: Command) -> list[Event]:
    """Return the events that `command` causes; none: it is granted and changes nothing.

    Raises InvalidArgument, NotFound, FailedPrecondition in the order in which the original checks.
    """
    match command:
        case AddSMTP():
            return add_smtp(state, command)
        case ChangeSMTP():
            return change_smtp(state, command)
        case ChangePassword():
            return change_password(state, command)
        case RotatePassword():
            return configuring.rotate_password(state, command)
        case RotateTokenSecret():
            return configuring.rotate_token_secret(state, command)
        case RotateRefreshToken():
            return configuring.rotate_refresh_token(state, command)
        case Configure():
            return configuring.configure(state, command)
        case AddHTTP():
            return add_http(command)
        case ChangeHTTP():
            return change_http(state, command)
        case Activate():
            return activate(state, command)
        case Deactivate():
            return deactivate(state, command)
        case Remove():
            return remove(state, command)
        case SetLimits():
            return set_limits(state, command)
        case SetFailover():
            return set_failover(state, command)
        case _:
            assert_never(command)


def add_smtp(state: EmailProviders, command: AddSMTP) -> list[Event]:
    """Decide a new, inactive SMTP provider. Equal ones may exist. The sender is kept as sent, blanks and all."""
    config = command.config
    _check_sender(config, "COMMAND-SAAFpV8VKV")
    trimmed = _trimmed(config)
    _check_host(trimmed, "COMMAND-EvAtufIinh")
    _check_domain(state, config)
    added: list[Event] = [
        SMTPConfigAdded(
            id=command.id,
            description=trimmed.description,
            sender_address=config.sender_address,
            sender_name=config.sender_name,
            reply_to=trimmed.reply_to,
            tls=config.tls,
            host=trimmed.host,
            user=config.user,
            password=command.password,
        )
    ]
    return added + configuring.log_in_by(SMTPProvider(config, None), command.id, command.oauth)


def change_smtp(state: EmailProviders, command: ChangeSMTP) -> list[Event]:
    """Decide the change. What was left out is cleared, an unset password stays, a set one is always a change.

    Of an HTTP provider nothing is changed, and that is no error (the original's clients rely on neither).
    """
    if not command.id:
        raise InvalidArgument("COMMAND-2JPlSRzuHy", _ID_MISSING)
    _check_sender(command.config, "COMMAND-gyPUXOTA4N")
    config = _trimmed(command.config)
    config = replace(config, sender_address=config.sender_address.strip(BLANK))
    _check_host(config, "COMMAND-kZNVkuL32L")
    provider = state.providers.get(command.id)
    if provider is None:
        raise NotFound("COMMAND-j5IDFtt3T1", _NOT_FOUND)
    _check_domain(state, config)
    if isinstance(provider, HTTPProvider):
        return []
    old = provider.config
    by_token = configuring.log_in_by(provider, command.id, command.oauth, password=command.password, config=config)
    if config == old and command.password is None:
        return by_token
    changed: list[Event] = [
        SMTPConfigChanged(
            id=command.id,
            description=_new(old.description, config.description),
            sender_address=_new(old.sender_address, config.sender_address),
            sender_name=_new(old.sender_name, config.sender_name),
            reply_to=_new(old.reply_to, config.reply_to),
            tls=config.tls if config.tls != old.tls else None,
            host=_new(old.host, config.host),
            user=_new(old.user, config.user),
            password=command.password,
        )
    ]
    return changed + by_token


def change_password(state: EmailProviders, command: ChangePassword) -> list[Event]:
    """Decide a new password of the active provider: the wire has 404 for an inactive one. An HTTP provider has none."""
    if not command.id:
        raise InvalidArgument("COMMAND-BCkAf7LcJA", _ID_MISSING)
    provider = state.providers.get(command.id)
    if provider is None or state.active != command.id:
        raise NotFound("COMMAND-rDHzqjGuKQ", _NOT_FOUND)
    if isinstance(provider, HTTPProvider):
        return []
    by_password = configuring.log_in_by(provider, command.id, None, password=command.password)
    return [SMTPPasswordChanged(command.id, command.password), *by_password]


def add_http(command: AddHTTP) -> list[Event]:
    """Decide a new, inactive HTTP provider. No value is refused."""
    config = command.config
    return [
        HTTPConfigAdded(
            id=command.id, description=config.description, endpoint=config.endpoint, signing_key=command.signing_key
        )
    ]


def change_http(state: EmailProviders, command: ChangeHTTP) -> list[Event]:
    """Decide the change; a signing key is always one. An SMTP provider is not found."""
    if not command.id:
        raise InvalidArgument("COMMAND-2MHkV8ObWo", _ID_MISSING)
    provider = state.providers.get(command.id)
    if not isinstance(provider, HTTPProvider):
        raise NotFound("COMMAND-xIrdledqv4", _NOT_FOUND)
    old, config = provider.config, command.config
    if config == old and command.signing_key is None:
        return []
    return [
        HTTPConfigChanged(
            id=command.id,
            description=_new(old.description, config.description),
            endpoint=_new(old.endpoint, config.endpoint),
            signing_key=command.signing_key,
        )
    ]


def activate(state: EmailProviders, command: Activate) -> list[Event]:
    """Decide that `id` is the active one. The one before needs no event of its own: there is one place."""
    if not command.id:
        raise InvalidArgument("COMMAND-1hPl6oVMJa", _ID_MISSING)
    if command.id not in state.providers:
        raise NotFound("COMMAND-E9K20hxOS9", _NOT_FOUND)
    if state.active == command.id:
        raise FailedPrecondition("COMMAND-vUHBSmBzaw", _ALREADY_ACTIVE)
    return [ProviderActivated(command.id)]


def deactivate(state: EmailProviders, command: Deactivate) -> list[Event]:
    """Decide that none is active."""
    if not command.id:
        raise InvalidArgument("COMMAND-jLTIMrtApO", _ID_MISSING)
    if command.id not in state.providers:
        raise NotFound("COMMAND-k39PJ", _NOT_FOUND)
    if state.active != command.id:
        raise FailedPrecondition("COMMAND-km8g3", _ALREADY_INACTIVE)
    return [ProviderDeactivated(command.id)]


def remove(state: EmailProviders, command: Remove) -> list[Event]:
    """Decide the removal; of the active one too."""
    if not command.id:
        raise InvalidArgument("COMMAND-0ZV5whuUfu", _ID_MISSING)
    if command.id not in state.providers:
        raise NotFound("COMMAND-09CXlTDL6w", _NOT_FOUND)
    return [ProviderRemoved(command.id)]


def set_limits(state: EmailProviders, command: SetLimits) -> list[Event]:
    """Decide what a provider may get. Raises NotFound."""
    if command.id not in state.providers:
        raise NotFound("PROVIDER-limits", "no such email provider")
    limits = command.limits
    return [
        LimitsSet(
            id=command.id,
            per_second=limits.send.per_second,
            per_minute=limits.send.per_minute,
            per_day=limits.send.per_day,
            uncertain_retries=limits.uncertain_retries,
        )
    ]


def set_failover(state: EmailProviders, command: SetFailover) -> list[Event]:
    """Decide who takes over. The active provider may be among them; it is not asked twice. Raises NotFound."""
    for n, id in enumerate(command.ids):
        if id not in state.providers:
            raise NotFound("PROVIDER-failover", f"no email provider {id!r}", pointer=f"/provider_ids/{n}")
        if id in command.ids[:n]:
            raise InvalidArgument("PROVIDER-twice", f"{id!r} is listed twice", pointer=f"/provider_ids/{n}")
    return [FailoverSet(command.ids)]


def _trimmed(config: SMTPConfig) -> SMTPConfig:
    """Return `config` without blanks around host, reply-to and description; names and users may begin with one."""
    return replace(
        config,
        host=config.host.strip(BLANK),
        reply_to=config.reply_to.strip(BLANK),
        description=config.description.strip(BLANK),
    )


def _check_sender(config: SMTPConfig, error_id: str) -> None:
    if not config.sender_address.strip(BLANK):
        raise InvalidArgument(error_id, _INVALID, pointer="/senderAddress")


def _check_host(config: SMTPConfig, error_id: str) -> None:
    try:
        hostport.split(config.host)
    except ValueError:
        raise InvalidArgument(error_id, _INVALID, pointer="/host") from None


def _check_domain(state: EmailProviders, config: SMTPConfig) -> None:
    """The part after the last "@", or all of it, must equal a domain of the instance, letter by letter (spec 3.5)."""
    domain = config.sender_address.strip(BLANK).rpartition("@")[2]
    if state.sender_domains is not None and domain not in state.sender_domains:
        raise InvalidArgument("INST-xtWIiR2ZbR", _FOREIGN_SENDER, pointer="/senderAddress")


def _new(old: str, new: str) -> str | None:
    return None if new == old else new
