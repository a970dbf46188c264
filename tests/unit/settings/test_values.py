"""What can be set for an instance, and the events that say so."""

from dataclasses import replace

import pytest

from mailward.eventstore.event import NewEvent
from mailward.settings.values import (
    DEFAULTS,
    TYPES,
    DomainPolicy,
    Language,
    NotificationPolicy,
    SecretGenerator,
    Value,
    added,
    after,
    blank_of,
    changed,
    from_stored,
    to_stored,
)

GENERATOR = SecretGenerator(
    generator_type=1, length=6, expiry=259_200_000_000_000, include_upper_letters=True, include_digits=True
)


def test_an_added_value_leaves_out_what_is_zero() -> None:
    assert added(GENERATOR) == NewEvent(
        "instance.secret.generator.added",
        {
            "expiry": 259_200_000_000_000,
            "generatorType": 1,
            "includeDigits": True,
            "includeUpperLetters": True,
            "length": 6,
        },
    )
    assert added(DomainPolicy()) == NewEvent("instance.policy.domain.added", {})
    assert added(Language()) == NewEvent("instance.default.language.set", {"language": "en"})


def test_a_change_names_what_changed_zero_values_included_and_which_one_it_is_about() -> None:
    new = replace(GENERATOR, length=7, include_digits=False)

    assert changed(GENERATOR, new) == NewEvent(
        "instance.secret.generator.changed", {"generatorType": 1, "includeDigits": False, "length": 7}
    )
    assert changed(NotificationPolicy(), NotificationPolicy(password_change=False)) == NewEvent(
        "instance.policy.notification.changed", {"passwordChange": False}
    )


@pytest.mark.parametrize("value", DEFAULTS, ids=lambda value: str(value.name))
def test_the_same_again_is_no_change(value: Value) -> None:
    assert changed(value, replace(value)) is None


@pytest.mark.parametrize("value", DEFAULTS, ids=lambda value: str(value.name))
def test_a_value_comes_back_from_its_event_and_from_its_row(value: Value) -> None:
    event = added(value)
    blank = blank_of(event.type, event.payload)

    assert blank is not None
    assert blank.name == value.name
    assert after(blank, event.payload) == value
    assert from_stored(value.name, to_stored(value)) == value


def test_events_of_other_rooms_are_not_ours() -> None:
    assert blank_of("instance.smtp.config.added", {"id": "1"}) is None
    assert len(set(TYPES)) == 7


def test_every_value_has_a_name_of_its_own() -> None:
    """Eight kinds of secrets that ZITADEL has names for, and signing keys, which it has none for."""
    assert len({value.name for value in DEFAULTS}) == len(DEFAULTS) == 12
