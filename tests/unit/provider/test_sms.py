"""The rules of SMS providers, and their events as they are stored."""

import pytest

from mailward.errors import FailedPrecondition, InvalidArgument, MailwardError, NotFound
from mailward.ids import ProviderId
from mailward.provider.payloads import Sealed
from mailward.provider.sms import (
    ActivateSMS,
    AddSMSHTTP,
    AddTwilio,
    ChangeSMSHTTP,
    ChangeTwilio,
    ChangeTwilioToken,
    Command,
    DeactivateSMS,
    RemoveSMS,
    SMSProvider,
    TwilioConfig,
    decide,
)
from mailward.provider.sms_events import (
    TYPES,
    Event,
    SMSActivated,
    SMSDeactivated,
    SMSHTTPAdded,
    SMSHTTPChanged,
    SMSRemoved,
    TwilioAdded,
    TwilioChanged,
    TwilioTokenChanged,
    from_payload,
    to_payload,
    type_of,
)
from mailward.provider.state import HTTPConfig
from tests.support.providers import KEY, NEW_KEY, A

TOKEN = Sealed("dG9r")
ACCOUNT = TwilioConfig(sid="AC1", sender_number="+41790000000", verify_service_sid="VA1", description="tw")
HOOK = HTTPConfig(endpoint="https://hook.example.com/sms", description="hook")
TWILIO = SMSProvider(A, ACCOUNT, active=False)
ACTIVE = SMSProvider(A, ACCOUNT, active=True)
HTTP = SMSProvider(A, HOOK, active=False)
EMPTY = ProviderId("")

COMMANDS: list[Command] = [
    ChangeTwilio(A, ACCOUNT),
    ChangeTwilioToken(A, TOKEN),
    ChangeSMSHTTP(A, HOOK),
    ActivateSMS(A),
    DeactivateSMS(A),
    RemoveSMS(A),
]
#: For each of COMMANDS: the id of "not found", and of an empty id (spec 3.10).
IDS = [
    ("COMMAND-MUY0IFAf8O", "COMMAND-gMr93iNhTR"),
    ("COMMAND-ij3NhEHATp", "SMS-PeNaqbC0r0"),
    ("COMMAND-6NW4I5Kqzj", "COMMAND-phyb2e4Kll"),
    ("COMMAND-9ULtp9PH5E", "COMMAND-jJ6TVqzvjp"),
    ("COMMAND-La91dGNhbM", "COMMAND-xs1ah1v1CL"),
    ("COMMAND-povEVHPCkV", "COMMAND-Qrz7lvdC4c"),
]
CASES = list(zip(COMMANDS, IDS, strict=True))


def refused(provider: SMSProvider | None, command: Command) -> MailwardError:
    with pytest.raises(MailwardError) as caught:
        decide(provider, command)
    return caught.value


@pytest.mark.parametrize(("command", "ids"), CASES, ids=lambda value: type(value).__name__)
def test_a_command_about_an_id_that_does_not_exist_is_refused(command: Command, ids: tuple[str, str]) -> None:
    error = refused(None, command)

    assert (type(error), error.id, error.message) == (NotFound, ids[0], "SMS configuration not found")


@pytest.mark.parametrize(("command", "ids"), CASES, ids=lambda value: type(value).__name__)
def test_a_command_without_an_id_is_refused(command: Command, ids: tuple[str, str]) -> None:
    nameless = type(command)(EMPTY, *[getattr(command, name) for name in type(command).__match_args__[1:]])

    error = refused(None, nameless)

    assert (type(error), error.id, error.message) == (InvalidArgument, ids[1], "ID missing")


@pytest.mark.parametrize(("provider", "command"), [(HTTP, COMMANDS[0]), (HTTP, COMMANDS[1]), (TWILIO, COMMANDS[2])])
def test_a_change_that_is_for_the_other_kind_does_not_find_it(provider: SMSProvider, command: Command) -> None:
    assert isinstance(refused(provider, command), NotFound)


def test_a_change_names_only_what_changed_and_a_field_left_out_is_cleared() -> None:
    assert decide(TWILIO, ChangeTwilio(A, TwilioConfig(sid="AC2", sender_number="+41790000000"))) == [
        TwilioChanged(id=A, sid="AC2", description="", verify_service_sid="")
    ]


def test_the_same_values_again_change_nothing() -> None:
    assert decide(TWILIO, ChangeTwilio(A, ACCOUNT)) == []
    assert decide(HTTP, ChangeSMSHTTP(A, HOOK)) == []


def test_a_new_signing_key_is_a_change_by_itself() -> None:
    assert decide(HTTP, ChangeSMSHTTP(A, HOOK, NEW_KEY)) == [SMSHTTPChanged(id=A, signing_key=NEW_KEY)]


def test_a_token_is_replaced_on_an_inactive_account_too() -> None:
    assert decide(TWILIO, ChangeTwilioToken(A, TOKEN)) == [TwilioTokenChanged(A, TOKEN)]


def test_what_is_active_cannot_be_activated_and_what_is_not_cannot_be_deactivated() -> None:
    again, idle = refused(ACTIVE, ActivateSMS(A)), refused(TWILIO, DeactivateSMS(A))

    assert isinstance(again, FailedPrecondition)
    assert isinstance(idle, FailedPrecondition)
    assert str(again) == "SMS configuration already active (COMMAND-B25GFeIvRi)"
    assert str(idle) == "SMS configuration already deactivated (COMMAND-OSZAEkYvk7)"


def test_an_active_one_may_be_removed() -> None:
    assert decide(ACTIVE, RemoveSMS(A)) == [SMSRemoved(A)]


STORED: list[tuple[Event, str, dict[str, object]]] = [
    (
        decide(None, AddTwilio(A, ACCOUNT, TOKEN))[0],
        "instance.sms.configtwilio.added",
        {
            "description": "tw",
            "id": A,
            "senderNumber": "+41790000000",
            "sid": "AC1",
            "token": {"Algorithm": "aes", "Crypted": TOKEN, "CryptoType": 0, "KeyID": "smsKey"},
            "verifyServiceSid": "VA1",
        },
    ),
    (TwilioChanged(id=A, sender_number=""), "instance.sms.configtwilio.changed", {"id": A, "senderNumber": ""}),
    (
        TwilioTokenChanged(A, TOKEN),
        "instance.sms.configtwilio.token.changed",
        {"id": A, "token": {"Algorithm": "aes", "Crypted": TOKEN, "CryptoType": 0, "KeyID": "smsKey"}},
    ),
    (
        decide(None, AddSMSHTTP(A, HTTPConfig(endpoint="x"), KEY))[0],
        "instance.sms.confighttp.added",
        {
            "endpoint": "x",
            "id": A,
            "signingKey": {"Algorithm": "aes", "Crypted": KEY, "CryptoType": 0, "KeyID": "smsKey"},
        },
    ),
    (SMSHTTPChanged(id=A, endpoint="y"), "instance.sms.confighttp.changed", {"endpoint": "y", "id": A}),
    (SMSActivated(A), "instance.sms.configactivated", {"id": A}),
    (SMSDeactivated(A), "instance.sms.configdeactivated", {"id": A}),
    (SMSRemoved(A), "instance.sms.configremoved", {"id": A}),
]


@pytest.mark.parametrize(("event", "name", "payload"), STORED, ids=[name for _, name, _ in STORED])
def test_an_event_is_stored_under_its_name_and_comes_back(event: Event, name: str, payload: dict[str, object]) -> None:
    assert (type_of(event), to_payload(event), list(to_payload(event))) == (name, payload, sorted(payload))
    assert from_payload(name, payload) == event


def test_every_type_has_a_fixture_and_others_are_not_ours() -> None:
    assert {name for _, name, _ in STORED} == set(TYPES)
    assert from_payload("instance.smtp.config.removed", {"id": A}) is None
    assert isinstance(STORED[0][0], TwilioAdded)
    assert isinstance(STORED[3][0], SMSHTTPAdded)


def test_a_payload_that_lacks_a_field_is_said_to() -> None:
    with pytest.raises(ValueError, match="lacks a field"):
        from_payload("instance.sms.configtwilio.added", {"id": A})
