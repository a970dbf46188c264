"""Events as they are stored: names and keys are a contract with ZITADEL's event API and with our own past."""

import pytest

from mailward.provider.events import (
    TYPES,
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
    from_payload,
    shown_payload,
    to_payload,
    type_of,
)
from mailward.provider.options import Options
from tests.support.providers import KEY, PASSWORD, A, added, http_added, smtp

PASSWORD_VALUE = {"Algorithm": "aes", "Crypted": PASSWORD, "CryptoType": 0, "KeyID": "smtpKey"}
KEY_VALUE = {"Algorithm": "aes", "Crypted": KEY, "CryptoType": 0, "KeyID": "smtpKey"}

STORED: list[tuple[Event, str, dict[str, object]]] = [
    (
        added(A),
        "instance.smtp.config.added",
        {
            "description": "main relay",
            "host": "smtp.example.com:587",
            "id": A,
            "password": PASSWORD_VALUE,
            "replyToAddress": "help@example.com",
            "senderAddress": "no-reply@example.com",
            "senderName": "Example",
            "tls": True,
            "user": "mailer",
        },
    ),
    (
        added(A, smtp(tls=False, user="", reply_to="", description=""), None),
        "instance.smtp.config.added",
        {"host": "smtp.example.com:587", "id": A, "senderAddress": "no-reply@example.com", "senderName": "Example"},
    ),
    (
        SMTPConfigChanged(id=A, sender_name="Other", password=PASSWORD),
        "instance.smtp.config.changed",
        {"id": A, "password": PASSWORD_VALUE, "senderName": "Other"},
    ),
    (
        SMTPConfigChanged(id=A, tls=False, user="", reply_to="", description=""),
        "instance.smtp.config.changed",
        {"description": "", "id": A, "replyToAddress": "", "tls": False, "user": ""},
    ),
    (
        SMTPPasswordChanged(A, PASSWORD),
        "instance.smtp.config.password.changed",
        {"id": A, "password": PASSWORD_VALUE},
    ),
    (SMTPPasswordChanged(A, None), "instance.smtp.config.password.changed", {"id": A}),
    (
        http_added(A),
        "instance.smtp.config.http.added",
        {"description": "hook", "endpoint": "https://hook.example.com/mail", "id": A, "signingKey": KEY_VALUE},
    ),
    (
        HTTPConfigChanged(id=A, description="", signing_key=KEY),
        "instance.smtp.config.http.changed",
        {"description": "", "id": A, "signingKey": KEY_VALUE},
    ),
    (
        ProviderConfigured(id=A, options=Options(tls_mode="implicit", certificate_pins=("ab",)), secrets={"k": KEY}),
        "mailward.provider.configured",
        {"id": A, "options": {"tls_mode": "implicit", "certificate_pins": ["ab"]}, "secrets": {"k": KEY_VALUE}},
    ),
    (ProviderConfigured(id=A, options=Options()), "mailward.provider.configured", {"id": A, "options": {}}),
    (RefreshTokenRotated(A, KEY), "mailward.provider.refresh_token.rotated", {"id": A, "refreshToken": KEY_VALUE}),
    (ProviderActivated(A), "instance.smtp.config.activated", {"id": A}),
    (ProviderDeactivated(A), "instance.smtp.config.deactivated", {"id": A}),
    (ProviderRemoved(A), "instance.smtp.config.removed", {"id": A}),
    (
        LimitsSet(id=A, per_second=5, uncertain_retries=0),
        "mailward.provider.limits.set",
        {"id": A, "perDay": 0, "perMinute": 0, "perSecond": 5, "uncertainRetries": 0},
    ),
    (FailoverSet((A,)), "mailward.provider.failover.set", {"ids": [A]}),
    (FailoverSet(), "mailward.provider.failover.set", {}),
]


@pytest.mark.parametrize(("event", "type", "payload"), STORED)
def test_an_event_is_stored_under_its_wire_name_and_keys(event: Event, type: str, payload: dict[str, object]) -> None:
    assert type_of(event) == type
    assert to_payload(event) == payload
    assert list(to_payload(event)) == sorted(payload)


@pytest.mark.parametrize(("event", "type", "payload"), STORED)
def test_a_stored_event_is_read_as_it_was_written(event: Event, type: str, payload: dict[str, object]) -> None:
    """Stored events are never rewritten: every version that was ever written must fold."""
    assert from_payload(type, payload) == event


def test_every_kind_of_event_is_in_the_list_above() -> None:
    assert {type for _, type, _ in STORED} == set(TYPES)
    assert set(TYPES.values()) == {
        SMTPConfigAdded,
        SMTPConfigChanged,
        SMTPPasswordChanged,
        ProviderConfigured,
        HTTPConfigAdded,
        HTTPConfigChanged,
        ProviderActivated,
        ProviderDeactivated,
        RefreshTokenRotated,
        LimitsSet,
        FailoverSet,
        ProviderRemoved,
    }


def test_events_of_other_rooms_are_none_of_ours() -> None:
    assert from_payload("instance.member.added", {"userId": "1"}) is None


def test_keys_of_a_later_version_are_ignored() -> None:
    """A node that runs the previous release reads what the next one wrote."""
    assert from_payload("instance.smtp.config.activated", {"id": A, "since": 1}) == ProviderActivated(A)


def test_a_payload_that_lacks_what_it_must_have_is_refused() -> None:
    with pytest.raises(ValueError, match=r"instance\.smtp\.config\.added"):
        from_payload("instance.smtp.config.added", {"id": A})


def test_the_events_api_shows_the_password_event_without_its_id() -> None:
    """The original forgot it (departure 1), and clients compare keys."""
    shown = shown_payload("instance.smtp.config.password.changed", {"id": A, "password": PASSWORD_VALUE})

    assert shown == {"password": PASSWORD_VALUE}
    assert shown_payload("instance.smtp.config.activated", {"id": A}) == {"id": A}
