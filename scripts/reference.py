"""Write the generated pages below docs/; called by scripts/docs. With --check: exit 1 if one differs."""

import ast
import importlib
import inspect
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import click
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from msgspec import Meta

from mailward import config, errors, metrics
from mailward.api import errors as api_errors
from mailward.api.plain import plain_routes
from mailward.api.services import registry
from mailward.api.texts import translate
from mailward.cli.main import cli
from mailward.proto.comments import COMMENTS
from mailward.proto.validate import validate_pb2
from mailward.proto.zitadel import options_pb2
from mailward.rpc.rest import STATUS
from mailward.rpc.service import Code, Method, Registry
from mailward.rpc.transcode import routes
from mailward.transport.report import CODES

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src/mailward"
DOCS = ROOT / "docs"
_NOTE = "<!-- Written by scripts/docs from the code. Do not edit. -->"


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a Markdown table."""
    head = list(head)
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").strip() or " "


def code(text: object) -> str:
    """Return `text` as code in Markdown."""
    return f"`{text}`"


# -- settings ---------------------------------------------------------------------------------------------------------


def settings_page() -> str:
    hints = get_type_hints(config.Settings, include_extras=True)
    parts = []
    for name in config.names():
        flag = "--" + name.replace("_", "-")
        spellings = [code(name), code(config.PREFIX + name.upper())]
        if name in config.SECRETS:
            spellings += [code(f"{name}_file"), code(f"{config.PREFIX}{name.upper()}_FILE")]
        spellings.append(code(flag + ("-file FILE" if name == "master_key" else "")))
        shape, limits = _shape(hints[name])
        default = config.default(name)
        facts = [f"Default: {_default(default)}", f"Type: {shape}", *([f"Limits: {limits}"] if limits else [])]
        parts.append(
            f"## {name}\n\n{config.description(name)}\n\n{' · '.join(spellings)}\n\n" + "  \n".join(facts) + "\n"
        )
    return f"""# Settings

{(config.__doc__ or "").partition(chr(10))[2].strip()}

`mailward config show --origin` prints what is in effect and where each value comes from; `mailward config check` says
what is wrong. Each setting below: what it means; its name in TOML, in the environment (a secret also as the file that
holds it), as a flag; its default.

""" + "\n".join(parts)


def _shape(hint: Any) -> tuple[str, str]:
    """Return (type in words, limits in words)."""
    metas: list[Meta] = []
    while get_origin(hint) is Annotated:
        hint, *more = get_args(hint)
        metas += [meta for meta in more if isinstance(meta, Meta)]
    limits = []
    for meta in metas:
        for value, words in (
            (meta.ge, "at least"),
            (meta.gt, "more than"),
            (meta.le, "at most"),
            (meta.lt, "less than"),
        ):
            if value is not None:
                limits.append(f"{words} {value:,}")
        if meta.min_length:
            limits.append(f"at least {meta.min_length} of them")
        if meta.pattern:
            limits.append(f"matching `{meta.pattern}`")
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(code(value) for value in get_args(hint)), ", ".join(limits)
    if get_origin(hint) is tuple:
        inner, inner_limits = _shape(get_args(hint)[0])
        return f"list of {inner}s", ", ".join([*limits, *([f"each {inner_limits}"] if inner_limits else [])])
    names = {str: "text", int: "whole number", float: "number", bool: "true or false"}
    return names.get(hint, str(hint)), ", ".join(limits)


def _default(value: Any) -> str:
    if value in ("", ()):
        return "empty"
    if isinstance(value, bool):
        return code(str(value).lower())
    if isinstance(value, tuple):
        return code(", ".join(map(str, value)))
    return code(value)


# -- command line -----------------------------------------------------------------------------------------------------


def cli_page() -> str:
    parts = ["# Command line\n", f"```text\n{_help(cli, 'mailward', None)}\n```\n"]
    context = click.Context(cli, info_name="mailward")
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None
        parts += _commands(command, f"mailward {name}", level=2)
    return "\n".join(parts)


def _commands(command: click.Command, path: str, level: int) -> Iterator[str]:
    yield f"{'#' * level} {path}\n"
    yield f"```text\n{_help(command, path, None)}\n```\n"
    if isinstance(command, click.Group):
        context = click.Context(command, info_name=path)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from _commands(inner, f"{path} {name}", level + 1)


def _help(command: click.Command, path: str, parent: click.Context | None) -> str:
    context = click.Context(command, info_name=path, parent=parent, terminal_width=100, max_content_width=100)
    return command.get_help(context).rstrip()


# -- API --------------------------------------------------------------------------------------------------------------


def services() -> Registry:
    """Return the registry of a gateway whose implementations are classes: enough to tell which methods are served."""
    wanted = {}
    for name, hint in get_type_hints(registry).items():
        if name != "return":
            wanted[name] = 25 << 20 if hint is int else hint
    return registry(**{name: value for name, value in wanted.items() if name in inspect.signature(registry).parameters})


def api_page() -> str:
    known = services()
    parts = [
        "# HTTP API\n",
        "REST, gRPC and gRPC-Web on one port, from the same descriptors (`proto/`). `/openapi.json` is the same as "
        "OpenAPI 3.1, and gRPC tools may ask `grpc.reflection.v1`. Every call with a permission needs `Authorization: "
        "Bearer TOKEN`, over gRPC as metadata.\n",
        "## Plain routes\n",
        table(["path", "answers to"], ((code(path), "GET, HEAD") for path in _plain(known))) + "\n",
    ]
    for name, service in known.services.items():
        parts.append(f"## {name}\n")
        about = COMMENTS.get(name)
        if about:
            parts.append(about + "\n")
        errors = "RFC 9457 problem documents" if service.style.problems else '`{"code", "message", "details"}`'
        unknown = "refused" if service.style.refuse_unknown else "ignored"
        names = "snake_case" if service.style.proto_names else "camelCase"
        parts.append(
            f"Over REST: errors are {errors}, unknown fields are {unknown}, fields are in {names}. A request may have "
            f"{service.max_message_bytes:,} bytes.\n"
        )
        served = [method for method in service.methods.values() if method.handler is not None]
        missing = sorted(method.descriptor.name for method in service.methods.values() if method.handler is None)
        rows = ([code(m.descriptor.name), "<br>".join(_routes(m)), _permission(m)] for m in served)
        parts.append(table(["call", "REST", "permission"], rows) + "\n")
        if missing:
            listed = ", ".join(code(name) for name in missing)
            parts.append(f"Declared and not served (UNIMPLEMENTED, 501), {len(missing)} calls: {listed}.\n")
        for method in served:
            parts += _method(method)
    return "\n".join(parts)


def _plain(known: Registry) -> list[str]:
    given = {"registry": known, "checks": {}, "version": ""}
    wanted = inspect.signature(plain_routes).parameters
    return list(plain_routes(**{name: value for name, value in given.items() if name in wanted}))


def _routes(method: Method) -> list[str]:
    return [code(f"{route.verb} {route.template}") for route in routes(method)]


def _permission(method: Method) -> str:
    permission = method.descriptor.GetOptions().Extensions[options_pb2.auth_option].permission
    return code(permission) if permission else "none"


def _method(method: Method) -> Iterator[str]:
    descriptor = method.descriptor
    yield f"### {descriptor.name}\n"
    if about := COMMENTS.get(descriptor.full_name):
        yield about + "\n"
    rows = list(_fields(descriptor.input_type))
    if rows:
        yield "Request:\n"
        yield table(["field", "type", "limits", "meaning"], rows) + "\n"
    answer = [field.json_name for field in descriptor.output_type.fields]
    yield ("Answer: " + ", ".join(map(code, answer)) + ".\n") if answer else "Answer: an empty object.\n"


def _fields(message: Descriptor, prefix: str = "", depth: int = 0) -> Iterator[list[str]]:
    for field in message.fields:
        name = prefix + field.name
        is_map = field.message_type is not None and field.message_type.GetOptions().map_entry
        many = "[]" if field.is_repeated and not is_map else ""
        about = COMMENTS.get(field.full_name, "") + (" Deprecated." if field.GetOptions().deprecated else "")
        yield [code(name + many), _type(field), _limits(field), about]
        inner = field.message_type
        if inner is not None and not is_map and not inner.full_name.startswith("google.") and depth < 3:
            yield from _fields(inner, f"{name}{many}.", depth + 1)


def _type(field: FieldDescriptor) -> str:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return "map"
    if field.message_type is not None:
        return field.message_type.name
    if field.enum_type is not None:
        return " ".join(code(value.name) for value in field.enum_type.values)
    kinds = {
        FieldDescriptor.CPPTYPE_BOOL: "bool",
        FieldDescriptor.CPPTYPE_INT32: "int32", FieldDescriptor.CPPTYPE_INT64: "int64",
        FieldDescriptor.CPPTYPE_UINT32: "uint32", FieldDescriptor.CPPTYPE_UINT64: "uint64",
        FieldDescriptor.CPPTYPE_DOUBLE: "double", FieldDescriptor.CPPTYPE_FLOAT: "float",
    }  # fmt: skip
    return "bytes" if field.type == FieldDescriptor.TYPE_BYTES else kinds.get(field.cpp_type, "string")


def _limits(field: FieldDescriptor) -> str:
    rules = field.GetOptions().Extensions[validate_pb2.rules]
    said = []
    for _, kind in rules.ListFields():
        if not hasattr(kind, "ListFields"):
            continue
        for rule, value in kind.ListFields():
            if rule.name in ("items", "keys", "values"):
                inner = [f"{r.name} {v}" for _, k in value.ListFields() for r, v in k.ListFields()]
                said.append(f"{rule.name}: {', '.join(inner)}")
            elif not hasattr(value, "ListFields"):
                said.append(f"{rule.name} {list(value) if rule.is_repeated else value}")
    return ", ".join(said)


# -- events -----------------------------------------------------------------------------------------------------------

_CONSTANT = re.compile(r'^([A-Z_]+) = "([a-z]+(?:\.[a-z_]+)+)" *#: *(.+)$', re.M)


def events_page() -> str:
    found = sorted({name: (name, payload, about) for name, payload, about in _events()}.values())
    rows = (
        [code(n), payload, about.replace("None:", "absent:").replace("(None", "(absent")] for n, payload, about in found
    )
    listed = table(["type", "payload", "what happened"], rows)
    return f"""# Events

What the event log holds (`events` in the database). A type's name is for ever, and its payload only grows. Zero values
are left out of a payload; of a `changed` event only what changed is in it. A key with "?" may be missing. Secrets are
sealed. Beside type and payload an event has `aggregate_type`, `aggregate_id`, `version` (of its aggregate, from 1),
`position` (of the log), `editor` (a user id), `peer` (where it was asked for from; empty: at the command line) and
`at_us` (microseconds since 1970).

{listed}
"""


def _events() -> Iterator[tuple[str, str, str]]:
    for path in sorted([*SOURCE.rglob("*events*.py"), SOURCE / "settings/values.py"]):
        text = path.read_text()
        about = _abouts(text)
        for found in _CONSTANT.finditer(text):
            yield found[2], code(found[3]), about.get(found[1], "")
        module = importlib.import_module("mailward." + ".".join(path.relative_to(SOURCE).with_suffix("").parts))
        codec = getattr(module, "CODEC", None)
        keys = codec.keys if codec else {}
        for name, kind in getattr(module, "TYPES", {}).items():
            if not inspect.isclass(kind):
                continue
            payload = ", ".join(
                keys.get(field.name, camel_case(field.name))
                + ("?" if field.default is not MISSING or "None" in str(field.type) else "")
                + (" (sealed)" if "Sealed" in str(field.type) else "")
                for field in fields(kind)
            )
            yield name, code("{" + payload + "}"), (inspect.getdoc(kind) or "").partition("\n")[0]


def camel_case(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(other.capitalize() for other in others)


def _abouts(text: str) -> dict[str, str]:
    """Return, for each constant that names an event's type, what the function that makes the event says of it."""
    return {
        node.id: (ast.get_docstring(function) or "").partition("\n")[0]
        for function in ast.parse(text).body
        if isinstance(function, ast.FunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Name)
    }


# -- errors -----------------------------------------------------------------------------------------------------------


def errors_page() -> str:
    classes = {name: kind for name, kind in vars(errors).items() if _is_kind(kind)}
    codes = {name: api_errors.code_of(kind.__new__(kind)) for name, kind in classes.items()}
    statuses = {name: kind.http_status or STATUS[codes[name]] for name, kind in classes.items()}
    found = sorted(set(_errors(frozenset(classes))))
    rows = ([code(id), kind, codes[kind].name, str(statuses[kind]), text] for id, kind, text in found)
    refusals = sorted(set(_refusals()))
    stages = ([code(name), cause, fix] for name, (cause, fix) in CODES.items())
    return f"""# Errors

Every error has a kind, which gives code and HTTP status, and mostly an id, which occurs once in the code. Programs
branch on code and id, never on the text. `…` stands for what differs. A command ends with the exit code of the kind
(`mailward --help`).

## By id

{table(["id", "kind", "gRPC", "HTTP", "text"], rows)}

## Of access, on ZITADEL's wire

{table(["id", "gRPC", "HTTP", "text"], ([code(id), c, str(STATUS[Code[c]]), text] for id, c, text in refusals))}

## Of conversations with a provider

The code of a stage that failed, in the report of a test mail.

{table(["code", "likely cause", "what to do"], stages)}
"""


def _is_kind(value: object) -> bool:
    return inspect.isclass(value) and issubclass(value, errors.MailwardError)


def _errors(kinds: frozenset[str]) -> Iterator[tuple[str, str, str]]:
    for node, constants in _calls():
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name in kinds and len(node.args) >= 2:
            id = _text(node.args[0], constants)
            if id and "…" not in id:
                yield id, name, translate(_text(node.args[1], constants), "en")


def _refusals() -> Iterator[tuple[str, str, str]]:
    for node, constants in _calls():
        if getattr(node.func, "id", "") == "zitadel_error" and len(node.args) == 3:
            kind, id = node.args[0], _text(node.args[1], constants)
            if isinstance(kind, ast.Attribute) and id and "…" not in id:
                yield id, kind.attr, _text(node.args[2], constants)


def _calls() -> Iterator[tuple[ast.Call, Mapping[str, str]]]:
    """Yield every call in the program, with the texts that its module's constants stand for."""
    for path in sorted(SOURCE.rglob("*.py")):
        if "proto" in path.relative_to(SOURCE).parts:
            continue
        tree = ast.parse(path.read_text())
        constants = {
            target.id: _text(node.value, {})
            for node in tree.body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        yield from ((node, constants) for node in ast.walk(tree) if isinstance(node, ast.Call))


def _text(node: ast.expr, constants: Mapping[str, str]) -> str:
    """Return the text of a literal or constant, "…" for what is only known at run time."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.Name(id=name) if name in constants:
            return constants[name]
        case ast.JoinedStr(values=values):
            return "".join(_text(value, constants) for value in values)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _text(left, constants) + _text(right, constants)
        case _:
            return "…"


# -- metrics ----------------------------------------------------------------------------------------------------------


def metrics_page() -> str:
    rows = []
    for metric in metrics.FAMILIES:
        described = metric.described()
        name = described.name + ("_total" if described.type == "counter" else "")
        rows.append([code(name), described.type, ", ".join(map(code, metric.label_names)), described.documentation])
    return f"""# Metrics

Served at `/metrics` as Prometheus text, without a token. Base units; no address and no message id is ever in a label.
Beside these there are the usual `process_…` and `python_…` series.

{table(["name", "type", "labels", "meaning"], sorted(rows))}
"""


# -- lists of pages ---------------------------------------------------------------------------------------------------


def howto_page() -> str:
    pages = [page for page in sorted((DOCS / "howto").glob("*.md")) if page.name != "index.md"]
    titles = [(page.read_text().partition("\n")[0].removeprefix("# "), page.name) for page in pages]
    return "# How to\n\n" + "\n".join(f"- [{title}]({name})" for title, name in titles)


#: Below docs/.
PAGES = {
    "reference/settings.md": settings_page,
    "reference/cli.md": cli_page,
    "reference/api.md": api_page,
    "reference/events.md": events_page,
    "reference/errors.md": errors_page,
    "reference/metrics.md": metrics_page,
    "howto/index.md": howto_page,
}


def main() -> int:
    stale = []
    for name, write in PAGES.items():
        title, _, rest = write().partition("\n")
        text = f"{title}\n\n{_NOTE}\n{rest.rstrip()}\n"
        page = DOCS / name
        if not page.exists() or page.read_text() != text:
            stale.append(name)
            if "--check" not in sys.argv:
                page.parent.mkdir(parents=True, exist_ok=True)
                page.write_text(text)
    for name in stale:
        print(f"{'stale: ' if '--check' in sys.argv else 'wrote '}docs/{name}", file=sys.stderr)
    if stale and "--check" in sys.argv:
        print("run scripts/docs and commit the result", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
