"""The languages of an instance: which there are, and how a tag is read (BCP 47; spec 6.10, 8.6)."""

import re

from mailward.errors import InvalidArgument

#: In the order in which GetSupportedLanguages names them.
LANGUAGES = (
    *("bg", "cs", "de", "en", "es", "fr", "hu", "id", "it", "ja"),
    *("ko", "mk", "nl", "pl", "pt", "ro", "ru", "sv", "tr", "zh"),
)
DEFAULT_LANGUAGE = "en"

#: Of three letters (ISO 639-3): these mean a language that has a tag of two, which it is written with.
_LONGER = (
    "bul:bg ces:cs deu:de eng:en spa:es fra:fr hun:hu ind:id ita:it jpn:ja "
    "kor:ko mkd:mk nld:nl pol:pl por:pt ron:ro rus:ru swe:sv tur:tr zho:zh"
)
_SHORTER = dict(pair.split(":") for pair in _LONGER.split())
#: Of two letters: all that ISO 639-1 gave out, those that it took back included.
_TWO_LETTERS = (
    "aa ab ae af ak am an ar as av ay az ba be bg bh bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de dv dz ee "
    "el en eo es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia id ie ig ii ik in io "
    "is it iu iw ja ji jv jw ka kg ki kj kk kl km kn ko kr ks ku kv kw ky la lb lg li ln lo lt lu lv mg mh mi mk "
    "ml mn mo mr ms mt my na nb nd ne ng nl nn no nr nv ny oc oj om or os pa pi pl ps pt qu rm rn ro ru rw sa sc "
    "sd se sg sh si sk sl sm sn so sq sr ss st su sv sw ta te tg th ti tk tl tn to tr ts tt tw ty ug uk ur uz ve "
    "vi vo wa wo xh yi yo za zh zu"
)
_KNOWN = frozenset(_TWO_LETTERS.split())
# Language, script, region, variants, extensions: RFC 5646 2.1, without the grandfathered ones.
_FORM = re.compile(
    r"(?P<language>[a-z]{2,3})(?P<rest>(-[a-z]{4})?(-([a-z]{2}|[0-9]{3}))?(-([a-z0-9]{5,8}|[0-9][a-z0-9]{3}))*"
    r"(-[0-9a-wy-z](-[a-z0-9]{2,8})+)*(-x(-[a-z0-9]{1,8})+)?)",
    re.ASCII,
)


def supported(tag: str) -> str:
    """Return the one of LANGUAGES that `tag` means. A regional one ("en-US") means none.

    Raises InvalidArgument, with one id for what is no tag of a language and another for one that we have no texts in.
    """
    parts = _FORM.fullmatch(tag.lower().replace("_", "-"))
    language = parts["language"] if parts else ""
    if parts is None or (len(language) == 2 and language not in _KNOWN):
        raise InvalidArgument("LANG-jc8Sq", "Could not parse language", pointer="/language")
    language = _SHORTER.get(language, language)
    if parts["rest"] or language not in LANGUAGES:
        raise InvalidArgument("LANG-lg4DP", "Language is not supported", pointer="/language")
    return language
