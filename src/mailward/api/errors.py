"""From an exception to what a caller sees: kind → code and status, id → ErrorDetail, text → the caller's language."""

import traceback
from collections.abc import Callable
from pathlib import Path

from mailward import errors, log
from mailward.api.texts import choose, translate
from mailward.errors import MailwardError
from mailward.proto.zitadel.message_pb2 import ErrorDetail
from mailward.rpc.service import Call, Code, RpcError
from mailward.settings.languages import DEFAULT_LANGUAGE

#: Spec 2.3. The HTTP status follows from the code, in rpc.
_CODES: dict[type[MailwardError], Code] = {
    errors.InvalidArgument: Code.INVALID_ARGUMENT,
    errors.Unauthenticated: Code.UNAUTHENTICATED,
    errors.PermissionDenied: Code.PERMISSION_DENIED,
    errors.NotFound: Code.NOT_FOUND,
    errors.AlreadyExists: Code.ALREADY_EXISTS,
    errors.FailedPrecondition: Code.FAILED_PRECONDITION,
    errors.ResourceExhausted: Code.RESOURCE_EXHAUSTED,
    errors.DeadlineExceeded: Code.DEADLINE_EXCEEDED,
    errors.Unimplemented: Code.UNIMPLEMENTED,
    errors.Unavailable: Code.UNAVAILABLE,
    errors.Internal: Code.INTERNAL,
}
_ZITADEL = "/zitadel."
_INTERNAL = errors.Internal("API-In7rn", "An internal error occurred")


def on_error(error: Exception, call: Call, *, language: Callable[[], str] = lambda: DEFAULT_LANGUAGE) -> RpcError:
    """Return what the caller of `call` sees of `error`. What nobody foresaw is logged and said to be internal.

    `language`: says which one those get who ask for none.
    """
    if isinstance(error, MailwardError):
        return to_rpc(error, call, language=language)
    _log(error, call)
    return to_rpc(_INTERNAL, call, language=language)


def to_rpc(error: MailwardError, call: Call, *, language: Callable[[], str] = lambda: DEFAULT_LANGUAGE) -> RpcError:
    """Return `error` as the wire has it.

    For ZITADEL's services the text is in the language that the caller prefers, with the id behind it; an error of no
    id is one that ZITADEL passes through, an internal one of that sort is of code UNKNOWN (spec 2.3, 5.3).
    """
    code = code_of(error)
    if not error.id:
        code = Code.UNKNOWN if code is Code.INTERNAL else code
        return RpcError(code, error.message, pointer=error.pointer)
    if not call.method.startswith(_ZITADEL):
        detail = ErrorDetail(id=error.id, message=error.message)
        return RpcError(
            code,
            error.message,
            (detail,),
            code_name=error.word,
            pointer=error.pointer,
            http_status=error.http_status,
            retry_after_s=error.retry_after_s,
        )
    told = zitadel_error(code, error.id, translate(error.message, language_of(call, language())))
    told.retry_after_s = error.retry_after_s
    return told


def zitadel_error(code: Code, id: str, text: str) -> RpcError:
    """Return an error with an id as ZITADEL words it: "text (id)", and both in an ErrorDetail."""
    return RpcError(code, f"{text} ({id})", (ErrorDetail(id=id, message=text),))


def code_of(error: MailwardError) -> Code:
    """Return the code of the error's kind; INTERNAL for kinds that are no caller's doing, e.g. an unreadable secret."""
    return next((_CODES[kind] for kind in type(error).__mro__ if kind in _CODES), Code.INTERNAL)


def language_of(call: Call, default: str) -> str:
    """Return the language in which the caller wants to read: one of languages.LANGUAGES, `default` for none of them."""
    metadata = call.metadata
    return choose(metadata.get("accept-language") or metadata.get("grpcgateway-accept-language", ""), default)


def _log(error: Exception, call: Call) -> None:
    """Log where it happened, not what it said: the text of a foreign exception may hold secrets."""
    frames = traceback.extract_tb(error.__traceback__)[-8:]
    where = [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames]
    log.write(
        "error", "call.failed", method=call.method, request_id=call.request_id, kind=type(error).__name__, where=where
    )
