"""What a connection has read is handled a slice at a time, so that the other connections have their turn."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from mailward.rpc.limits import KIB


class Turn:
    """How many bytes one connection handles before it is the others' turn: those of a few milliseconds.

    A number alone would not do: 16 KiB are one frame of a body, or six hundred requests that are given up at once.
    """

    __slots__ = ("bytes",)

    def __init__(self) -> None:
        self.bytes = 2 * KIB

    def took(self, seconds: float) -> None:
        """Make the next turn shorter or longer after one that took so long."""
        if seconds > 0.010:
            self.bytes = max(self.bytes // 2, KIB // 2)
        elif seconds < 0.001:
            self.bytes = min(self.bytes * 2, 16 * KIB)


class Backlog:
    """What was read from one transport and is not yet handled; while there is any, nothing more is read."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, transport: asyncio.Transport, handle: Callable[[bytes], None]
    ) -> None:
        self._loop = loop
        self._transport = transport
        self._handle = handle
        self._turn = Turn()
        self._data = bytearray()

    def add(self, data: bytes) -> None:
        """Handle what was just read, the first slice of it at once."""
        if self._data:
            self._data += data
        elif len(data) <= self._turn.bytes:
            self._handle(data)
        else:
            self._data += data
            self._transport.pause_reading()
            self._next()

    def _next(self) -> None:
        size = self._turn.bytes
        data = bytes(self._data[:size])
        del self._data[:size]
        began = self._loop.time()
        self._handle(data)
        self._turn.took(self._loop.time() - began)
        if self._data:
            self._loop.call_soon(self._next)
        elif not self._transport.is_closing():
            self._transport.resume_reading()
