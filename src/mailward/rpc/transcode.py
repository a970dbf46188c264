"""HTTP paths to methods, by the google.api.http rules of the descriptors."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote, unquote_to_bytes

from google.protobuf.descriptor import FieldDescriptor

from mailward.proto.google.api import annotations_pb2, http_pb2
from mailward.rpc.service import Method, Registry


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """One binding of a method."""

    method: Method
    verb: str  #: "GET", "POST", ...
    template: str  #: with the prefix of the service, e.g. "/admin/v1/smtp/{id}" or "/mailward/v1/providers/{id}:test"
    fields: tuple[FieldDescriptor, ...]  #: what the variables of the template fill, in their order
    takes_body: bool  #: the body is the whole request; otherwise it is not read

    @property
    def segments(self) -> list[str]:
        return self.template.split("/")[1:]


_VARIABLE = re.compile(r"\{([a-z0-9_]+)\}")
_LITERAL = re.compile(r"[A-Za-z0-9_.-]+")
_CUSTOM_VERB = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")


def routes(method: Method) -> Iterator[Route]:
    """Yield the bindings of `method`; none for a method without http rule.

    Templates of literals and single-segment variables with or without a custom verb (":test") at their end, and the
    bodies "*" and none, are understood. Raises ValueError for what google.api.http offers beside: nobody here uses it.
    """
    if not method.descriptor.GetOptions().HasExtension(annotations_pb2.http):
        return
    rule = method.descriptor.GetOptions().Extensions[annotations_pb2.http]
    for binding in (rule, *rule.additional_bindings):
        yield _route(method, binding)


def _route(method: Method, rule: http_pb2.HttpRule) -> Route:
    verb = rule.WhichOneof("pattern")
    if verb is None or verb == "custom" or rule.body not in ("", "*") or rule.response_body:
        raise ValueError(f"{method.path}: this http rule is not understood")
    template = method.service.prefix + getattr(rule, verb)
    path, custom = _split_verb(template)
    if custom is not None and not _CUSTOM_VERB.fullmatch(custom):
        raise ValueError(f"{method.path}: the custom verb {custom!r} is not understood")
    fields = []
    for segment in path.split("/")[1:]:
        variable = _VARIABLE.fullmatch(segment)
        if variable is not None:
            fields.append(method.descriptor.input_type.fields_by_name[variable[1]])
        elif not _LITERAL.fullmatch(segment):
            raise ValueError(f"{method.path}: {segment!r} in its path is not understood")
    return Route(method, verb.upper(), template, tuple(fields), rule.body == "*")


def _split_verb(path: str) -> tuple[str, str | None]:
    """Return `path` without the custom verb in its last segment, and that verb; None when it has no colon."""
    before, colon, custom = path.rpartition(":")
    return (before, custom) if colon and "/" not in custom else (path, None)


class _Node:
    __slots__ = ("any", "custom", "leaves", "literals")

    def __init__(self) -> None:
        self.literals: dict[str, _Node] = {}
        self.any: _Node | None = None
        self.leaves: dict[str, Route] = {}
        self.custom: dict[str, dict[str, Route]] = {}  # custom verb → leaves


class Router:
    """All routes of a registry."""

    def __init__(self, registry: Registry) -> None:
        """Raises ValueError for two bindings of one verb and path."""
        self.routes = [
            route
            for service in registry.services.values()
            for method in service.methods.values()
            for route in routes(method)
        ]
        self._root = _Node()
        for route in self.routes:
            self._add(route)

    def _add(self, route: Route) -> None:
        node = self._root
        path, custom = _split_verb(route.template)
        for segment in path.split("/")[1:]:
            if segment.startswith("{"):
                node.any = node.any or _Node()
                node = node.any
            else:
                node = node.literals.setdefault(segment, _Node())
        leaves = node.leaves if custom is None else node.custom.setdefault(custom, {})
        if route.verb in leaves:
            raise ValueError(f"{route.verb} {route.template} is bound twice")
        leaves[route.verb] = route

    def find(self, verb: str, segments: list[str]) -> Route | None:
        """Return the route for `verb` and the decoded segments of a path; a literal wins over a variable.

        The verb decides with the path: "GET /smtp/_search" is a look-up of the id "_search", though the literal exists
        for POST. A variable matches an empty segment too: its value is for the validation to judge. A colon in the last
        segment begins a custom verb where a method has that one, and is a letter of the value elsewhere.
        """
        return _find(self._root, verb, segments, 0)

    def allowed(self, segments: list[str]) -> list[str]:
        """Return the verbs that `find` knows at this path, in alphabetical order."""
        return [verb for verb in _VERBS if _find(self._root, verb, segments, 0) is not None]


_VERBS = ("DELETE", "GET", "PATCH", "POST", "PUT")


def _find(node: _Node, verb: str, segments: list[str], at: int) -> Route | None:
    if at == len(segments):
        return node.leaves.get(verb)
    if at == len(segments) - 1 and ":" in segments[at]:
        found = _find_custom(node, verb, segments[at])
        if found is not None:
            return found
    literal = node.literals.get(segments[at])
    if literal is not None:
        found = _find(literal, verb, segments, at + 1)
        if found is not None:
            return found
    return None if node.any is None else _find(node.any, verb, segments, at + 1)


def _find_custom(node: _Node, verb: str, segment: str) -> Route | None:
    """Return the route of a last `segment` "value:verb" below `node`, when there is one."""
    value, _, custom = segment.rpartition(":")
    for child in (node.literals.get(value), node.any):
        if child is not None and (found := child.custom.get(custom, {}).get(verb)) is not None:
            return found
    return None


def variables(route: Route, segments: list[str]) -> Iterator[tuple[FieldDescriptor, str]]:
    """Yield each field that the path fills and its text."""
    fields = iter(route.fields)
    for template, segment in zip(route.segments, segments, strict=True):
        if template.startswith("{"):
            yield next(fields), segment if template.endswith("}") else segment.rpartition(":")[0]


class BadEscape(ValueError):
    """A "%" without two hexadecimal digits."""


_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


def decode_path(path: str) -> str | None:
    """Return the path with its escapes undone, an escaped slash included. None: the bytes are no UTF-8.

    `path`: as in the request line, Latin-1 for bytes. Raises BadEscape.
    """
    if "%" not in path:
        if path.isascii():
            return path
    elif _BAD_ESCAPE.search(path):
        raise BadEscape
    try:
        return unquote_to_bytes(path.encode("latin-1")).decode()
    except UnicodeDecodeError:
        return None


def clean_path(path: str) -> str | None:
    """Return where a decoded path with doubled slashes or dot segments leads (escaped), or None if it has none."""
    segments = path.split("/")[1:]
    inner = segments[:-1]
    if "" not in inner and "." not in segments and ".." not in segments:
        return None
    kept: list[str] = []
    for segment in segments:
        if segment == "..":
            del kept[-1:]
        elif segment not in ("", "."):
            kept.append(segment)
    end = "/" if kept and segments[-1] in ("", ".", "..") else ""
    return quote("/" + "/".join(kept) + end, safe="/:@!$&'()*+,;=~-._")
