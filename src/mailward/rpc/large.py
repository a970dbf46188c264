"""Large bodies: in blocks, so that nobody has to hold one twice, and no more at a time than there is room for."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

LARGE_BYTES = 1 << 20  #: a body beyond it is a large one
_BLOCK_BYTES = 1 << 20  #: so much that the allocator gives it back to the system (db.heap)


class Room:
    """How many bytes of large bodies may be held; who comes when there is no room waits in line."""

    def __init__(self, size: int) -> None:
        self._size = self._left = size
        self._line: deque[LargeBody] = deque()

    def enter(self, body: LargeBody) -> None:
        """Admit `body` now, or as soon as there is room."""
        body.reserved = min(body.reserved, self._size)
        self._line.append(body)
        self._admit()

    def leave(self, body: LargeBody) -> None:
        """Take its room back, or its place in the line."""
        if body.is_admitted:
            self._left += body.reserved
        elif body in self._line:
            self._line.remove(body)
        self._admit()

    def _admit(self) -> None:
        while self._line and self._line[0].reserved <= self._left:
            body = self._line.popleft()
            self._left -= body.reserved
            body.is_admitted = True
            body.admitted()


class LargeBody:
    """A body on its way in. More of it is to be read once it `is_admitted`."""

    def __init__(self, room: Room, size: int, admitted: Callable[[], None]) -> None:
        """`size`: bytes that it will have at most. `admitted`: called when it is, perhaps at once."""
        self.size = 0  #: bytes that came
        self.reserved = size
        self.is_admitted = False
        self.admitted = admitted
        self._room: Room | None = room
        self._blocks: deque[bytearray] = deque()
        self._used = _BLOCK_BYTES  # of the last block
        room.enter(self)

    def __len__(self) -> int:
        return self.size

    def add(self, octets: bytes) -> None:
        """Append what came."""
        self.size += len(octets)
        rest = memoryview(octets)
        while rest:
            if self._used == _BLOCK_BYTES:
                self._blocks.append(bytearray(_BLOCK_BYTES))
                self._used = 0
            count = min(len(rest), _BLOCK_BYTES - self._used)
            self._blocks[-1][self._used : self._used + count] = rest[:count]
            self._used += count
            rest = rest[count:]

    def take(self) -> Iterator[bytearray]:
        """Yield it block by block, and keep nothing."""
        if self._blocks:
            del self._blocks[-1][self._used :]
        while self._blocks:
            yield self._blocks.popleft()

    def take_whole(self) -> bytearray:
        """Return all of it, and keep nothing."""
        whole = bytearray(self.size)  # of which the system gives only what is written
        at = 0
        for block in self.take():
            whole[at : at + len(block)] = block
            at += len(block)
        return whole

    def leave(self) -> None:
        """Give its room to the next one: it is being worked on, or nobody wants it any more."""
        room, self._room = self._room, None
        if room is not None:
            room.leave(self)
