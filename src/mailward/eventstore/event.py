"""Events: what is decided, and what was recorded."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class NewEvent:
    """A fact that a rule decided and that is not stored yet."""

    type: str  #: wire name, past tense, for ever, e.g. "instance.smtp.config.added"
    payload: Mapping[str, Any]  #: JSON object; zero values are left out


@dataclass(frozen=True, slots=True)
class RecordedEvent:
    """A fact as stored. It never changes; an older payload is brought up to date by whoever folds it."""

    aggregate_type: str
    aggregate_id: str
    version: int  #: 1 is the aggregate's first event; no gaps
    position: int  #: order over all aggregates, increasing, with gaps
    type: str
    payload: dict[str, Any]
    editor: str  #: user id of who did it
    at_us: int  #: microseconds since the Unix epoch
