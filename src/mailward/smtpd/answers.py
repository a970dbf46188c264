"""What the door says when it says no (RFC 5321 4.2.3, RFC 3463, RFC 4954 6)."""

from mailward.errors import (
    IdempotencyConflict,
    MailwardError,
    PermissionDenied,
    ResourceExhausted,
    TooLarge,
    Unavailable,
)
from mailward.smtp.reply import Reply

NOT_STORED = Reply(451, "4.3.0", "the message cannot be stored now, try again later")
BAD_CREDENTIALS = Reply(535, "5.7.8", "authentication credentials invalid")
NO_VERDICT = Reply(454, "4.7.0", "authentication is not available now, try again later")
GOOD_NO_LONGER = Reply(421, "4.7.0", "your credentials are good no longer, authenticate anew")
TOO_MANY_FAILURES = Reply(421, "4.7.0", "too many failed authentications")
TOO_MANY_SESSIONS = Reply(421, "4.3.2", "too many connections, try again later")
TOO_SLOW = Reply(421, "4.4.2", "you took too long, closing")
SHUTTING_DOWN = Reply(421, "4.3.2", "shutting down, try again later")


def refusal(error: BaseException) -> Reply:
    """Return the answer to a message that failed with `error`. A fault of ours is never the client's: 451."""
    match error:
        case Unavailable():
            return NOT_STORED
        case TooLarge():
            return Reply(552, "5.3.4", str(error))
        case ResourceExhausted():
            return Reply(452, "4.3.1", str(error))
        case PermissionDenied() | IdempotencyConflict():
            return Reply(550, "5.7.1", str(error))
        case MailwardError():
            return Reply(550, "5.6.0", str(error))
        case _:
            return NOT_STORED
