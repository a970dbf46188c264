"""What kinds of events are called."""

import pytest

from mailward.api.event_names import AGGREGATE_TYPES, EVENT_TYPES, aggregate_type, event_type
from mailward.api.texts import translate
from mailward.api.texts_admin import TRANSLATIONS
from mailward.settings.languages import LANGUAGES


def test_a_kind_has_its_name_in_the_language_asked_for() -> None:
    added = event_type("instance.smtp.config.added", "de")

    assert (added.type, added.localized.key) == ("instance.smtp.config.added", "EventTypes.instance.smtp.config.added")
    assert added.localized.localized_message == "SMTP-Konfiguration hinzugefügt"
    assert event_type("instance.smtp.config.added", "en").localized.localized_message == "SMTP configuration added"
    assert aggregate_type("instance", "en").localized.localized_message == "Instance"


def test_a_kind_without_a_name_shows_its_key() -> None:
    """As in the original, which has none for HTTP providers."""
    assert event_type("instance.smtp.config.http.added", "de").localized.localized_message == (
        "EventTypes.instance.smtp.config.http.added"
    )
    assert aggregate_type("unheard.of", "de").localized.localized_message == "AggregateTypes.unheard.of"


def test_the_kinds_are_those_that_are_written_sorted() -> None:
    assert list(EVENT_TYPES) == sorted(set(EVENT_TYPES))
    assert {type.partition(".")[0] for type in EVENT_TYPES} >= set(AGGREGATE_TYPES)
    for known in (
        "instance.smtp.config.http.changed",
        "instance.sms.configactivated",
        "instance.default.language.set",
        "instance.member.added",
        "user.pat.added",
        "queue.messages.replayed",
    ):
        assert known in EVENT_TYPES


@pytest.mark.parametrize("sentence", sorted(TRANSLATIONS))
def test_every_sentence_has_every_language(sentence: str) -> None:
    """Some are spelled alike in two of them."""
    assert len(TRANSLATIONS[sentence]) == len(LANGUAGES) - 1
    assert all(translate(sentence, language) for language in LANGUAGES)
    assert translate(sentence, "en") == sentence
