"""Which language a tag means."""

import pytest

from mailward.errors import InvalidArgument
from mailward.settings.languages import LANGUAGES, supported


@pytest.mark.parametrize("tag", LANGUAGES)
def test_a_language_that_we_have_is_its_own_tag(tag: str) -> None:
    assert supported(tag) == tag


@pytest.mark.parametrize(("tag", "language"), [("DE", "de"), ("eng", "en"), ("Zho", "zh")])
def test_a_tag_is_read_in_any_case_and_the_shorter_of_two_is_meant(tag: str, language: str) -> None:
    assert supported(tag) == language


@pytest.mark.parametrize("tag", ["fi", "en-US", "en_US", "zh-Hant", "de-CH", "uk", "gsw", "de-x-a", "de-1996"])
def test_what_is_a_language_but_none_of_ours_is_said_to_be_unsupported(tag: str) -> None:
    """The original sets no regional ones either (spec 8.6)."""
    with pytest.raises(InvalidArgument) as caught:
        supported(tag)

    assert str(caught.value) == "Language is not supported (LANG-lg4DP)"


@pytest.mark.parametrize("tag", ["xx", "", "d", "english", "de-", "-de", "de--CH", "12", "ü", "d e", "x-a", "de-ä"])
def test_what_is_no_language_is_said_to_be_unreadable(tag: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        supported(tag)

    assert str(caught.value) == "Could not parse language (LANG-jc8Sq)"
