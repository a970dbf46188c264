"""What ends a conversation early: where, whose fault, and a stable code for reports."""

from dataclasses import replace

from mailward.smtp.reply import Reply
from mailward.transport.outcome import Fault, Stage
from mailward.transport.refusal import code_of


class Trouble(Exception):
    """The conversation cannot go on. Becomes an outcome or a report, never the caller's exception."""

    def __init__(
        self,
        stage: Stage,
        code: str,
        reply: Reply,
        *,
        from_server: bool = False,
        fault: Fault = Fault.PROVIDER,
        advice: tuple[str, str] | None = None,
    ) -> None:
        """`code`: a key of report.CODES. `reply`: the server's if `from_server`, else made here.

        `advice`: likely cause and what to do, where more is known than what CODES has.
        """
        super().__init__(f"{stage}: {code}: {reply}")
        self.stage = stage
        self.code = code
        self.reply = reply
        self.from_server = from_server
        self.fault = fault
        self.advice = advice

    def worded(self, text: str) -> "Trouble":
        """Return the same trouble with `text` as its reply's words."""
        reply = replace(self.reply, text=text)
        return Trouble(self.stage, self.code, reply, from_server=self.from_server, fault=self.fault, advice=self.advice)


def refused(stage: Stage, reply: Reply) -> Trouble:
    """The server answered `reply` where it should have agreed."""
    return Trouble(stage, code_of(stage, reply), reply, from_server=True)


def local(stage: Stage, code: str, enhanced: str, text: str, advice: tuple[str, str] | None = None) -> Trouble:
    """Trouble seen only on this side, worded as a temporary failure."""
    return Trouble(stage, code, Reply(451, enhanced, text), advice=advice)
