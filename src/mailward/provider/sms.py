"""The rules of an instance's SMS providers: state and command in, events or an error out (spec 3.10)."""

from dataclasses import dataclass
from typing import assert_never

from mailward.errors import FailedPrecondition, InvalidArgument, NotFound
from mailward.ids import ProviderId
from mailward.provider.payloads import Sealed
from mailward.provider.sms_events import (
    Event,
    SMSActivated,
    SMSDeactivated,
    SMSHTTPAdded,
    SMSHTTPChanged,
    SMSRemoved,
    TwilioAdded,
    TwilioChanged,
    TwilioTokenChanged,
)
from mailward.provider.state import HTTPConfig

_ID_MISSING = "ID missing"
_NOT_FOUND = "SMS configuration not found"
_ALREADY_ACTIVE = "SMS configuration already active"
_ALREADY_INACTIVE = "SMS configuration already deactivated"


@dataclass(frozen=True, slots=True, kw_only=True)
class TwilioConfig:
    """All of a Twilio account but its token. No field is trimmed or parsed."""

    sid: str
    sender_number: str = ""
    verify_service_sid: str = ""  #: of Twilio Verify; empty: plain SMS
    description: str = ""


@dataclass(frozen=True, slots=True)
class SMSProvider:
    """The SMS provider that a command is about, as it stands. No rule asks about others."""

    id: ProviderId
    config: TwilioConfig | HTTPConfig
    active: bool


# --- commands: what a caller may want. Secrets come sealed.


@dataclass(frozen=True, slots=True)
class AddTwilio:
    """Add a Twilio account under an id that was never given out."""

    id: ProviderId
    config: TwilioConfig
    token: Sealed


@dataclass(frozen=True, slots=True)
class ChangeTwilio:
    """Replace everything but the token."""

    id: ProviderId
    config: TwilioConfig


@dataclass(frozen=True, slots=True)
class ChangeTwilioToken:
    """Replace the token, of an inactive account too."""

    id: ProviderId
    token: Sealed


@dataclass(frozen=True, slots=True)
class AddSMSHTTP:
    """Add an HTTP endpoint under an id that was never given out."""

    id: ProviderId
    config: HTTPConfig
    signing_key: Sealed


@dataclass(frozen=True, slots=True)
class ChangeSMSHTTP:
    """Replace endpoint and description; the signing key too when one is given."""

    id: ProviderId
    config: HTTPConfig
    signing_key: Sealed | None = None


@dataclass(frozen=True, slots=True)
class ActivateSMS:
    """Make an SMS provider the active one."""

    id: ProviderId


@dataclass(frozen=True, slots=True)
class DeactivateSMS:
    """Leave the instance without an active SMS provider."""

    id: ProviderId


@dataclass(frozen=True, slots=True)
class RemoveSMS:
    """Remove an SMS provider, active or not."""

    id: ProviderId


Command = (
    AddTwilio | ChangeTwilio | ChangeTwilioToken | AddSMSHTTP | ChangeSMSHTTP | ActivateSMS | DeactivateSMS | RemoveSMS
)


def decide(provider: SMSProvider | None, command: Command) -> list[Event]:
    """Return the events that `command` causes to `provider` (None: there is none of that id); none: nothing changes.

    Raises InvalidArgument, NotFound, FailedPrecondition in the order in which the original checks.
    """
    match command:
        case AddTwilio(id, config, token):
            return [
                TwilioAdded(
                    id=id,
                    description=config.description,
                    sid=config.sid,
                    token=token,
                    sender_number=config.sender_number,
                    verify_service_sid=config.verify_service_sid,
                )
            ]
        case ChangeTwilio(id, config):
            _check_id(id, "COMMAND-gMr93iNhTR")
            if provider is None or not isinstance(provider.config, TwilioConfig):
                raise NotFound("COMMAND-MUY0IFAf8O", _NOT_FOUND)
            return _changed_twilio(id, provider.config, config)
        case ChangeTwilioToken(id, token):
            _check_id(id, "SMS-PeNaqbC0r0")
            if provider is None or not isinstance(provider.config, TwilioConfig):
                raise NotFound("COMMAND-ij3NhEHATp", _NOT_FOUND)
            return [TwilioTokenChanged(id, token)]
        case AddSMSHTTP(id, config, key):
            return [SMSHTTPAdded(id=id, description=config.description, endpoint=config.endpoint, signing_key=key)]
        case ChangeSMSHTTP(id, config, new_key):
            _check_id(id, "COMMAND-phyb2e4Kll")
            if provider is None or not isinstance(provider.config, HTTPConfig):
                raise NotFound("COMMAND-6NW4I5Kqzj", _NOT_FOUND)
            return _changed_http(id, provider.config, config, new_key)
        case ActivateSMS(id):
            _check_id(id, "COMMAND-jJ6TVqzvjp")
            if provider is None:
                raise NotFound("COMMAND-9ULtp9PH5E", _NOT_FOUND)
            if provider.active:
                raise FailedPrecondition("COMMAND-B25GFeIvRi", _ALREADY_ACTIVE)
            return [SMSActivated(id)]
        case DeactivateSMS(id):
            _check_id(id, "COMMAND-xs1ah1v1CL")
            if provider is None:
                raise NotFound("COMMAND-La91dGNhbM", _NOT_FOUND)
            if not provider.active:
                raise FailedPrecondition("COMMAND-OSZAEkYvk7", _ALREADY_INACTIVE)
            return [SMSDeactivated(id)]
        case RemoveSMS(id):
            _check_id(id, "COMMAND-Qrz7lvdC4c")
            if provider is None:
                raise NotFound("COMMAND-povEVHPCkV", _NOT_FOUND)
            return [SMSRemoved(id)]
        case _:
            assert_never(command)


def _changed_twilio(id: ProviderId, old: TwilioConfig, new: TwilioConfig) -> list[Event]:
    if new == old:
        return []
    return [
        TwilioChanged(
            id=id,
            description=_new(old.description, new.description),
            sid=_new(old.sid, new.sid),
            sender_number=_new(old.sender_number, new.sender_number),
            verify_service_sid=_new(old.verify_service_sid, new.verify_service_sid),
        )
    ]


def _changed_http(id: ProviderId, old: HTTPConfig, new: HTTPConfig, key: Sealed | None) -> list[Event]:
    if new == old and key is None:
        return []
    description, endpoint = _new(old.description, new.description), _new(old.endpoint, new.endpoint)
    return [SMSHTTPChanged(id=id, description=description, endpoint=endpoint, signing_key=key)]


def _check_id(id: ProviderId, error_id: str) -> None:
    if not id:
        raise InvalidArgument(error_id, _ID_MISSING)


def _new(old: str, new: str) -> str | None:
    return None if new == old else new
