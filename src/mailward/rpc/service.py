"""Methods and their handlers; every protocol ends in the same `Registry.call`."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Literal

from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from mailward import metrics
from mailward.rpc import validate


class Code(IntEnum):
    """The status codes of gRPC."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class RpcError(Exception):
    """What a caller sees when a call fails, in whatever protocol."""

    def __init__(
        self,
        code: Code,
        message: str,
        details: tuple[Message, ...] = (),
        *,
        code_name: str = "",
        pointer: str = "",
        http_status: int = 0,
        retry_after_s: int = 0,
    ) -> None:
        """`details`: messages beside the text, e.g. an ErrorDetail.

        For REST with problem documents: `code_name` is the stable word for programs ("" = the gRPC code's name in lower
        case), `pointer` the RFC 6901 pointer to the field at fault ("" = none). `http_status`: 0 = follows from `code`.
        `retry_after_s`: when it is worth trying again; 0 = nobody knows.
        """
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = details
        self.code_name = code_name or code.name.lower()
        self.pointer = pointer
        self.http_status = http_status
        self.retry_after_s = retry_after_s


@dataclass(slots=True)
class Call:
    """What is known of one call beside its request message."""

    method: str  #: full path, e.g. "/zitadel.admin.v1.AdminService/AddSMTPConfig"
    metadata: Mapping[str, str]  #: header fields or gRPC metadata, names in lower case; the authority is "host"
    protocol: Literal["rest", "grpc", "grpc-web"]
    peer: str = ""  #: of the request, see http.Request
    request_id: str = ""
    caller: Any = None  #: what the guard returned; None until it ran, and for methods that need no caller


#: Authenticates and authorises. Returns the caller (None where nobody needs to be known) or raises.
Guard = Callable[[MethodDescriptor, Call], Awaitable[Any]]
MethodHandler = Callable[[Any, Call], Awaitable[Any]]
#: Turns an exception that is no RpcError into one, and logs it where that is due.
ErrorMapper = Callable[[Exception, Call], RpcError]


@dataclass(frozen=True, slots=True, kw_only=True)
class RestStyle:
    """How a service looks over REST."""

    problems: bool  #: errors are RFC 9457 problem documents; otherwise {"code", "message", "details"}
    refuse_unknown: bool  #: an unknown field is an error; otherwise it is ignored
    proto_names: bool  #: answers spell names as in the .proto file (snake_case); otherwise in camelCase
    query: bool  #: the query string fills the request of a method without a body; otherwise it is ignored
    problem_type: str = ""  #: what the "type" URI of a problem starts with, e.g. "urn:mailward:problem:"
    statuses: Mapping[str, int] = field(default_factory=dict)  #: method name → HTTP status of success, where not 200


#: As the JSON gateway of ZITADEL.
GATEWAY = RestStyle(problems=False, refuse_unknown=False, proto_names=False, query=False)
#: Our own services.
PROBLEM = RestStyle(
    problems=True, refuse_unknown=True, proto_names=True, query=True, problem_type="urn:mailward:problem:"
)


@dataclass(frozen=True, slots=True, eq=False)
class Service:
    """A registered service."""

    descriptor: ServiceDescriptor
    prefix: str  #: put before the paths of its http rules, e.g. "/admin/v1"
    style: RestStyle
    max_message_bytes: int  #: of one request in binary form; the answer to a larger one is RESOURCE_EXHAUSTED
    methods: dict[str, Method]  #: by name, e.g. "AddSMTPConfig"


@dataclass(frozen=True, slots=True, eq=False)
class Method:
    """A registered method."""

    descriptor: MethodDescriptor
    path: str  #: "/package.Service/Name"
    request: type[Message]
    response: type[Message]
    handler: MethodHandler | None  #: None: declared but not served
    validate: validate.Validator
    service: Service


class Registry:
    """The services of this server, and the one way to call their methods."""

    def __init__(self, guard: Guard, on_error: ErrorMapper | None = None) -> None:
        self._guard = guard
        self._on_error = on_error or _hide
        self.services: dict[str, Service] = {}  #: by full name
        self._methods: dict[str, Method] = {}

    def add(
        self,
        service: ServiceDescriptor,
        implementation: object,
        *,
        prefix: str = "",
        style: RestStyle = GATEWAY,
        max_message_bytes: int = 4 << 20,
    ) -> Service:
        """Register `service`. Its method "AddSMTPConfig" is served by `implementation.add_smtp_config(request, call)`.

        A method without a counterpart answers UNIMPLEMENTED, after guard and validation.
        """
        entry = Service(service, prefix, style, max_message_bytes, {})
        for descriptor in service.methods:
            method = Method(
                descriptor=descriptor,
                path=f"/{service.full_name}/{descriptor.name}",
                request=GetMessageClass(descriptor.input_type),
                response=GetMessageClass(descriptor.output_type),
                handler=getattr(implementation, snake_case(descriptor.name), None),
                validate=validate.validator(descriptor.input_type),
                service=entry,
            )
            entry.methods[descriptor.name] = method
            self._methods[method.path] = method
        self.services[service.full_name] = entry
        return entry

    def method(self, path: str) -> Method | None:
        """Return the method at "/package.Service/Name", or None."""
        return self._methods.get(path)

    def explain(self, error: Exception, call: Call) -> RpcError:
        """Return `error`, raised by a handler, as the caller of `call` sees it."""
        return self._on_error(error, call)

    def unknown(self, path: str) -> RpcError:
        """Return the error for a path at which `method` found nothing."""
        service, _, name = path.removeprefix("/").rpartition("/")
        if service in self.services:
            return RpcError(Code.UNIMPLEMENTED, f"unknown method {name} for service {service}")
        return RpcError(Code.UNIMPLEMENTED, f"unknown service {service}")

    async def call(self, method: Method, request: Message, call: Call, *, timeout_s: float | None = None) -> Message:
        """Return the answer of `method`: guard, then validation, then the handler. Raises RpcError and nothing else.

        `timeout_s`: what the client gives us; DEADLINE_EXCEEDED when it passes.
        """
        code = Code.CANCELLED
        try:
            answer = await self._within(timeout_s, method, request, call)
            code = Code.OK
            return answer
        except RpcError as error:
            code = error.code
            raise
        finally:
            count_call(call.protocol, method, code)

    async def _within(self, timeout_s: float | None, method: Method, request: Message, call: Call) -> Message:
        try:
            if timeout_s is None:
                return await self._call(method, request, call)
            async with asyncio.timeout(timeout_s) as deadline:
                return await self._call(method, request, call)
        except RpcError:
            raise
        except Exception as error:
            if timeout_s is not None and isinstance(error, TimeoutError) and deadline.expired():
                raise RpcError(Code.DEADLINE_EXCEEDED, "context deadline exceeded") from None
            raise self._on_error(error, call) from error

    async def _call(self, method: Method, request: Message, call: Call) -> Message:
        call.caller = await self._guard(method.descriptor, call)
        try:
            method.validate(request)
        except validate.Violation as fault:
            raise RpcError(Code.INVALID_ARGUMENT, fault.message, code_name=fault.rule, pointer=fault.pointer) from None
        if method.handler is None:
            raise RpcError(Code.UNIMPLEMENTED, f"method {method.descriptor.name} not implemented")
        response: Message = await method.handler(request, call)
        return response


def count_call(protocol: str, method: Method, code: Code) -> None:
    """Count a call that ended with `code`."""
    metrics.rpc_calls.labels(protocol, method.path, code.name).inc()


def snake_case(name: str) -> str:
    """Return the Python spelling of a method's name: "AddSMTPConfig" → "add_smtp_config"."""
    return _WORDS.sub(r"_", name).lower()


# Between a small letter or digit and a capital, and before the last capital of a run that a small letter follows.
_WORDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")

_TIMEOUT = re.compile(r"([0-9]{1,8})([HMSmun])")
_UNITS_S = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}


def parse_timeout(text: str) -> float:
    """Return the seconds that a grpc-timeout of `text` allows, e.g. "10S" or "1500m". Raises ValueError."""
    parts = _TIMEOUT.fullmatch(text)
    if parts is None:
        raise ValueError(f"invalid grpc-timeout: {text}")
    return int(parts[1]) * _UNITS_S[parts[2]]


def _hide(error: Exception, call: Call) -> RpcError:
    """Say nothing of an unforeseen exception: its text may hold secrets."""
    return RpcError(Code.INTERNAL, "internal error")
