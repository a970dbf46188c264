"""An open, greeted and authenticated connection to a relay, and one transaction after another on it."""

import time
from dataclasses import dataclass

from mailward.message.content import Content
from mailward.message.envelope import Envelope
from mailward.smtp.client import Transaction
from mailward.smtp.reply import Reply
from mailward.transport.base import BeforeHandover, RelaySettings, TlsMode
from mailward.transport.connection import RelayConnection
from mailward.transport.judge import outcomes_of
from mailward.transport.outcome import Bounced, Fault, Outcome, Stage
from mailward.transport.report import Recorder
from mailward.transport.trouble import Trouble


class Session:
    """Ready for transactions, one at a time."""

    def __init__(self, settings: RelaySettings, connection: RelayConnection, tls: TlsMode) -> None:
        self.connection = connection
        self.tls = tls  #: what is in use: NONE, STARTTLS or IMPLICIT
        self.opened_at = time.monotonic()
        self.idle_since = self.opened_at
        self.messages = 0  #: transactions begun
        self.by_old_password = False  #: the new one was refused
        self._settings = settings

    @property
    def is_usable(self) -> bool:
        """Whether another transaction may begin here."""
        return self.connection.is_open and not self.connection.machine.is_spent

    async def transact(
        self, envelope: Envelope, content: Content, before_handover: BeforeHandover, recorder: Recorder | None = None
    ) -> "Result":
        """Try to hand over one message. Raises nothing for the peer's or the network's trouble."""
        self.messages += 1
        machine, connection, deadlines = self.connection.machine, self.connection, self._settings.deadlines
        unfit = self._unfit(envelope, content)
        if unfit is not None:
            return unfit
        try:
            machine.begin(
                envelope.reverse_path,
                envelope.recipients,
                size=len(content),
                eight_bit=not content.isascii(),
                smtputf8=envelope.smtputf8,
            )
        except ValueError as error:
            return _never_sent(envelope, "invalid_address", Reply(550, "5.1.3", str(error)))
        transaction = machine.transaction
        assert transaction is not None
        connection.dot_sent = False
        trouble: Trouble | None = None
        try:
            try:
                answer = await connection.wait(deadlines.command_s)
            finally:
                if recorder is not None:
                    _note_envelope(recorder, transaction)
            if transaction.wants_content and not machine.is_spent:
                await _hand_over(before_handover)
                await connection.send_content(content, deadlines.data_s)
                answer = await connection.wait(deadlines.final_s)
                if recorder is not None:
                    recorder.note(Stage.FINAL, str(answer.reply), ok=answer.reply.is_positive)
        except Trouble as caught:
            trouble = caught
            connection.abort()
        except BaseException:  # Canceled: nothing more may leave, and nobody else may use the connection.
            connection.abort()
            raise
        if machine.is_spent:
            connection.abort()
        outcomes = outcomes_of(transaction, trouble, dot_sent=connection.dot_sent)
        lost = trouble is not None and trouble.code == "connection_lost" and transaction.mail is None
        hung_up = transaction.mail is not None and transaction.mail.code == 421
        return Result(outcomes, trouble, connection.dot_sent, lost or hung_up)

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


async def _hand_over(before_handover: BeforeHandover) -> None:
    try:
        await before_handover()
    except Exception as error:
        reply = Reply(451, "4.3.0", f"the hand-over could not be recorded: {type(error).__name__}")
        raise Trouble(Stage.DATA, "handover_failed", reply, fault=Fault.MESSAGE) from error


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
