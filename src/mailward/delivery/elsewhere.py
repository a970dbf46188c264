"""What stands in for a Worker in a node that delivers nothing: mail is queued, and a node that does takes it."""

from typing import Any


class Elsewhere:
    """Takes no lease, so there is none to send or to give up."""

    def waits_for(self) -> str:
        """See Worker.waits_for: only nodes that deliver know."""
        return ""

    def reserve(self, *_: Any) -> None:
        """See Worker.reserve."""

    def take(self, *_: Any) -> None:
        """See Worker.take."""

    def drop(self, *_: Any) -> None:
        """See Worker.drop."""

    def forget(self, *_: Any) -> None:
        """See Worker.forget."""

    def wake(self) -> None:
        """See Worker.wake."""
