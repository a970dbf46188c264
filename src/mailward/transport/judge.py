"""From the replies of one transaction to one outcome per recipient, by the rule of whose fault it was (pure)."""

from mailward.smtp.client import Transaction
from mailward.smtp.reply import Reply
from mailward.transport.outcome import Accepted, Bounced, Deferred, Fault, Outcome, Stage, Uncertain
from mailward.transport.trouble import Trouble

# "Authentication required" and its kin, wherever they are said: a wrong setup must not bounce the queue.
# 454 is "not now" about login, TLS or, from some, the rate (RFC 4954 4.7.4, RFC 3207 4).
_SETUP_CODES = frozenset({454, 530, 534, 535, 538})


def outcomes_of(transaction: Transaction, trouble: Trouble | None, *, dot_sent: bool) -> list[Outcome]:
    """Return one outcome per recipient, in order.

    `trouble`: what ended the transaction before its replies were complete; None when they are. `dot_sent`: whether
    the final dot may have left. A refusal that was answered stands, whatever came later.
    """
    mail, data, final = transaction.mail, transaction.data, transaction.final
    if mail is not None and not mail.is_positive:
        return [_refusal(Stage.MAIL, Fault.MESSAGE, mail)] * len(transaction.recipients)
    rest: Outcome
    if final is not None:
        rest = Accepted(final) if final.is_positive else _refusal(Stage.FINAL, Fault.MESSAGE, final)
    elif data is not None and data.code != 354:
        rest = _refusal(Stage.DATA, Fault.MESSAGE, data)
    elif trouble is not None:
        rest = Uncertain(trouble.reply) if dot_sent else Deferred(trouble.stage, trouble.fault, trouble.reply)
    else:
        rest = Deferred(Stage.DATA, Fault.PROVIDER, Reply(451, "4.5.0", "the transaction was not completed"))
    outcomes: list[Outcome] = []
    accepted_before = False
    for reply in transaction.recipients:
        if reply is None or reply.is_positive:
            outcomes.append(rest)
            accepted_before = accepted_before or reply is not None
        elif accepted_before and _is_too_many(reply):
            outcomes.append(Deferred(Stage.RCPT, Fault.RECIPIENT, reply))
        else:
            outcomes.append(_refusal(Stage.RCPT, Fault.RECIPIENT, reply))
    return outcomes


def all_deferred(trouble: Trouble, recipients: int) -> list[Outcome]:
    """Return the outcomes when there was no transaction at all."""
    return [Deferred(trouble.stage, trouble.fault, trouble.reply)] * recipients


def _refusal(stage: Stage, fault: Fault, reply: Reply) -> Outcome:
    if reply.code == 421 or reply.code in _SETUP_CODES:
        return Deferred(stage, Fault.PROVIDER, reply)
    return Bounced(stage, fault, reply) if reply.is_permanent else Deferred(stage, fault, reply)


def _is_too_many(reply: Reply) -> bool:
    """RFC 5321 4.5.3.1.10: older servers say 552 where 452 is meant; 5.2.x is a full mailbox and stands."""
    return reply.code == 552 and not reply.enhanced.startswith("5.2.")
