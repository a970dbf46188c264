"""The REST steps of golden sessions as gRPC and gRPC-Web steps: every call is to answer the same in each protocol."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal
from urllib.parse import unquote

from google.protobuf.descriptor import MethodDescriptor

from mailward.proto.google.api import annotations_pb2
from mailward.proto.zitadel import admin_pb2
from mailward.rpc.service import Code

Step = dict[str, Any]
Protocol = Literal["grpc", "grpcweb"]

_PREFIX = "/admin/v1"
_READABLE = {"name", "as", "method", "path", "body", "headers", "capture", "expect", "also_ok"}


def translate(step: Step, protocol: Protocol) -> Step:
    """Return `step` for `protocol`, or as it is when it is about REST itself: routes, unreadable JSON."""
    if not set(step) <= _READABLE or not isinstance(step.get("body", {}), dict):
        return step
    found = _call(step["method"], step["path"])
    expect, others = _expect(step["expect"]), [_expect(other) for other in step.get("also_ok", [])]
    if found is None or expect is None or None in others:
        return step
    method, variables = found
    translated: Step = {key: step[key] for key in ("name", "as", "capture") if key in step}
    translated |= {
        protocol: f"/{method.containing_service.full_name}/{method.name}",
        "request": {**step.get("body", {}), **variables},
        "metadata" if protocol == "grpc" else "headers": step.get("headers", {}),
        "expect": expect,
    }
    return translated | ({"also_ok": others} if others else {})


def _call(verb: str, path: str) -> tuple[MethodDescriptor, dict[str, str]] | None:
    for method, rule_verb, pattern in _ROUTES:
        if verb == rule_verb and (match := pattern.fullmatch(path)):
            return method, {name: unquote(value) for name, value in match.groupdict().items()}
    return None


def _routes() -> Iterator[tuple[MethodDescriptor, str, re.Pattern[str]]]:
    for method in admin_pb2.DESCRIPTOR.services_by_name["AdminService"].methods:
        rule = method.GetOptions().Extensions[annotations_pb2.http]
        verb = rule.WhichOneof("pattern")
        if verb:
            template = re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(_PREFIX + getattr(rule, verb)))
            yield method, verb.upper(), re.compile(template)


# A path that is spelled out is more than one that has a variable there.
_ROUTES = sorted(_routes(), key=lambda route: route[2].pattern.count("(?P"))


def _expect(expected: Mapping[str, Any]) -> Step | None:
    """Return what gRPC is to answer, None for what only REST can answer so."""
    body = expected.get("body")
    if expected.get("status") == 200:
        return {"code": "OK", "response": body}
    if not isinstance(body, dict) or "code" not in body or _OF_REST.match(str(body["message"])):
        return None
    return {"code": Code(body["code"]).name, "message": body["message"], "details": body.get("details", [])}


_OF_REST = re.compile(r"proto:|Not Found|Method Not Allowed|Bad Request|type mismatch|invalid character|\$")
