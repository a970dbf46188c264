"""What a node holds in memory: leases in every phase, bounded by the content they keep."""

from collections import deque
from dataclasses import dataclass

from mailward.delivery.lease import Lease, Phase


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldLimits:
    """How much content may wait in memory; the rest waits in the database, at the price of a claim."""

    messages: int = 1_000
    content_bytes: int = 32 << 20  #: one message may exceed it


class Hold:
    """The leases of one node, each from its reservation or claim until its end is recorded."""

    def __init__(self, limits: HoldLimits) -> None:
        self._limits = limits
        self.leases: set[Lease] = set()
        self.ready: deque[Lease] = deque()
        self.messages = 0  #: that keep their content
        self.content_bytes = 0

    def has_room(self, size_bytes: int, *, backlog: bool) -> bool:
        """Tell whether a new message of `size_bytes` fits.

        While older mail waits in the database, new mail gets half of the room, or the backlog would starve.
        """
        share = 2 if backlog else 1
        return (
            self.messages < self._limits.messages // share
            and self.content_bytes + size_bytes <= self._limits.content_bytes // share
        )

    def room(self) -> tuple[int, int]:
        """Return how many messages and how many bytes a claim may bring; (0, 0) above the low-water mark.

        The mark is at three quarters, so that claims bring many at a time and the senders never run dry.
        """
        messages = self._limits.messages - self.messages
        content_bytes = self._limits.content_bytes - self.content_bytes
        if messages * 4 < self._limits.messages or content_bytes * 4 < self._limits.content_bytes:
            return 0, 0
        return messages, content_bytes

    def add(self, lease: Lease) -> None:
        self.leases.add(lease)
        self.messages += 1
        self.content_bytes += len(lease.content)

    def let_go(self, lease: Lease) -> None:
        """Drop the content of a lease that ended; the lease stays until that is recorded."""
        lease.phase = Phase.ENDED
        self.messages -= 1
        self.content_bytes -= len(lease.content)
        lease.content = b""

    def remove(self, lease: Lease) -> None:
        """Forget a lease. One that was forgotten before is ignored."""
        if lease in self.leases:
            self.leases.remove(lease)
            if lease.phase is not Phase.ENDED:
                self.let_go(lease)

    def keys(self) -> frozenset[tuple[int, int]]:
        """Return (message id, n) of every recipient held."""
        return frozenset((lease.message_id, due.n) for lease in self.leases for due in lease.due)

    def take_ready(self) -> list[Lease]:
        """Return all that wait for a sender, and leave none."""
        ready = list(self.ready)
        self.ready.clear()
        return ready

    def untouched(self) -> list[Lease]:
        """Return those that may be given back: nothing of them can have reached the provider."""
        return [lease for lease in self.leases if lease.phase in (Phase.READY, Phase.SENDING)]
