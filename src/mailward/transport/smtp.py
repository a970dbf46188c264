"""The test of a relay: one whole conversation, by the same code as delivery, reported stage by stage."""

import asyncio
import time

from mailward.message.content import Content
from mailward.message.envelope import Envelope
from mailward.transport import egress
from mailward.transport.base import Go, RelaySettings
from mailward.transport.opening import open_session
from mailward.transport.outcome import Bounced, Deferred, Stage
from mailward.transport.report import Failure, Recorder, Report, failure_of, refusal
from mailward.transport.session import Result, Session
from mailward.transport.tls import relay_context
from mailward.transport.tokens import Tokens
from mailward.transport.trouble import Trouble

_GOODBYE_S = 2.0


async def test(
    settings: RelaySettings,
    envelope: Envelope,
    content: bytes,
    *,
    check: egress.AddressCheck = egress.allow_all,
    tokens: Tokens | None = None,
) -> Report:
    """Hand over one message exactly as a delivery would, on a connection of its own, and report every stage.

    Raises nothing for the peer's or the network's trouble. `tokens`: see SmtpTransport.
    """
    recorder = Recorder(time.monotonic)
    try:
        session = await open_session(
            settings, lambda: relay_context(settings), check=check, recorder=recorder, tokens=tokens
        )
    except Trouble as trouble:
        failure = failure_of(trouble)
        recorder.note(failure.stage, failure.words, ok=False)
        return recorder.report(failure)
    result = await _transacted(session, _Unrecorded(envelope, content), recorder)
    found = _failure(result)
    if found is not None and result.trouble is not None and found.words == result.trouble.reply.text:
        recorder.note(found.stage, found.words, ok=False)
    if session.is_usable:
        await _say_goodbye(session, recorder, settings.deadlines.command_s)
    session.connection.quit()
    return recorder.report(found)


async def login(
    settings: RelaySettings, *, check: egress.AddressCheck = egress.allow_all, tokens: Tokens | None = None
) -> Report:
    """Connect and log in exactly as a delivery would, send no mail, and report every stage. See `test`."""
    recorder = Recorder(time.monotonic)
    try:
        session = await open_session(
            settings, lambda: relay_context(settings), check=check, recorder=recorder, tokens=tokens
        )
    except Trouble as trouble:
        failure = failure_of(trouble)
        recorder.note(failure.stage, failure.words, ok=False)
        return recorder.report(failure)
    await _say_goodbye(session, recorder, settings.deadlines.command_s)
    session.connection.quit()
    return recorder.report(None)


def _failure(result: Result) -> Failure | None:
    trouble = result.trouble
    for outcome in result.outcomes:  # What the server refused says more than how the connection ended.
        if isinstance(outcome, Deferred | Bounced) and (trouble is None or outcome.reply is not trouble.reply):
            return refusal(outcome.stage, outcome.reply)
    if trouble is not None and result.dot_sent:
        trouble = Trouble(Stage.FINAL, "final_unanswered", trouble.reply)
    return failure_of(trouble) if trouble is not None else None


async def _say_goodbye(session: Session, recorder: Recorder, deadline_s: float) -> None:
    session.connection.machine.quit()
    try:
        answer = await session.connection.wait(min(_GOODBYE_S, deadline_s))
        recorder.note(Stage.QUIT, str(answer.reply))
    except Trouble:
        recorder.note(Stage.QUIT, "not answered, which does no harm")


async def _transacted(session: Session, message: "_Unrecorded", recorder: Recorder) -> Result:
    future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()

    def finished(session: Session, message: object, result: Result | Exception) -> None:
        if future.done():
            return
        if isinstance(result, Result):
            future.set_result(result)
        else:
            future.set_exception(result)

    session.transact(message, finished, recorder)
    try:
        return await future
    except BaseException:
        session.cut()
        raise


class _Unrecorded:
    """A Handover of which nothing is recorded."""

    def __init__(self, envelope: Envelope, content: bytes) -> None:
        self.envelope = envelope
        self.content: Content = content

    def before_handover(self, go: Go) -> None:
        go(None)

    def follow(self) -> None:
        """Nothing follows a test."""

    def not_now(self) -> None:
        """It follows nothing."""
