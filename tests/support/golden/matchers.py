"""Compares an expectation, which may hold matchers, with an answer. tests/golden/README.md lists the matchers."""

import re
from collections.abc import Callable
from typing import Any, Final

#: Stands for "the key is not there", in an answer.
ABSENT: Final = type("Absent", (), {"__repr__": lambda self: "nothing"})()

_PATTERNS = {
    "$id": r"[0-9]{1,20}",
    "$sequence": r"[0-9]{1,20}",
    "$timestamp": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3}|\.\d{6}|\.\d{9})?Z",
    "$signingKey": r"[A-Za-z0-9]{36}",
    "$string": r"[\s\S]*",
}


def diff(expected: Any, actual: Any, where: str = "body") -> list[str]:
    """Return the differences as readable lines; none when `actual` is what `expected` describes."""
    if isinstance(expected, str) and expected.startswith("$"):
        matched = _match(expected, actual, where)
        if matched is not None:
            return matched
    if isinstance(expected, dict):
        for name, compare in _COMPARISONS.items():
            if name in expected:
                return compare(expected[name], actual, where)
    if actual is ABSENT:
        return [f"{where}: missing, expected {expected!r}"]
    if isinstance(expected, dict) and isinstance(actual, dict):
        lines = [line for key in expected for line in diff(expected[key], actual.get(key, ABSENT), f"{where}.{key}")]
        return lines + [f"{where}.{key}: not expected, got {actual[key]!r}" for key in actual if key not in expected]
    if isinstance(expected, list) and isinstance(actual, list):
        lines = [] if len(expected) == len(actual) else [f"{where}: {len(actual)} items, expected {len(expected)}"]
        pairs = enumerate(zip(expected, actual, strict=False))
        return lines + [line for i, (one, other) in pairs for line in diff(one, other, f"{where}[{i}]")]
    same = expected == actual and isinstance(expected, bool) == isinstance(actual, bool)
    return [] if same else [f"{where}: expected {expected!r}, got {actual!r}"]


def _match(matcher: str, actual: Any, where: str) -> list[str] | None:
    """Compare with a matcher in a string; None when `matcher` is an ordinary text that begins with "$"."""
    optional = matcher.endswith("?") and not matcher.startswith("$re:")
    name = matcher[:-1] if optional else matcher
    if actual is ABSENT:
        return [] if optional or name == "$absent" else [f"{where}: missing, expected {matcher}"]
    if name == "$any":
        return []
    if name == "$absent":
        return [f"{where}: expected nothing, got {actual!r}"]
    pattern = name[4:] if name.startswith("$re:") else _PATTERNS.get(name)
    if pattern is None:
        return None
    fits = isinstance(actual, str) and re.fullmatch(pattern, actual)
    return [] if fits else [f"{where}: expected {matcher}, got {actual!r}"]


def _one_of(choices: list[Any], actual: Any, where: str) -> list[str]:
    fits = any(not diff(choice, actual, where) for choice in choices)
    return [] if fits else [f"{where}: expected one of {choices!r}, got {actual!r}"]


def _unordered(expected: list[Any], actual: Any, where: str) -> list[str]:
    if not isinstance(actual, list) or len(actual) != len(expected):
        return [f"{where}: expected {len(expected)} items in any order, got {actual!r}"]
    rest, lines = list(actual), []
    for one in expected:
        hit = next((item for item in rest if not diff(one, item)), None)
        if hit is None:
            lines.append(f"{where}: no item like {one!r}")
        else:
            rest.remove(hit)
    return lines + [f"{where}: left over {item!r}" for item in rest]


def _contains(expected: list[Any], actual: Any, where: str) -> list[str]:
    found = actual if isinstance(actual, list) else []
    return [f"{where}: no item like {one!r}" for one in expected if all(diff(one, item) for item in found)]


def _each(expected: Any, actual: Any, where: str) -> list[str]:
    if not isinstance(actual, list) or not actual:
        return [f"{where}: expected a list with items, got {actual!r}"]
    return [line for i, item in enumerate(actual) for line in diff(expected, item, f"{where}[{i}]")]


def _length(expected: int, actual: Any, where: str) -> list[str]:
    fits = isinstance(actual, list) and len(actual) == expected
    return [] if fits else [f"{where}: expected {expected} items, got {actual!r}"]


_COMPARISONS: dict[str, Callable[[Any, Any, str], list[str]]] = {
    "$oneof": _one_of,
    "$unordered": _unordered,
    "$contains": _contains,
    "$each": _each,
    "$length": _length,
}
