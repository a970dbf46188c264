"""Paths to routes."""

from __future__ import annotations

import pytest
from google.protobuf.descriptor import MethodDescriptor

from mailward.proto.zitadel import admin_pb2
from mailward.rpc.service import Call, Registry
from mailward.rpc.transcode import BadEscape, Router, clean_path, decode_path


async def guard(method: MethodDescriptor, call: Call) -> None: ...


@pytest.fixture(scope="module")
def router() -> Router:
    registry = Registry(guard)
    registry.add(admin_pb2.DESCRIPTOR.services_by_name["AdminService"], object(), prefix="/admin/v1")
    return Router(registry)


def test_every_method_of_the_service_is_reached_at_its_own_path(router: Router) -> None:
    for route in router.routes:
        segments = ["5" if segment.startswith("{") else segment for segment in route.segments]
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
