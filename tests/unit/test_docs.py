"""What the pages tell people to type exists: commands with their flags, settings, calls of the API and their fields.

Many are typed and run by tests/e2e/peers/test_docs.py; some no test can run (systemd, another company's login).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from mailward.api.services import registry
from mailward.cli.main import cli
from mailward.config import Settings
from mailward.rpc import protojson_read
from mailward.rpc.transcode import Router, decode_path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
_BLOCK = re.compile(r"^```(?:sh|console)\n(.*?)^```$", re.M | re.S)
_HERE = re.compile(r"<<'?(\w+)'?.*?^\1$", re.M | re.S)
#: Paths outside the services; tests/e2e has those.
_PLAIN = ("/oauth/", "/.well-known/", "/metrics", "/livez", "/readyz", "/healthz")


_INNER = re.compile(r"\$\(((?:[^()]|\([^()]*\))*)\)", re.S)


def commands(page: Path) -> Iterator[list[str]]:
    """Yield the commands of a page, as a shell takes them apart."""
    for block in _BLOCK.findall(page.read_text()):
        text = re.sub(r"^[$#] (?=\S)", "", _HERE.sub("", block), flags=re.M)
        text = re.sub(r"(^|\s)#.*$", "", text.replace("\\\n", " "), flags=re.M)
        for inner in _INNER.findall(text):
            yield from _split(inner)
        yield from _split(_INNER.sub("X", text))


def _split(text: str) -> Iterator[list[str]]:
    lexer = shlex.shlex(text, posix=True, punctuation_chars="\n|&;<>")
    lexer.whitespace, lexer.whitespace_split = " \t", True
    lexer.commenters = ""
    words: list[str] = []
    for word in [*lexer, "\n"]:
        if set(word) <= set("\n|&;<>"):
            while words and re.match(r"\w+=", words[0]):
                words.pop(0)
            if words:
                yield words
            words = []
        else:
            words.append(word)


OURS = [
    pytest.param(words, id=f"{page.stem}:{' '.join(words)[:60]}")
    for page in PAGES
    for words in commands(page)
    if words[0].rpartition("/")[2] == "mailward" or words[0] == "scripts/run"
]
CALLS = [
    pytest.param(words, id=f"{page.stem}:{' '.join(words)[:60]}")
    for page in PAGES
    for words in commands(page)
    if words[0] == "curl"
]


def test_the_pages_have_commands_and_calls() -> None:
    assert len(OURS) > 50
    assert len(CALLS) > 20


@pytest.mark.parametrize("words", OURS)
def test_a_command_of_a_page_exists_with_its_flags(words: list[str]) -> None:
    args = words[1:] if "mailward" in words[0] else ["serve", *words[1:]]
    command: click.Command = cli
    context = click.Context(cli, info_name="mailward")
    while isinstance(command, click.Group):
        name, found, args = command.resolve_command(context, args)
        assert name is not None and found is not None
        context, command = click.Context(found, parent=context, info_name=name), found

    options, rest, _ = command.make_parser(context).parse_args(list(args))

    assert not rest
    for parameter in command.params:
        value = options.get(parameter.name)
        if isinstance(parameter.type, click.Choice) and isinstance(value, str):
            parameter.type.convert(value, parameter, context)
        assert not (parameter.required and value is None)


@pytest.fixture(scope="module")
def router() -> Router:
    nobody: Any = object()
    return Router(registry(nobody, nobody, nobody, nobody, nobody, nobody, max_message_bytes=1))


@pytest.mark.parametrize("words", CALLS)
def test_a_call_of_a_page_is_one_of_the_api(words: list[str], router: Router) -> None:
    url = next(word for word in words if re.match(r"\$MAILWARD/|\w+://", word))
    if url.startswith("smtp://"):
        return
    path = re.sub(r"^\$MAILWARD|^https?://[^/]+", "", url).partition("?")[0].replace("$", "")
    if path.startswith(_PLAIN):
        return
    bodies = [words[n + 1] for n, word in enumerate(words) if word in ("-d", "--data")]
    method = words[words.index("-X") + 1] if "-X" in words else "POST" if bodies else "GET"

    decoded = decode_path(path)
    assert decoded is not None
    route = router.find(method, decoded.split("/")[1:])

    assert route is not None, f"{method} {path}"
    for body in bodies:
        if not body.startswith("@"):
            protojson_read.parse(route.method.request, body.encode(), refuse_unknown=True)


def test_every_setting_that_a_page_names_exists() -> None:
    names = {f"MAILWARD_{field.upper()}" for field in Settings.__struct_fields__}
    named = {
        (page.stem, name) for page in PAGES for name in re.findall(r"\bMAILWARD_[A-Z][A-Z_]+[A-Z]\b", page.read_text())
    }

    assert {one for one in named if one[1] not in names and one[1].removesuffix("_FILE") not in names} == set()
