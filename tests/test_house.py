"""The house rules that a machine can check."""

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted(
    p for p in (ROOT / "src/mailward").rglob("*.py") if "proto" not in p.relative_to(ROOT / "src/mailward").parts
)
TESTS = sorted((ROOT / "tests").rglob("*.py"))


def _id(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", SOURCES, ids=_id)
def test_a_file_does_one_thing_in_at_most_400_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400


@pytest.mark.parametrize("path", [p for p in SOURCES if p.name == "__init__.py"], ids=_id)
def test_a_package_is_empty_so_that_a_name_has_one_address(path: Path) -> None:
    assert path.read_text() == ""


@pytest.mark.parametrize("path", [p for p in SOURCES if p.name != "__init__.py"], ids=_id)
def test_a_module_says_in_one_docstring_what_it_is(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text()))


_STATEMENT = re.compile(r"\b(SELECT\s.+\sFROM|INSERT\s+INTO|UPDATE\s+\w+\s+SET|DELETE\s+FROM)\b", re.S)


@pytest.mark.parametrize("path", [p for p in SOURCES if p.parts[-2] != "db"], ids=_id)
def test_sql_stands_only_in_modules_that_say_so(path: Path) -> None:
    tree = ast.parse(path.read_text())
    docstring = ast.get_docstring(tree) or ""
    statements = [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)]

    assert "(SQL" in docstring or not any(_STATEMENT.search(text) for text in statements if text != docstring)


_KINDS = [
    "InvalidArgument",
    "Unauthenticated",
    "PermissionDenied",
    "NotFound",
    "AlreadyExists",
    "FailedPrecondition",
    "ResourceExhausted",
    "DeadlineExceeded",
    "Unimplemented",
    "Unavailable",
    "Internal",
]
#: On ZITADEL's wire these ids are answered in several places.
_SHARED_ON_THE_WIRE = {""}


def test_an_error_id_occurs_once() -> None:
    """Whoever reads an id in a log finds the one line that raised it."""
    ids: Counter[str] = Counter()
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
                name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                if name in _KINDS:
                    ids[str(node.args[0].value)] += 1

    assert {id: count for id, count in ids.items() if count > 1 and id not in _SHARED_ON_THE_WIRE} == {}


def test_nothing_in_the_repository_names_a_folder_of_one_machine() -> None:
    pattern = re.compile(r"(?<![\w.])/(?:wor" r"k|far" r"m)/")
    named = [_id(p) for p in [*SOURCES, *TESTS, *(ROOT / "docs").rglob("*.md")] if pattern.search(p.read_text())]

    assert named == []


_LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)#]+)(?:#[^)]*)?\)")


@pytest.mark.parametrize(
    "page", sorted([*ROOT.glob("*.md"), *ROOT.glob("benchmarks/*.md"), *ROOT.glob("docs/**/*.md")]), ids=_id
)
def test_a_link_in_the_documentation_leads_somewhere(page: Path) -> None:
    links = _LINK.findall(page.read_text())

    assert [link for link in links if not (page.parent / link).exists()] == []
