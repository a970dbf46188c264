"""Paths to routes."""

from __future__ import annotations

import re

import pytest
from google.protobuf.descriptor import MethodDescriptor

from mailward.proto.mailward.v1 import providers_pb2
from mailward.proto.zitadel import admin_pb2
from mailward.rpc.service import Call, Registry
from mailward.rpc.transcode import BadEscape, Router, clean_path, decode_path, variables


async def guard(method: MethodDescriptor, call: Call) -> None: ...


@pytest.fixture(scope="module")
def router() -> Router:
    registry = Registry(guard)
    registry.add(admin_pb2.DESCRIPTOR.services_by_name["AdminService"], object(), prefix="/admin/v1")
    registry.add(providers_pb2.DESCRIPTOR.services_by_name["ProviderService"], object())
    return Router(registry)


def test_every_method_of_the_service_is_reached_at_its_own_path(router: Router) -> None:
    for route in router.routes:
        segments = [re.sub(r"\{[a-z_]+\}", "5", segment) for segment in route.segments]
        found = router.find(route.verb, segments)
        assert found is not None
        assert found.method is route.method


@pytest.mark.parametrize(
    ("verb", "path", "method"),
    [
        ("POST", "/admin/v1/smtp/_search", "ListSMTPConfigs"),
        ("GET", "/admin/v1/smtp/_search", "GetSMTPConfigById"),
        ("POST", "/admin/v1/smtp/_test", "TestSMTPConfig"),
        ("POST", "/admin/v1/smtp/_test/_test", "TestSMTPConfigById"),
        ("GET", "/admin/v1/smtp/", "GetSMTPConfigById"),
        ("GET", "/admin/v1/email/http", "GetEmailProviderById"),
        ("POST", "/admin/v1/email/smtp/_test", "TestEmailProviderSMTP"),
        ("POST", "/admin/v1/email/smtp/_activate", "ActivateEmailProvider"),
        ("GET", "/admin/v1/languages/default", "GetDefaultLanguage"),
        ("GET", "/admin/v1/text/deafult/message/passwordreset/en", "GetDefaultPasswordResetMessageText"),
        ("GET", "/admin/v1/text/default/message/passwordreset/en", "GetDefaultPasswordResetMessageText"),
        ("DELETE", "/admin/v1/failedevents/a/b/3", "RemoveFailedEvent"),
        ("PUT", "/admin/v1/smtp/_search", "UpdateSMTPConfig"),
    ],
)
def test_verb_and_path_decide_together(router: Router, verb: str, path: str, method: str) -> None:
    route = router.find(verb, path.split("/")[1:])

    assert route is not None
    assert route.method.descriptor.name == method


def test_a_known_path_says_which_verbs_it_has(router: Router) -> None:
    assert router.allowed(["admin", "v1", "smtp", "5"]) == ["DELETE", "GET", "PUT"]
    assert router.allowed(["admin", "v1", "nope"]) == []


@pytest.mark.parametrize(
    ("path", "decoded"),
    [("/a%20b", "/a b"), ("/a%2Fb", "/a/b"), ("/%C3%BC", "/ü"), ("/\xc3\xbc", "/ü"), ("/%FF", None), ("/a+b", "/a+b")],
)
def test_escapes_are_bytes_of_utf_8(path: str, decoded: str | None) -> None:
    assert decode_path(path) == decoded


@pytest.mark.parametrize("path", ["/%", "/%z", "/%zz", "/a%2"])
def test_half_an_escape_is_refused(path: str) -> None:
    with pytest.raises(BadEscape):
        decode_path(path)


@pytest.mark.parametrize(
    ("path", "cleaned"),
    [
        ("/a/b", None),
        ("/a/", None),
        ("/", None),
        ("//a", "/a"),
        ("/a//", "/a/"),
        ("/a/./b", "/a/b"),
        ("/a/../../b", "/b"),
        ("/a/..", "/"),
        ("/a/b/.", "/a/b/"),
        ("/.a/..b", None),
        ("//ü ?", "/%C3%BC%20%3F"),
        ("//evil.example/x", "/evil.example/x"),
    ],
)
def test_doubled_slashes_and_dots_lead_elsewhere(path: str, cleaned: str | None) -> None:
    assert clean_path(path) == cleaned


@pytest.mark.parametrize(
    ("verb", "path", "method", "id"),
    [
        ("POST", "/mailward/v1/providers/5:test", "TestProvider", "5"),
        ("POST", "/mailward/v1/providers/5:rotate", "RotateProviderSecret", "5"),
        ("POST", "/mailward/v1/providers/a:b:test", "TestProvider", "a:b"),
        ("POST", "/mailward/v1/providers/:test", "TestProvider", ""),
        ("GET", "/mailward/v1/providers/5:test", "GetProvider", "5:test"),
        ("GET", "/mailward/v1/providers/5:else", "GetProvider", "5:else"),
        ("GET", "/admin/v1/smtp/5:test", "GetSMTPConfigById", "5:test"),
    ],
)
def test_a_colon_begins_a_custom_verb_only_where_a_method_has_it(
    router: Router, verb: str, path: str, method: str, id: str
) -> None:
    segments = path.split("/")[1:]
    route = router.find(verb, segments)

    assert route is not None
    assert route.method.descriptor.name == method
    assert [text for _, text in variables(route, segments)] == [id]


def test_a_custom_verb_that_nobody_has_is_not_found(router: Router) -> None:
    assert router.find("POST", ["mailward", "v1", "providers", "5:nope"]) is None
    assert router.find("POST", ["mailward", "v1", "providers", "5:test", "x"]) is None
    assert router.allowed(["mailward", "v1", "providers", "5:test"]) == ["GET", "PATCH", "POST"]
