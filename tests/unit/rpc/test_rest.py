"""REST requests against a made-up implementation of both services."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest
from google.protobuf.descriptor import MethodDescriptor

from mailward.proto.mailward.v1 import messages_pb2
from mailward.proto.zitadel import admin_pb2, message_pb2, options_pb2
from mailward.rpc.http import Headers, Request, Response
from mailward.rpc.rest import RestGateway
from mailward.rpc.service import PROBLEM, Call, Code, Registry, RestStyle, RpcError

ADMIN = admin_pb2.DESCRIPTOR.services_by_name["AdminService"]
MESSAGES = messages_pb2.DESCRIPTOR.services_by_name["MessageService"]
NOON = 1_900_000_000.0
VALID = {"senderAddress": "a@example.com", "senderName": "A", "host": "mail.example.com:25"}


class Admin:
    """Keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    async def add_smtp_config(self, request: admin_pb2.AddSMTPConfigRequest, call: Call) -> Any:
        self.asked.append(request)
        response = admin_pb2.AddSMTPConfigResponse(id="318236234563451")
        response.details.sequence = 7
        return response

    async def update_smtp_config(self, request: admin_pb2.UpdateSMTPConfigRequest, call: Call) -> Any:
        self.asked.append(request)
        return admin_pb2.UpdateSMTPConfigResponse()

    async def get_smtp_config_by_id(self, request: admin_pb2.GetSMTPConfigByIdRequest, call: Call) -> Any:
        self.asked.append(request)
        detail = message_pb2.ErrorDetail(id="QUERY-fwofw", message="SMTP configuration not found")
        raise RpcError(Code.NOT_FOUND, "SMTP configuration not found (QUERY-fwofw)", (detail,))

    async def list_smtp_configs(self, request: admin_pb2.ListSMTPConfigsRequest, call: Call) -> Any:
        await asyncio.Event().wait()

    async def get_secret_generator(self, request: admin_pb2.GetSecretGeneratorRequest, call: Call) -> Any:
        self.asked.append(request)
        return admin_pb2.GetSecretGeneratorResponse()

    async def remove_smtp_config(self, request: admin_pb2.RemoveSMTPConfigRequest, call: Call) -> Any:
        raise KeyError("a secret")


class Messages:
    def __init__(self) -> None:
        self.asked: list[Any] = []

    async def send_message(self, request: messages_pb2.SendMessageRequest, call: Call) -> Any:
        self.asked.append(request)
        if request.subject == "refused":
            raise RpcError(Code.INVALID_ARGUMENT, "no mailbox", code_name="invalid_address", pointer="/to/0")
        return messages_pb2.SendMessageResponse(id="msg_1", state="queued")

    async def list_messages(self, request: messages_pb2.ListMessagesRequest, call: Call) -> Any:
        self.asked.append(request)
        page = messages_pb2.ListMessagesResponse(next_page_token="next")
        page.messages.add(id="msg_1", size_bytes=5)
        return page


async def guard(method: MethodDescriptor, call: Call) -> object:
    wanted = method.GetOptions().Extensions[options_pb2.auth_option].permission
    if wanted and call.metadata.get("authorization") != "Bearer good":
        raise RpcError(Code.UNAUTHENTICATED, "auth header missing")
    return wanted


class Server:
    def __init__(self) -> None:
        self.admin, self.messages = Admin(), Messages()
        registry = Registry(guard)
        registry.add(ADMIN, self.admin, prefix="/admin/v1")
        style = RestStyle(
            problems=True,
            refuse_unknown=True,
            proto_names=True,
            query=True,
            problem_type=PROBLEM.problem_type,
            statuses={"SendMessage": 202},
        )
        registry.add(MESSAGES, self.messages, style=style)
        self.gateway = RestGateway(registry, now=lambda: NOON, new_request_id=lambda: "r1")

    async def __call__(
        self, method: str, target: str, body: Any = None, *, raw: bytes = b"", token: str = "good", **headers: str
    ) -> Response:
        path, _, query = target.partition("?")
        fields = [(name.replace("_", "-"), value) for name, value in headers.items()]
        if token:
            fields.append(("authorization", f"Bearer {token}"))
        return await self.gateway(
            Request(
                method=method,
                target=target.encode("latin-1"),
                path=path,
                query=query,
                headers=Headers.of(fields),
                body=raw if body is None else orjson.dumps(body),
            )
        )


@pytest.fixture
def server() -> Server:
    return Server()


def body_of(response: Response) -> Any:
    return orjson.loads(response.body)


def headers_of(response: Response) -> dict[str, str]:
    return {name.lower(): value for name, value in response.headers}


async def test_add_smtp_config_reaches_its_handler_and_answers_in_camel_case(server: Server) -> None:
    response = await server("POST", "/admin/v1/smtp", VALID)

    assert response.status == 200
    assert body_of(response) == {"details": {"sequence": "7"}, "id": "318236234563451"}
    assert server.admin.asked[0].sender_address == "a@example.com"


async def test_answers_of_a_call_must_not_be_cached(server: Server) -> None:
    headers = headers_of(await server("POST", "/admin/v1/smtp", VALID))

    assert headers["cache-control"] == "no-store"
    assert headers["pragma"] == "no-cache"
    assert headers["expires"] == "Sun, 17 Mar 2030 17:46:40 GMT"
    assert headers["content-type"] == "application/json"


async def test_an_error_shows_code_message_and_details(server: Server) -> None:
    response = await server("GET", "/admin/v1/smtp/100000000000000001")

    assert response.status == 404
    assert body_of(response) == {
        "code": 5,
        "message": "SMTP configuration not found (QUERY-fwofw)",
        "details": [
            {
                "@type": "type.googleapis.com/zitadel.v1.ErrorDetail",
                "id": "QUERY-fwofw",
                "message": "SMTP configuration not found",
            }
        ],
    }


async def test_the_guard_runs_before_validation_and_after_reading(server: Server) -> None:
    refused = await server("POST", "/admin/v1/smtp", {}, token="")
    malformed = await server("POST", "/admin/v1/smtp", raw=b"{bad", token="")

    assert (refused.status, body_of(refused)) == (401, {"code": 16, "message": "auth header missing"})
    assert headers_of(refused)["www-authenticate"] == "auth header missing"
    assert (malformed.status, body_of(malformed)["code"]) == (400, 3)
    assert "cache-control" not in headers_of(malformed)


async def test_a_method_without_permission_needs_no_token_and_a_missing_handler_is_unimplemented(
    server: Server,
) -> None:
    response = await server("GET", "/admin/v1/healthz", token="")

    assert (response.status, body_of(response)) == (501, {"code": 12, "message": "method Healthz not implemented"})


async def test_validation_comes_before_unimplemented(server: Server) -> None:
    response = await server("POST", "/admin/v1/email/smtp", {})

    assert body_of(response)["message"].startswith("invalid AddEmailProviderSMTPRequest.SenderAddress: ")


@pytest.mark.parametrize(
    ("method", "target", "status", "message"),
    [
        ("GET", "/admin/v1/nope", 404, "Not Found"),
        ("GET", "/admin/v1/SMTP", 404, "Not Found"),
        ("GET", "/smtp", 404, "Not Found"),
        ("GET", "/nope/v1/smtp", 404, "Not Found"),
        ("GET", "/admin/v1/smtp/a%2Fb", 404, "Not Found"),
        ("GET", "/admin/v1/smtp/100000000000000001/", 404, "Not Found"),
        ("GET", "/admin/v1/smtp/%FF", 404, "Not Found"),
        ("POST", "/admin/v1/smtp/1/_explode", 404, "Not Found"),
        ("PATCH", "/admin/v1/smtp", 405, "Method Not Allowed"),
        ("PUT", "/admin/v1/smtp", 405, "Method Not Allowed"),
        ("OPTIONS", "/admin/v1/smtp", 405, "Method Not Allowed"),
        ("DELETE", "/admin/v1/email", 405, "Method Not Allowed"),
        ("GET", "/admin/v1/smtp/1/_activate", 405, "Method Not Allowed"),
        ("PUT", "/admin/v1/email/_search", 405, "Method Not Allowed"),
        ("GET", "/admin/v1", 400, "Bad Request"),
    ],
)
async def test_routing_errors_come_before_authentication(
    server: Server, method: str, target: str, status: int, message: str
) -> None:
    response = await server(method, target, token="")

    assert response.status == status
    assert body_of(response) == {"code": {404: 5, 405: 12, 400: 3}[status], "message": message}
    headers = headers_of(response)
    assert "cache-control" not in headers
    assert "allow" not in headers


@pytest.mark.parametrize(("target", "status"), [("/admin/v1/smtp", 405), ("/admin/v1/nope", 404)])
async def test_head_has_a_status_and_no_body(server: Server, target: str, status: int) -> None:
    response = await server("HEAD", target)

    assert (response.status, response.body) == (status, b"")
    assert headers_of(response)["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("target", "location"),
    [
        ("/admin/v1//smtp", "/admin/v1/smtp"),
        ("/admin/v1/./smtp?a=b", "/admin/v1/smtp?a=b"),
        ("/admin/v1/x/../smtp/", "/admin/v1/smtp/"),
        ("//admin/v1", "/admin/v1"),
        ("/admin/v1/smtp%2F%2Fa%20b", "/admin/v1/smtp/a%20b"),
    ],
)
async def test_doubled_slashes_and_dots_are_cleaned_by_a_redirect(server: Server, target: str, location: str) -> None:
    response = await server("GET", target)

    assert response.status == 301
    assert headers_of(response)["location"] == location


async def test_a_bad_escape_is_refused_in_plain_text(server: Server) -> None:
    response = await server("GET", "/admin/v1/smtp/a%zzb")

    assert (response.status, response.body) == (400, b"400 Bad Request")
    assert headers_of(response)["content-type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize(
    ("segment", "id"),
    [
        ("a%20b", "a b"),
        ("a%25b", "a%b"),
        ("a%3Fb", "a?b"),
        ("a+b", "a+b"),
        ("a:b", "a:b"),
        ("_search", "_search"),
        ("%C3%BC", "ü"),
    ],
)
async def test_escapes_and_signs_are_part_of_an_id(server: Server, segment: str, id: str) -> None:
    await server("GET", f"/admin/v1/smtp/{segment}?id=other")

    assert server.admin.asked[0].id == id


async def test_an_empty_id_is_for_the_validation(server: Server) -> None:
    response = await server("GET", "/admin/v1/smtp/")

    assert body_of(response)["message"] == (
        "invalid GetSMTPConfigByIdRequest.Id: value length must be between 1 and 100 runes, inclusive"
    )


async def test_the_path_wins_over_the_body(server: Server) -> None:
    await server("PUT", "/admin/v1/smtp/5", {**VALID, "id": "6"})

    assert server.admin.asked[0].id == "5"


async def test_an_enum_in_a_path_is_a_name_or_a_known_number(server: Server) -> None:
    by_name = await server("GET", "/admin/v1/secretgenerators/SECRET_GENERATOR_TYPE_APP_SECRET")
    by_number = await server("GET", "/admin/v1/secretgenerators/2")
    unknown = await server("GET", "/admin/v1/secretgenerators/99")
    zero = await server("GET", "/admin/v1/secretgenerators/0")

    assert (by_name.status, by_number.status) == (200, 200)
    assert body_of(unknown)["message"] == "type mismatch, parameter: generator_type, error: 99 is not valid"
    assert body_of(zero)["message"] == (
        "invalid GetSecretGeneratorRequest.GeneratorType: value must not be in list [SECRET_GENERATOR_TYPE_UNSPECIFIED]"
    )


async def test_a_body_where_none_belongs_is_not_read(server: Server) -> None:
    response = await server("GET", "/admin/v1/smtp/5", raw=b"{bad")

    assert response.status == 404


async def test_a_form_may_override_the_verb(server: Server) -> None:
    response = await server(
        "POST",
        "/admin/v1/smtp/5",
        x_http_method_override="GET",
        content_type="application/x-www-form-urlencoded",
    )

    assert response.status == 404


async def test_a_timeout_that_is_none_is_refused_before_the_call(server: Server) -> None:
    response = await server("POST", "/admin/v1/smtp", VALID, grpc_timeout="soon")

    assert (response.status, body_of(response)) == (400, {"code": 3, "message": "invalid grpc-timeout: soon"})


async def test_a_timeout_that_passes_ends_the_call(server: Server) -> None:
    response = await server("POST", "/admin/v1/smtp/_search", {}, grpc_timeout="1n")

    assert (response.status, body_of(response)) == (504, {"code": 4, "message": "context deadline exceeded"})


async def test_an_unforeseen_exception_is_internal_and_says_nothing(server: Server) -> None:
    response = await server("DELETE", "/admin/v1/smtp/5")

    assert (response.status, body_of(response)) == (500, {"code": 13, "message": "internal error"})


async def test_a_message_over_four_mebibytes_is_refused_before_authentication(server: Server) -> None:
    response = await server("POST", "/admin/v1/smtp", {**VALID, "user": "u" * 5_242_880}, token="")

    assert (response.status, body_of(response)) == (
        429,
        {"code": 8, "message": "grpc: received message larger than max (5242924 vs. 4194304)"},
    )


async def test_send_message_is_accepted_with_202(server: Server) -> None:
    response = await server("POST", "/v1/messages", {"from": "a@example.com", "to": ["b@example.com"], "text": "Hi"})

    assert (response.status, body_of(response)) == (202, {"id": "msg_1", "state": "queued"})
    assert headers_of(response)["x-request-id"] == "r1"


async def test_a_refusal_is_a_problem_document_with_a_pointer(server: Server) -> None:
    response = await server("POST", "/v1/messages", {"subject": "refused"}, x_request_id="mine-1")

    assert response.status == 400
    assert headers_of(response)["content-type"] == "application/problem+json"
    assert body_of(response) == {
        "type": "urn:mailward:problem:invalid_address",
        "title": "Invalid address",
        "status": 400,
        "detail": "no mailbox",
        "code": "invalid_address",
        "request_id": "mine-1",
        "errors": [{"pointer": "/to/0", "code": "invalid_address", "message": "no mailbox"}],
    }


@pytest.mark.parametrize(
    ("body", "code", "pointer"),
    [
        (b'{"sbject": "x"}', "unknown_field", "/sbject"),
        (b'{"attachments": [{"nme": "x"}]}', "unknown_field", "/attachments/0/nme"),
        (b'{"to": ["a@b", 5]}', "invalid_value", "/to/1"),
        (b'{"to": "a@b"}', "invalid_value", "/to"),
        (b'{"metadata": {"a/b": 5}}', "invalid_value", "/metadata/a~1b"),
        (b'{"attachments": [{"name": "x", "content": "*"}]}', "invalid_value", "/attachments/0/content"),
        (b'{"replyTo": [], "reply_to": []}', "duplicate_field", "/reply_to"),
        (b'{"\\ud800": 1}', "unknown_field", "/?"),
        (b'{"tags": ["a", ""]}', "length", "/tags/1"),
    ],
)
async def test_what_is_wrong_in_a_message_is_pointed_at(server: Server, body: bytes, code: str, pointer: str) -> None:
    response = await server("POST", "/v1/messages", raw=body)

    assert response.status == 400
    assert [(error["code"], error["pointer"]) for error in body_of(response)["errors"]] == [(code, pointer)]


async def test_a_list_is_filtered_by_the_query_string_and_answers_in_snake_case(server: Server) -> None:
    response = await server(
        "GET", "/v1/messages?state=queued&page_size=10&recipient=a%2Bb%40c.d&created_after=2030-01-31T12:00:00Z"
    )

    asked = server.messages.asked[0]
    assert (asked.state, asked.page_size, asked.recipient) == ("queued", 10, "a+b@c.d")
    assert asked.created_after.ToJsonString() == "2030-01-31T12:00:00Z"
    assert body_of(response) == {"messages": [{"id": "msg_1", "size_bytes": 5}], "next_page_token": "next"}


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("page_sise=1", "unknown_field"),
        ("page_size=x", "invalid_value"),
        ("page_size=1&page_size=2", "duplicate_field"),
        ("page_size=201", "range"),
        ("created_after=noon", "invalid_value"),
        ("state=%FF", "invalid_value"),
        ("state=%00", "invalid_value"),
    ],
)
async def test_a_wrong_query_parameter_is_refused(server: Server, query: str, code: str) -> None:
    response = await server("GET", f"/v1/messages?{query}")

    assert (response.status, body_of(response)["code"]) == (400, code)


async def test_routing_errors_below_v1_are_problems(server: Server) -> None:
    missing = await server("GET", "/v1/nope")
    wrong_verb = await server("PUT", "/v1/messages")

    assert (missing.status, body_of(missing)["code"]) == (404, "not_found")
    assert (wrong_verb.status, body_of(wrong_verb)["code"]) == (405, "method_not_allowed")
    assert headers_of(wrong_verb)["allow"] == "GET, POST"


async def test_a_missing_token_is_a_problem_that_names_the_scheme(server: Server) -> None:
    response = await server("GET", "/v1/messages", token="")

    assert (response.status, headers_of(response)["www-authenticate"]) == (401, "Bearer")


async def test_a_body_that_was_too_large_to_read_is_refused(server: Server) -> None:
    request = Request(
        method="POST",
        target=b"/v1/messages",
        path="/v1/messages",
        query="",
        headers=Headers.of([]),
        too_large=99_000_000,
    )

    response = await server.gateway(request)

    assert (response.status, body_of(response)["code"]) == (413, "message_too_large")
    assert server.gateway.max_body("POST", "/v1/messages") == 8 << 20
