"""From replies to outcomes: whose fault, and whether to try again."""

from mailward.smtp.client import Transaction
from mailward.smtp.reply import Reply
from mailward.transport.judge import outcomes_of
from mailward.transport.outcome import Accepted, Bounced, Deferred, Fault, Stage, Uncertain
from mailward.transport.report import CODES, failure_of
from mailward.transport.trouble import local

OK, GO = Reply(250, "", "ok"), Reply(354, "", "go")
LOST = local(Stage.FINAL, "connection_lost", "4.4.2", "connection lost")


def test_the_answer_to_the_final_dot_is_for_those_accepted_before() -> None:
    unknown = Reply(550, "5.1.1", "unknown")

    outcomes = outcomes_of(Transaction([OK, unknown], OK, GO, OK), None, dot_sent=True)

    assert outcomes == [Accepted(OK), Bounced(Stage.RCPT, Fault.RECIPIENT, unknown)]


def test_a_lost_answer_to_the_final_dot_is_uncertain_and_any_loss_before_defers() -> None:
    transaction = Transaction([OK], OK, GO)

    assert outcomes_of(transaction, LOST, dot_sent=True) == [Uncertain(LOST.reply)]
    assert outcomes_of(transaction, LOST, dot_sent=False) == [Deferred(Stage.FINAL, Fault.PROVIDER, LOST.reply)]


def test_a_full_mailbox_bounces_where_too_many_recipients_defer() -> None:
    """RFC 5321 4.5.3.1.10; both are said with 552."""
    full, many = Reply(552, "5.2.2", "mailbox full"), Reply(552, "5.5.3", "too many")

    outcomes = outcomes_of(Transaction([OK, full, many], OK, GO, OK), None, dot_sent=True)

    assert outcomes[1:] == [
        Bounced(Stage.RCPT, Fault.RECIPIENT, full),
        Deferred(Stage.RCPT, Fault.RECIPIENT, many),
    ]


def test_every_code_has_a_cause_and_a_fix() -> None:
    for code, (cause, fix) in CODES.items():
        assert cause.endswith(".") and fix.endswith("."), code
    assert failure_of(LOST).code == "connection_lost"
