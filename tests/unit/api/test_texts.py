"""Sentences in the caller's language."""

import pytest

from mailward.api import texts
from mailward.api.texts import choose, translate
from mailward.settings.languages import DEFAULT_LANGUAGE, LANGUAGES

NOT_FOUND = "SMTP configuration not found"


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("de", "de"),
        ("de-CH", "de"),
        ("DE-ch", "de"),
        ("zh-Hant-TW", "zh"),
        ("fr;q=0.5, it;q=0.9", "it"),
        ("ja,de;q=0.5", "ja"),
        ("xx, cs;q=0.1", "cs"),
        ("pl, nl", "pl"),
        ("", "en"),
        ("*", "en"),
        ("xx", "en"),
        ("de;q=0", "en"),
        ("de;q=high", "en"),
        ("de;q=nan", "en"),
        ("de;q=5", "en"),
        (", ,;", "en"),
    ],
)
def test_the_language_is_the_one_asked_for_most_among_those_we_have(header: str, language: str) -> None:
    assert choose(header) == language


def test_who_asks_for_nothing_we_have_gets_the_default() -> None:
    assert choose("xx", default="sv") == "sv"


@pytest.mark.parametrize("sentence", sorted(texts._TRANSLATIONS))
def test_every_sentence_has_every_language_once(sentence: str) -> None:
    translations = [translate(sentence, language) for language in LANGUAGES]

    assert len(texts._TRANSLATIONS[sentence]) == len(LANGUAGES) - 1
    assert all(translations)
    assert translate(sentence, DEFAULT_LANGUAGE) == sentence
    assert len(set(translations)) == len(LANGUAGES)


def test_a_sentence_without_translation_stays_as_it_is() -> None:
    assert translate("Errors.Invalid.Argument", "de") == "Errors.Invalid.Argument"


def test_a_translation_reads_as_that_language_does() -> None:
    assert translate(NOT_FOUND, "de") == "SMTP-Konfiguration nicht gefunden"
    assert translate(NOT_FOUND, "zh") == "未找到 SMTP 配置"
