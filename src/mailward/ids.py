"""Ids: time-ordered integers of exactly 18 decimal digits, and the forms in which doors show them."""

from collections.abc import Callable
from typing import NewType

MessageId = NewType("MessageId", int)
AttemptId = NewType("AttemptId", int)
ProviderId = NewType("ProviderId", str)  #: 18 decimal digits on the wire; any string a client may send
UserId = NewType("UserId", str)
InstanceId = NewType("InstanceId", str)

EPOCH_MS = 1_577_836_800_000  # 2020-01-01T00:00:00Z; ids have 18 digits from 2023 until 2050
MAX_NODE = 0xFF
COMMAND_NODES = 128  #: commands draw node numbers from here up; running gateways stay below
_MESSAGE_PREFIX = "msg_"


class IdSource:
    """Draws ids: milliseconds since 2020 << 20 | node << 12 | counter. Strictly increasing within one source.

    When 4,096 ids are drawn in one millisecond, or the clock steps back, the time part runs ahead of the clock
    instead of waiting or repeating: an id is an order, not a date.
    """

    def __init__(self, node: int, now_ms: Callable[[], int]) -> None:
        """`node`: 0-255, unique among the processes that write to one database. `now_ms`: Unix milliseconds."""
        if not 0 <= node <= MAX_NODE:
            raise ValueError(f"node must be between 0 and {MAX_NODE}, got {node}")
        self._node = node << 12
        self._now_ms = now_ms
        self._ms = 0
        self._counter = 0

    @property
    def last(self) -> int:
        """The id that was drawn last, or that `go_on` named."""
        return self._ms << 20 | self._node | self._counter

    def go_on(self, node: int, after: int) -> None:
        """Draw for `node` from now on, above every id up to `after`: the clock may have been set back since."""
        if not 0 <= node <= MAX_NODE:
            raise ValueError(f"node must be between 0 and {MAX_NODE}, got {node}")
        self._node = node << 12
        ms = after >> 20
        if ms >= self._ms:
            self._ms, self._counter = ms, 0xFFF

    def __call__(self) -> int:
        """Return the next id."""
        ms = self._now_ms() - EPOCH_MS
        if ms > self._ms:
            self._ms, self._counter = ms, 0
        elif self._counter < 0xFFF:
            self._counter += 1
        else:
            self._ms, self._counter = self._ms + 1, 0
        return self._ms << 20 | self._node | self._counter


def format_message_id(id: MessageId) -> str:
    """Return the form that doors show, e.g. "msg_227654321098765432"."""
    return f"{_MESSAGE_PREFIX}{id}"


def parse_message_id(text: str) -> MessageId | None:
    """Return the id in `text`, or None when it is not of the form "msg_" and 18 digits."""
    digits = text.removeprefix(_MESSAGE_PREFIX)
    if len(text) != 22 or digits == text or not (digits.isascii() and digits.isdigit()):
        return None
    return MessageId(int(digits))
