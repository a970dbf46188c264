"""Lanes: how much of what there is mail of each urgency may take, and what of each waits. No clock, no storage.

Shares are nested: what counts against a lane is its own use and that of every less urgent one. So a slot that nobody
more urgent needs serves whoever comes, and bulk mail can never fill what a login code is to leave through.
"""

from collections.abc import Iterable, Mapping, Sequence, Sized
from functools import lru_cache
from typing import Final

from mailward.delivery.lease import LANE_NAMES, Lane
from mailward.errors import InvalidArgument

_LANES = tuple(Lane)  # Going through the class itself is dear.
_RESERVED_AT_MOST = 4  # slots that only codes may take; of 200 connections more would be missed by the others


def lane_of(name: str) -> Lane:
    """Return the lane called `name`, the default one for "". Raises InvalidArgument."""
    if not name:
        return Lane.TRANSACTIONAL
    if name not in LANE_NAMES:
        raise InvalidArgument("QUEUE-lane", f"a lane is one of {', '.join(LANE_NAMES)}", pointer="/lane")
    return Lane(LANE_NAMES.index(name))


@lru_cache(maxsize=256)
def slots(lane: Lane, total: int) -> int:
    """Return how many of `total` connections `lane` and all that is less urgent may use: at least 1.

    otp: all. transactional: all but one in ten, at least 1 and at most 4. bulk: half.
    """
    match lane:
        case Lane.OTP:
            return total
        case Lane.TRANSACTIONAL:
            return total if total < 2 else total - min(_RESERVED_AT_MOST, max(1, total // 10))
        case Lane.BULK:
            return max(1, total // 2)


@lru_cache(maxsize=256)
def memory(lane: Lane, total: int) -> int:
    """Return how much of `total`, messages or bytes, `lane` and all that is less urgent may keep waiting in memory."""
    match lane:
        case Lane.OTP:
            return total
        case Lane.TRANSACTIONAL:
            return total - total // 16
        case Lane.BULK:
            return total - total // 2


def next_lane(ready: Sequence[Sized | int], busy: Sequence[int], total: int) -> Lane | None:
    """Return the lane that a free connection serves next: the most urgent with mail and room; None: nobody may.

    `ready`: what waits in each lane, or how much; `busy`: how many conversations each has.
    """
    used = sum(busy)
    for lane in _LANES:
        if used >= slots(lane, total):
            return None  # What is less urgent counts here too.
        if ready[lane]:
            return lane
        used -= busy[lane]
    return None


class Backlog:
    """What may wait in the database, as far as this node knows, lane by lane."""

    def __init__(self) -> None:
        self.lanes: Final = set(Lane)  #: in which something may be due
        self._due_at_us: dict[Lane, int] = {}  # when the next will be, of the others

    def add_all(self) -> None:
        """Nobody knows what was put into the queue."""
        self.lanes.update(Lane)

    def learn(self, lanes: Iterable[Lane], next_due_at_us: Mapping[Lane, int], now_us: int) -> None:
        """Take note that in `lanes` nothing is due before `next_due_at_us`; absent there: nothing waits."""
        for lane in lanes:
            at_us = next_due_at_us.get(lane)
            self._due_at_us.pop(lane, None)
            self.lanes.discard(lane)
            if at_us is None:
                continue
            if at_us <= now_us:
                self.lanes.add(lane)
            else:
                self._due_at_us[lane] = at_us

    def expect(self, lane: Lane, at_us: int) -> bool:
        """Take note that something of `lane` is due at `at_us`; True when that is earlier than anything known of it."""
        known = self._due_at_us.get(lane)
        if known is not None and known <= at_us:
            return False
        self._due_at_us[lane] = at_us
        return True

    @property
    def next_due_at_us(self) -> int | None:
        """When something becomes due in a lane in which nothing is now."""
        return min((at_us for lane, at_us in self._due_at_us.items() if lane not in self.lanes), default=None)
