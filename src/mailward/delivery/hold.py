"""What a node holds in memory: leases in every phase, bounded by the content they keep, with a share for each lane."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from mailward.delivery import lanes
from mailward.delivery.lease import Lane, Lease, Phase
from mailward.message.content import held_bytes

_LEAST_URGENT_FIRST = tuple(reversed(Lane))

# Opens and closes wait for a claim in the same commit, so it must be short: a thousand at once took 40 ms, in which
# twenty connections have nothing to send. Few at a time share the sync of commits that there are anyway.
_CLAIMED_AT_ONCE = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldLimits:
    """How much content may wait in memory; the rest waits in the database, at the price of a claim."""

    messages: int = 4_000
    content_bytes: int = 32 << 20  #: one message may exceed it


class Hold:
    """The leases of one node, each from its reservation or claim until its end is recorded."""

    def __init__(self, limits: HoldLimits) -> None:
        self._limits = limits
        self.leases: set[Lease] = set()
        self.ready: tuple[deque[Lease], ...] = tuple(deque() for _ in Lane)  #: by lane, each in its order
        self._messages = [0 for _ in Lane]  # that keep their content
        self._content_bytes = [0 for _ in Lane]

    @property
    def messages(self) -> int:
        """How many messages keep their content."""
        return sum(self._messages)

    @property
    def content_bytes(self) -> int:
        return sum(self._content_bytes)

    def has_room(self, size_bytes: int, lane: Lane = Lane.TRANSACTIONAL, *, backlog: bool) -> bool:
        """Tell whether a new message of `size_bytes` fits into `lane`'s share.

        While older mail of the lane waits in the database, new mail gets half of the room, or it would starve.
        """
        part = 2 if backlog else 1
        waiting = waiting_bytes = 0
        for other in _LEAST_URGENT_FIRST:
            waiting += self._messages[other]
            waiting_bytes += self._content_bytes[other]
            if other <= lane and (
                waiting >= lanes.memory(other, self._limits.messages) // part
                or waiting_bytes + size_bytes > lanes.memory(other, self._limits.content_bytes) // part
            ):
                return False
        return True

    def rooms(self) -> dict[Lane, tuple[int, int]]:
        """Return how many messages and how many bytes a claim may bring of each lane; without those that are full.

        A lane is full while a claim would bring few: it has room again long before the senders run dry. Codes may use
        what the others cannot.
        """
        rooms: dict[Lane, tuple[int, int]] = {}
        messages, content_bytes = self._limits.messages, self._limits.content_bytes
        for lane in Lane:
            share, share_bytes = (
                lanes.memory(lane, self._limits.messages),
                lanes.memory(lane, self._limits.content_bytes),
            )
            messages = min(messages, share - sum(self._messages[lane:]))
            content_bytes = min(content_bytes, share_bytes - sum(self._content_bytes[lane:]))
            part = 16 if lane is Lane.OTP else 4
            if messages < max(1, min(share // part, _CLAIMED_AT_ONCE)) or content_bytes < share_bytes // part:
                break  # What is less urgent has no more room.
            rooms[lane] = (min(messages, _CLAIMED_AT_ONCE), content_bytes)
        return rooms

    def add(self, lease: Lease) -> None:
        self.leases.add(lease)
        self._messages[lease.lane] += 1
        self._content_bytes[lease.lane] += held_bytes(len(lease.content))

    def add_ready(self, leases: Iterable[Lease]) -> None:
        """Add leases that wait for a sender."""
        for lease in leases:
            self.add(lease)
            self.ready[lease.lane].append(lease)

    def let_go(self, lease: Lease) -> None:
        """Drop the content of a lease that ended; the lease stays until that is recorded."""
        lease.phase = Phase.ENDED
        self._messages[lease.lane] -= 1
        self._content_bytes[lease.lane] -= held_bytes(len(lease.content))
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
        ready = [lease for waiting in self.ready for lease in waiting]
        for waiting in self.ready:
            waiting.clear()
        return ready

    def untouched(self) -> list[Lease]:
        """Return those that may be given back: nothing of them can have reached the provider."""
        return [lease for lease in self.leases if lease.phase in (Phase.READY, Phase.SENDING)]
