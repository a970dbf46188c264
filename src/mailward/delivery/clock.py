"""What a clock that was set back leaves: recipients, and providers, that wait for a time an hour too late (SQL)."""

from collections.abc import Callable

from mailward.db.database import Transaction
from mailward.delivery import health

#: Clocks of healthy machines differ by less.
SLACK_US = 60_000_000
_AFTERMATH_US, _AGAIN_US = 60_000_000, 5_000_000

# The first two conditions walk the end of the index on what waits: the far future.
_MEND = """
    UPDATE recipients SET state_at_us = :now_us,
                          next_attempt_at_us = CASE WHEN next_attempt_at_us > state_at_us
                                                    THEN :now_us + next_attempt_at_us - state_at_us ELSE :now_us END
     WHERE lane IN (0, 1, 2) AND next_attempt_at_us > :future_us AND state_at_us > :future_us
"""


def mend(tx: Transaction, now_us: int) -> int:
    """Let what has waited since the future wait as long from now on, providers too; return how many recipients did."""
    health.mend(tx, now_us, SLACK_US)
    return tx.execute(_MEND, now_us=now_us, future_us=now_us + SLACK_US)


class StepBack:
    """Notices that the clock was set back while we ran, or, at the first look, before.

    For a minute after that it says so again every few seconds: what was under way then is recorded with the time that
    it began at, after the first mending.
    """

    def __init__(self, now_us: Callable[[], int]) -> None:
        self._now_us = now_us
        self._latest_us: int | None = None
        self._again_us = self._until_us = 0

    def seen(self) -> bool:
        """Tell whether there may be something to be mended. Look at least every minute."""
        now_us = self._now_us()
        if self._stepped(now_us):
            return True
        self._latest_us = max(now_us, self._latest_us or 0)
        return self._again_us <= now_us < self._until_us

    def mended(self) -> None:
        """What there was is mended."""
        now_us = self._now_us()
        if self._stepped(now_us):
            self._until_us = now_us + _AFTERMATH_US
        self._latest_us = now_us
        self._again_us = now_us + _AGAIN_US

    def _stepped(self, now_us: int) -> bool:
        return self._latest_us is None or now_us < self._latest_us - SLACK_US
