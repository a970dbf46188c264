"""The dispatcher and its CORS rules."""

import inspect
from typing import Any

import pytest

from mailward.rpc import cors
from mailward.rpc.app import App
from mailward.rpc.http import Headers, Request, Response
from tests.support.http import GET, Service, registry

ORIGIN = "https://app.example.com"


def request(method: str, path: str, *, version: str = "1.1", **fields: str) -> Request:
    headers = Headers.of([(name.replace("_", "-"), value) for name, value in fields.items()])
    return Request(method, path.encode(), path, "", headers, http_version=version)


def app() -> App:
    return App(
        registry(Service()),
        lambda request: Response(404, body=b"rest"),
        {"/livez": lambda request: Response(200, body=b"route"), "/ui/": lambda request: Response(200, body=b"ui")},
        rest_limit=lambda method, path: 77,
    )


async def ask(request: Request) -> Response:
    handler = app()
    answer: Any = handler(request)
    response: Response = await answer if inspect.isawaitable(answer) else answer
    handler.finish(request, response)
    return response


def only_cors(response: Response) -> dict[str, str]:
    return {
        name.removeprefix("access-control-"): value
        for name, value in response.headers
        if name.startswith("access-control-")
    }


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (request("GET", "/livez"), b"route"),
        (request("HEAD", "/livez"), b"route"),
        (request("GET", "/ui/pages/1"), b"ui"),
        (request("GET", "/livez/2"), b"rest"),
        (request("GET", "/ui"), b"rest"),
        (request("POST", GET, content_type="application/grpc"), b"rest"),
        (request("GET", GET, version="2", content_type="application/grpc"), b"rest"),
        (request("POST", GET, content_type="application/json", connect_protocol_version="1"), b"rest"),
        (request("OPTIONS", "/admin/v1/smtp"), b"rest"),
    ],
)
async def test_everything_goes_where_it_belongs(asked: Request, expected: bytes) -> None:
    assert (await ask(asked)).body == expected


async def test_calls_go_to_their_protocol() -> None:
    over_grpc = await ask(request("POST", GET, version="2", content_type="application/grpc"))
    over_web = await ask(request("POST", GET, content_type="application/grpc-web"))

    assert ("grpc-message", "EOF") in over_grpc.headers
    assert ("content-type", "application/grpc-web") in over_web.headers


async def test_nothing_is_for_search_engines() -> None:
    for asked in (request("GET", "/livez"), request("OPTIONS", "/x", access_control_request_method="GET")):
        assert ("x-robots-tag", "none") in (await ask(asked)).headers


def test_a_body_may_be_as_large_as_what_it_is_for() -> None:
    assert app().max_body("POST", "/v1/messages") == 77
    assert app().max_body("POST", GET) > (4 << 20) * 4 // 3


async def test_a_preflight_is_answered_for_any_path_without_a_token() -> None:
    response = await ask(
        request(
            "OPTIONS",
            "/admin/v1/nope",
            origin=ORIGIN,
            access_control_request_method="PUT",
            access_control_request_headers="authorization,content-type",
        )
    )

    assert (response.status, response.body) == (204, b"")
    assert only_cors(response) == {
        "allow-origin": ORIGIN,
        "allow-methods": "PUT",
        "allow-headers": "authorization,content-type",
        "allow-credentials": "true",
    }


@pytest.mark.parametrize(
    ("fields", "allowed"),
    [
        ({"access_control_request_method": "GET"}, True),
        ({"access_control_request_method": "TRACE"}, False),
        ({"access_control_request_method": "POST", "access_control_request_headers": "x-other"}, False),
        ({"access_control_request_method": "POST", "access_control_request_headers": "content-type, accept"}, True),
        ({"access_control_request_method": "POST", "access_control_request_headers": "Grpc-Timeout"}, True),
    ],
)
def test_a_preflight_that_asks_for_too_much_gets_nothing(fields: dict[str, str], allowed: bool) -> None:
    response = cors.preflight(request("OPTIONS", "/admin/v1/smtp", origin=ORIGIN, **fields))

    assert response is not None and response.status == 204
    names = {name for name, _ in response.headers if name.startswith("access-control-")}
    assert bool(names) is allowed
    assert "access-control-max-age" not in names and "access-control-expose-headers" not in names


def test_a_preflight_of_grpc_web_may_be_kept_and_has_a_list_of_its_own() -> None:
    allowed, refused = (
        cors.preflight(
            request(
                "OPTIONS",
                GET,
                origin=ORIGIN,
                access_control_request_method="POST",
                access_control_request_headers=f"authorization,content-type,x-grpc-web{more}",
            )
        )
        for more in ("", ",x-requested-with")
    )

    assert allowed is not None and dict(allowed.headers)["access-control-max-age"] == "600"
    assert dict(allowed.headers)["access-control-allow-headers"] == "authorization,content-type,x-grpc-web"
    assert refused is not None and "access-control-allow-origin" not in dict(refused.headers)


@pytest.mark.parametrize("path", ["/livez", "/nope"])
async def test_answers_errors_included_may_be_read_by_any_origin(path: str) -> None:
    response = dict((await ask(request("GET", path, origin=ORIGIN))).headers)

    assert response["access-control-allow-origin"] == ORIGIN
    assert response["access-control-allow-credentials"] == "true"
    assert response["access-control-expose-headers"] == (
        "Location, Content-Length, Grpc-Status, Grpc-Message, Grpc-Status-Details-Bin"
    )
    assert "access-control-allow-methods" not in response and "access-control-max-age" not in response


async def test_without_an_origin_there_is_nothing_to_allow() -> None:
    assert only_cors(await ask(request("GET", "/livez"))) == {}
