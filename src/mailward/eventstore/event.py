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
    peer: str = ""  #: "address:port" of the client who asked for it; "" when it was done at the command line


class Editor(str):
    """A user id that remembers where its user called from, so that the log can tell. Equal to the id alone."""

    __slots__ = ("peer",)

    peer: str  #: "address:port"

    def __new__(cls, user_id: str, peer: str) -> "Editor":
        editor = super().__new__(cls, user_id)
        editor.peer = peer
        return editor

    def __reduce__(self) -> tuple[type["Editor"], tuple[str, str]]:
        return Editor, (str(self), self.peer)
