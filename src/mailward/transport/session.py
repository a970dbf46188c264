"""An open, greeted and authenticated connection to a relay, and one transaction after another on it."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mailward.message.content import Content
from mailward.message.envelope import Envelope
from mailward.smtp.client import Answer, Transaction
from mailward.smtp.reply import Reply
from mailward.transport.base import Handover, RelaySettings, TlsMode
from mailward.transport.connection import RelayConnection
from mailward.transport.judge import outcomes_of
from mailward.transport.outcome import Bounced, Fault, Outcome, Stage
from mailward.transport.report import Recorder
from mailward.transport.trouble import Trouble

_QUICK_S = 0.25  # a server that answers a final dot within it gets the next envelope right behind the dot

#: Called once with how a transaction ended, or with a fault of ours that ended it.
Finished = Callable[["Session", Any, "Result | Exception"], None]


class Session:
    """Ready for transactions. What the server says drives them, and the leave to hand over.

    While one waits for the answer to its final dot, the envelope of the next may be with the server already.
    """

    def __init__(self, settings: RelaySettings, connection: RelayConnection, tls: TlsMode) -> None:
        self.connection = connection
        self.tls = tls  #: what is in use: NONE, STARTTLS or IMPLICIT
        self.opened_at = time.monotonic()
        self.idle_since = self.opened_at
        self.is_kept = False  #: it has served before: it may have died meanwhile
        self.messages = 0  #: transactions begun
        self.by_old_password = False  #: the new one was refused
        self.may_follow = True  #: an envelope may go out behind a final dot
        self.was_followed = False  #: one did, behind the last of them
        self.dot_at = 0.0  #: when the last final dot was sent, monotonic
        self._settings = settings
        self._is_quick = False
        self._recorder: Recorder | None = None
        self._message: Handover | None = None
        self._transaction: Transaction
        self._next: Handover | None = None  # whose envelope is behind the final dot of `_message`
        self._next_transaction: Transaction
        self._finished: Finished

    @property
    def is_usable(self) -> bool:
        """Whether another transaction may begin here."""
        return self.connection.is_open and not self.connection.machine.is_spent

    @property
    def is_busy(self) -> bool:
        return self._message is not None

    def is_worn(self, now: float) -> bool:
        """Tell whether it has served for long enough."""
        limit = self._settings.messages_per_connection
        return 0 < limit <= self.messages or now - self.opened_at >= self._settings.max_age_s

    def transact(self, message: Handover, finished: Finished, recorder: Recorder | None = None) -> None:
        """Try to hand over one message, and have `finished` called: with the session, what was sent, and how it ended.

        While the session is busy then, a message that followed is under way, for which it will be called too.
        """
        self._finished, self._recorder = finished, recorder
        transaction = self._offer(message)
        if transaction is not None:
            self._turn_to(message, transaction)

    def cut(self) -> None:
        """End at once what is under way; nobody hears of it."""
        self._message = self._next = None
        self.connection.cut()

    def withdraw(self) -> None:
        """Wait no longer with the message that follows; the connection ends with the one before it."""
        if self._next is not None:
            message, self._next = self._next, None
            message.not_now()

    def _offer(self, message: Handover) -> Transaction | None:
        """Begin with the envelope of `message`; None: it is unfit for this server, and finished."""
        self.messages += 1
        envelope, content = message.envelope, message.content
        try:
            unfit = self._unfit(envelope, content)
            if unfit is None:
                return self.connection.machine.begin(
                    envelope.reverse_path,
                    envelope.recipients,
                    size=len(content),
                    eight_bit=not content.isascii(),
                    smtputf8=envelope.smtputf8,
                )
        except ValueError as error:
            unfit = _never_sent(envelope, "invalid_address", Reply(550, "5.1.3", str(error)))
        self._finished(self, message, unfit)
        return None

    def _turn_to(self, message: Handover, transaction: Transaction) -> None:
        self._message, self._transaction = message, transaction
        self.connection.dot_sent = False
        self.connection.expect(self._settings.deadlines.command_s, self._offered)

    def _offered(self, answer: Answer | None, trouble: Trouble | None) -> None:
        """Go on after the answer to the envelope."""
        if self._recorder is not None:
            _note_envelope(self._recorder, self._transaction)
        if trouble is not None or self.connection.machine.is_spent or not self._transaction.wants_content:
            self._end(trouble)
            return
        assert self._message is not None
        try:
            self._message.before_handover(self._go)
        except Exception as error:
            self._break(error)

    def _go(self, error: Exception | None) -> None:
        if self._message is None:  # It was cut meanwhile.
            return
        if error is not None:
            reply = Reply(451, "4.3.0", f"the hand-over could not be recorded: {type(error).__name__}")
            self._end(Trouble(Stage.DATA, "handover_failed", reply, fault=Fault.MESSAGE))
            return
        self.dot_at = time.monotonic()
        try:
            self.connection.send_content(
                self._message.content, self._settings.deadlines, self._answered, self._let_follow
            )
        except Exception as fault:
            self._break(fault)

    def _let_follow(self) -> None:
        """Put the next envelope behind the final dot. Not for a slow server: who follows could go elsewhere."""
        self.was_followed = False
        pipelines = self._is_quick and self.may_follow and "PIPELINING" in self.connection.machine.extensions
        if not pipelines or self._message is None or self.is_worn(self.dot_at):
            return
        message = self._message.follow()
        if message is not None:
            transaction = self._offer(message)
            if transaction is not None:
                self._next, self._next_transaction = message, transaction
                self.was_followed = True

    def _answered(self, answer: Answer | None, trouble: Trouble | None) -> None:
        """Go on after the answer to the final dot, or to a content that was refused before its end."""
        self._is_quick = answer is not None and time.monotonic() - self.dot_at < _QUICK_S
        if self._recorder is not None and answer is not None:
            self._recorder.note(Stage.FINAL, str(answer.reply), ok=answer.reply.is_positive)
        self._end(trouble)

    def _end(self, trouble: Trouble | None) -> None:
        connection, transaction = self.connection, self._transaction
        was_withdrawn = self._next is None and connection.machine.awaited is not None
        if trouble is not None or connection.machine.is_spent or was_withdrawn:
            connection.abort()
        outcomes = outcomes_of(transaction, trouble, dot_sent=connection.dot_sent)
        lost = trouble is not None and trouble.code == "connection_lost" and transaction.mail is None
        hung_up = transaction.mail is not None and transaction.mail.code == 421
        self._finish(Result(outcomes, trouble, connection.dot_sent, lost or hung_up))

    def _break(self, fault: Exception) -> None:
        if self._message is None:  # It was told how it ended: the fault is theirs who were told.
            raise fault
        self.connection.abort()
        self._finish(fault)

    def _finish(self, result: "Result | Exception") -> None:
        if not self.is_usable:
            self.withdraw()
        message, self._message, self._next = self._message, self._next, None
        following = self._message
        self.is_kept = self.is_kept or following is not None
        self._finished(self, message, result)
        if following is not None and following is self._message:
            self._turn_to(following, self._next_transaction)

    def _unfit(self, envelope: Envelope, content: Content) -> "Result | None":
        """Refuse here what the server has announced that it will not take."""
        machine = self.connection.machine
        limit = machine.size_limit
        if limit and len(content) > limit:
            words = f"the message has {len(content)} octets, the provider takes {limit}"
            return _never_sent(envelope, "message_too_large", Reply(552, "5.3.4", words))
        if envelope.smtputf8 and "SMTPUTF8" not in machine.extensions:
            words = "the provider does not offer SMTPUTF8, which an address or header needs"
            return _never_sent(envelope, "smtputf8_not_offered", Reply(550, "5.6.7", words))
        return None


@dataclass(frozen=True, slots=True)
class Result:
    """What one transaction led to."""

    outcomes: list[Outcome]  #: one per recipient, in order
    trouble: Trouble | None  #: what ended it early
    dot_sent: bool
    is_unheard: bool  #: the connection died before the server took anything in: safe to repeat on another one


def _never_sent(envelope: Envelope, code: str, reply: Reply) -> Result:
    outcomes: list[Outcome] = [Bounced(Stage.MAIL, Fault.MESSAGE, reply)] * len(envelope.recipients)
    return Result(outcomes, Trouble(Stage.MAIL, code, reply, fault=Fault.MESSAGE), False, False)


def _note_envelope(recorder: Recorder, transaction: Transaction) -> None:
    for stage, reply in [
        (Stage.MAIL, transaction.mail),
        *[(Stage.RCPT, reply) for reply in transaction.recipients],
        (Stage.DATA, transaction.data),
    ]:
        if reply is None:
            continue
        recorder.note(stage, str(reply), ok=reply.code // 100 < 4)
        if reply.code == 421:  # Said once, and the answer to all that was still due.
            return
