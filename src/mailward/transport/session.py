"""An open, greeted and authenticated connection to a relay, and one transaction after another on it."""

import time
from collections.abc import Callable
from dataclasses import dataclass

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

#: Called once with how a transaction ended, or with a fault of ours that ended it; another may begin at once.
Finished = Callable[["Result | Exception"], None]


class Session:
    """Ready for transactions, one at a time. What the server says drives them, and the leave to hand over."""

    def __init__(self, settings: RelaySettings, connection: RelayConnection, tls: TlsMode) -> None:
        self.connection = connection
        self.tls = tls  #: what is in use: NONE, STARTTLS or IMPLICIT
        self.opened_at = time.monotonic()
        self.idle_since = self.opened_at
        self.is_kept = False  #: it has been idle: it may have died meanwhile
        self.messages = 0  #: transactions begun
        self.by_old_password = False  #: the new one was refused
        self._deadlines = settings.deadlines
        self._recorder: Recorder | None = None
        self._message: Handover | None = None
        self._finished: Finished

    @property
    def is_usable(self) -> bool:
        """Whether another transaction may begin here."""
        return self.connection.is_open and not self.connection.machine.is_spent

    def transact(self, message: Handover, finished: Finished, recorder: Recorder | None = None) -> None:
        """Try to hand over one message, and have `finished` called, with an exception after a fault of ours."""
        self.messages += 1
        self._message, self._finished, self._recorder = message, finished, recorder
        envelope, content = message.envelope, message.content
        self.connection.dot_sent = False
        try:
            unfit = self._unfit(envelope, content)
            if unfit is None:
                self.connection.machine.begin(
                    envelope.reverse_path,
                    envelope.recipients,
                    size=len(content),
                    eight_bit=not content.isascii(),
                    smtputf8=envelope.smtputf8,
                )
        except ValueError as error:
            unfit = _never_sent(envelope, "invalid_address", Reply(550, "5.1.3", str(error)))
        if unfit is not None:
            self._finish(unfit)
        else:
            self.connection.expect(self._deadlines.command_s, self._offered)

    def cut(self) -> None:
        """End at once what is under way; nobody hears of it."""
        self._message = None
        self.connection.cut()

    @property
    def _transaction(self) -> Transaction:
        transaction = self.connection.machine.transaction
        assert transaction is not None
        return transaction

    def _offered(self, answer: Answer | None, trouble: Trouble | None) -> None:
        """Go on after the answer to the envelope."""
        transaction = self._transaction
        if self._recorder is not None:
            _note_envelope(self._recorder, transaction)
        if trouble is not None or self.connection.machine.is_spent or not transaction.wants_content:
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
        try:
            self.connection.send_content(self._message.content, self._deadlines, self._answered)
        except Exception as fault:
            self._break(fault)

    def _answered(self, answer: Answer | None, trouble: Trouble | None) -> None:
        """Go on after the answer to the final dot, or to a content that was refused before its end."""
        if self._recorder is not None and answer is not None:
            self._recorder.note(Stage.FINAL, str(answer.reply), ok=answer.reply.is_positive)
        self._end(trouble)

    def _end(self, trouble: Trouble | None) -> None:
        connection, transaction = self.connection, self._transaction
        if trouble is not None or connection.machine.is_spent:
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
        self._message = None
        self._finished(result)

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
