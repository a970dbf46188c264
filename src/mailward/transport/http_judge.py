"""What an HTTP provider's answer means for a recipient, and whose fault it was (pure)."""

import re
from datetime import UTC
from email.utils import parsedate_to_datetime

from mailward.smtp.reply import Reply
from mailward.transport.outcome import Accepted, Bounced, Deferred, Fault, Outcome, Stage, Uncertain

_LOGIN = frozenset({401, 403, 407})
_MESSAGE = frozenset({400, 413, 422})  # about what we sent; all other 4xx say that the setup is wrong
_GATEWAY_TIMEOUT = 504  # someone between us and the provider gave up waiting: the provider may have taken it
_LONGEST_WAIT_S = 86_400.0
_TEXT = 200  # characters of the answer that are kept

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


def outcome_of(status: int, reason: str, body: bytes, *, body_ended: bool, wait_s: float = 0.0) -> Outcome:
    """Return what becomes of a recipient.

    `status`: a final one, 200-599. `body_ended`: the end of our body may have left before the answer came.
    `wait_s`: what Retry-After asked for.
    """
    reply = Reply(status, "", _words(reason, body))
    if status // 100 == 2:
        if body_ended:
            return Accepted(reply)
        return Uncertain(Reply(status, "", f"answered before the message was sent in full: {reply.text}"))
    if body_ended and status == _GATEWAY_TIMEOUT:
        return Uncertain(reply)
    stage = Stage.AUTH if status in _LOGIN else Stage.FINAL if body_ended else Stage.DATA
    if status in _MESSAGE:
        return Bounced(stage, Fault.MESSAGE, reply)
    return Deferred(stage, Fault.PROVIDER, reply, wait_s)


def retry_after_s(value: str, now_s: float) -> float:
    """Return the seconds that a Retry-After field asks for (RFC 9110 10.2.3), 0 when it says nothing; at most a day."""
    value = value.strip()
    if value.isascii() and value.isdigit():
        return min(float(value[:9]), _LONGEST_WAIT_S)
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return 0.0
    seconds = (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() - now_s
    return min(max(0.0, seconds), _LONGEST_WAIT_S)


def _words(reason: str, body: bytes) -> str:
    text = body[: 4 * _TEXT].decode("utf-8", "replace").strip()
    words = f"{reason}: {text}" if reason and text and text != reason else reason or text
    return _CONTROL.sub(" ", words)[:_TEXT]
