"""What a clock that was set back leaves: recipients, and providers, that wait for a time an hour too late (SQL)."""

from collections.abc import Callable

from mailward.db.database import Transaction
from mailward.delivery import health

#: Clocks of healthy machines differ by less.
SLACK_US = 60_000_000

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
    """Notices that the clock was set back while we ran, or, at the first look, before."""

    def __init__(self, now_us: Callable[[], int]) -> None:
        self._now_us = now_us
        self._latest_us: int | None = None

    def seen(self) -> bool:
        """Tell whether it was, and what it left has not been mended. Look at least every minute."""
        now_us = self._now_us()
        if self._latest_us is None or now_us < self._latest_us - SLACK_US:
            return True
        self._latest_us = max(now_us, self._latest_us)
        return False

    def mended(self) -> None:
        """Look for steps from now on."""
        self._latest_us = self._now_us()
