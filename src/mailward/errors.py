"""What can go wrong by a caller's doing or the world's: one class per kind, each mapped to codes in api/errors.py."""

from functools import partial
from typing import Any, ClassVar


class MailwardError(Exception):
    """An error that a caller may see. `id` occurs once in the code; `message` is a sentence without secrets."""

    #: Stable word for programs in our own API; "": that of the kind.
    word: ClassVar[str] = ""
    #: HTTP status in our own API; 0: that of the kind.
    http_status: ClassVar[int] = 0
    #: Seconds after which it is worth trying again; 0: nobody knows.
    retry_after_s: int = 0

    def __init__(self, id: str, message: str, *, pointer: str = "") -> None:
        """`id`: e.g. "COMMAND-E9K20hxOS9", or "" when the wire contract has none.

        `pointer`: RFC 6901 pointer to the field at fault, e.g. "/to/0"; "" when no field is.
        """
        super().__init__(message)
        self.id = id
        self.message = message
        self.pointer = pointer

    def __str__(self) -> str:
        return f"{self.message} ({self.id})" if self.id else self.message

    def __reduce__(self) -> tuple[Any, ...]:
        """Errors travel from the store process; an exception would only take its sentence along."""
        return partial(type(self), pointer=self.pointer), (self.id, self.message)


class InvalidArgument(MailwardError):
    """The request can never succeed as it stands."""


class Unauthenticated(MailwardError):
    """No token, or none that is known and alive."""


class PermissionDenied(MailwardError):
    """The caller is known and lacks the permission."""


class NotFound(MailwardError):
    """The thing named does not exist, or the caller may not know that it does."""


class AlreadyExists(MailwardError):
    """The thing to be made exists."""


class IdempotencyConflict(AlreadyExists):
    """The idempotency key was used for another request."""

    word = "idempotency_conflict"


class FailedPrecondition(MailwardError):
    """The request is sound but the state forbids it."""


class Conflict(FailedPrecondition):
    """What is to be changed has gone on meanwhile: e.g. the message was handed over already."""

    word = "conflict"
    http_status = 409


class LoginFailed(FailedPrecondition):
    """A secret was to prove itself by a login at the provider, and did not."""

    word = "login_failed"


class ResourceExhausted(MailwardError):
    """A limit is reached: size, rate, quota."""


class TooManyFailures(ResourceExhausted):
    """Wrong too often: what is offered now is not looked at."""

    word = "too_many_failures"


class TooLarge(ResourceExhausted):
    """Larger than the limit for its kind; it will never be taken."""

    word = "message_too_large"
    http_status = 413


class DeadlineExceeded(MailwardError):
    """The caller's or our own deadline passed."""


class Unimplemented(MailwardError):
    """Part of the contract that is not served."""


class Unavailable(MailwardError):
    """Cannot be done now, though it may be later: the store cannot be written, or the server is stopping."""


class Internal(MailwardError):
    """A fault of ours or of a peer we depend on, e.g. a mail server that refused a test mail."""


def refusal_reason(error: BaseException) -> str:
    """Return the word under which the refusal of a message for `error` is counted."""
    match error:
        case TooLarge():
            return "size"
        case ResourceExhausted():
            return "limit"
        case IdempotencyConflict():
            return "idempotency"
        case PermissionDenied():
            return "permission"
        case MailwardError() if not isinstance(error, Unavailable):
            return "syntax"
        case _:
            return "unavailable"
