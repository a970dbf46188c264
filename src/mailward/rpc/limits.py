"""What a port puts up with: sizes, numbers and deadlines of connections, requests and streams."""

from __future__ import annotations

from dataclasses import dataclass

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Defaults fit a gateway on a public address. Deadlines are kept to a quarter of the shortest (at most 1 s)."""

    #: Seconds from the first byte of a request head to its end, and from accepting a connection to its first byte.
    head_s: float = 10.0
    #: Seconds that the next piece of a body may take to come.
    body_idle_s: float = 30.0
    #: Slowest average rate of a body in bytes a second, asked for once `body_idle_s` have gone by.
    body_bytes_per_s: float = 1024.0
    #: The same of a large body (large.LARGE_BYTES), while which others may wait for room.
    large_bytes_per_s: float = 64 * 1024.0
    #: Seconds a connection may stay without any request. Long, because a gRPC channel that is closed under its
    #: client costs that client's next call.
    idle_s: float = 300.0
    #: Seconds without progress while the peer does not take what we write.
    write_stall_s: float = 60.0
    #: Seconds that a connection we have finished with is still read from, so that the peer sees our last answer
    #: instead of a reset (RFC 9112 9.6).
    linger_s: float = 2.0

    #: Largest request head in bytes (request line and fields); on HTTP/2 the header list as RFC 9113 6.5.2 counts it.
    head_bytes: int = 64 * KIB
    #: Most header fields in a request.
    head_fields: int = 128
    #: A body that is too large is read to its end when it is no longer than this, so that the connection lives on.
    drained_bytes: int = 32 * MIB
    #: Bytes of large bodies that all connections of a port may hold together; one more is being worked on.
    large_bytes: int = 80 * MIB
    #: Bytes of unfinished smaller bodies that they may hold together.
    buffered_bytes: int = 256 * MIB
    #: Connections beyond this number are answered 503 and closed.
    connections: int = 16_384

    #: HTTP/2: streams of one connection at a time.
    streams: int = 250
    #: HTTP/2: handlers of one connection at a time, those of streams given up by the client included.
    running: int = 1_000
    #: HTTP/2: resets allowed at once, and per second in the long run (CVE-2023-44487).
    resets: int = 2_000
    resets_per_s: float = 100.0
    #: HTTP/2: PING, SETTINGS, PRIORITY and empty DATA frames allowed at once, and per second (CVE-2019-9512).
    control_frames: int = 2_000
    control_frames_per_s: float = 500.0
    #: HTTP/2: bytes that may wait for a peer that sends but does not read.
    unread_bytes: int = 8 * MIB


class Budget:
    """A token bucket: `burst` at once, `per_s` a second in the long run. Time is an argument (s, any origin)."""

    __slots__ = ("burst", "left", "per_s", "seen")

    def __init__(self, burst: float, per_s: float) -> None:
        self.burst = self.left = float(burst)
        self.per_s = per_s
        self.seen = 0.0

    def spend(self, now: float) -> bool:
        """Take one token; False when there was none."""
        self.left = min(self.burst, self.left + max(0.0, now - self.seen) * self.per_s)
        self.seen = now
        if self.left < 1.0:
            return False
        self.left -= 1.0
        return True
