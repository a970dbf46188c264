"""What became of one recipient in one attempt, and whose fault it was."""

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from mailward.smtp.reply import Reply


class Stage(StrEnum):
    """Where in the conversation with the provider something happened, in order."""

    RESOLVE = "resolve"
    CONNECT = "connect"
    TLS = "tls"
    BANNER = "banner"
    EHLO = "ehlo"
    AUTH = "auth"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"  #: the DATA command and the content, up to the final dot
    FINAL = "final"  #: from the final dot to its answer: the doubtful stretch
    QUIT = "quit"


class Fault(StrEnum):
    """Whose fault a failure is. Decides more than the class digit of the reply (house rules, section 6)."""

    PROVIDER = "provider"  #: resolve, connect, TLS, banner, EHLO, AUTH: defers everybody, feeds the breaker
    MESSAGE = "message"  #: a refusal of MAIL or DATA
    RECIPIENT = "recipient"  #: a refusal of RCPT


@dataclass(frozen=True, slots=True)
class Accepted:
    """The provider took responsibility (2yz to the final dot)."""

    reply: Reply
    stage: ClassVar[Stage] = Stage.FINAL
    fault: ClassVar[None] = None


@dataclass(frozen=True, slots=True)
class Deferred:
    """Not handed over; may be tried again."""

    stage: Stage
    fault: Fault
    reply: Reply  #: the server's, or one made here for local trouble: Reply(451, "4.4.1", "connection refused")
    wait_s: float = 0.0  #: how long the provider asks to be left alone (Retry-After); 0: it did not say


@dataclass(frozen=True, slots=True)
class Bounced:
    """Refused for good."""

    stage: Stage
    fault: Fault
    reply: Reply


@dataclass(frozen=True, slots=True)
class Uncertain:
    """The final dot went out and no answer was seen."""

    reply: Reply  #: made here: what ended the wait
    stage: ClassVar[Stage] = Stage.FINAL
    fault: ClassVar[None] = None


Outcome = Accepted | Deferred | Bounced | Uncertain
