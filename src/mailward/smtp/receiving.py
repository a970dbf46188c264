"""Receiving a content: found to its end, judged, and in pieces when it is large (RFC 5321 4.5.2, 2.3.8); no I/O."""

from dataclasses import dataclass

from mailward.smtp.data import ContentReader, has_bare_line_end, has_line_over, unstuff
from mailward.smtp.reply import Reply

_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Piece:
    """The beginning of a large content, or what follows that: whole lines, dots unstuffed."""

    content: bytes


@dataclass(frozen=True, slots=True)
class Whole:
    """The content, or what of it follows its pieces, up to the final dot."""

    content: bytes


@dataclass(frozen=True, slots=True)
class Refused:
    """The final dot has come, and the content is refused with `reply`. Its pieces are void."""

    reply: Reply


class ContentReceiver:
    """Takes in one content. The first fault is what it is refused for, once its final dot has come."""

    def __init__(self, *, max_size_bytes: int, max_line_bytes: int, piece_bytes: int) -> None:
        """As in ServerConfig."""
        self._reader = ContentReader(max_size_bytes, piece_bytes)
        self._max_size_bytes = max_size_bytes
        self._max_line_bytes = max_line_bytes
        self._size_bytes = 0  # of the pieces, unstuffed
        self._refusal: Reply | None = None
        self.has_pieces = False  #: there was a Piece

    @property
    def is_hopeless(self) -> bool:
        """The client goes on and on, regardless of SIZE."""
        return self._reader.size_bytes > 2 * self._max_size_bytes + _MIB

    def feed(self, data: bytes, position: int) -> tuple[int, Piece | Whole | Refused | None]:
        """Take `data` from `position` on; return where reading ended, and what there is to act on."""
        reader = self._reader
        position, wire = reader.feed(data, position)
        if wire is None:
            piece = reader.piece()
            if piece is None:
                return position, None
            content = self._judged(piece)
            if self._refusal is not None:
                return position, None
            self.has_pieces = True
            return position, Piece(content)
        content = self._judged(wire)
        return position, Whole(content) if self._refusal is None else Refused(self._refusal)

    def _judged(self, wire: bytes) -> bytes:
        """Return `wire` unstuffed, or find the refusal."""
        content = unstuff(wire)
        self._size_bytes += len(content)
        if self._refusal is not None:
            return b""
        if self._reader.is_over_limit or self._size_bytes > self._max_size_bytes:
            self._refusal = Reply(552, "5.3.4", f"message is larger than {self._max_size_bytes} octets")
        elif has_bare_line_end(wire):
            self._refusal = Reply(550, "5.6.11", "bare CR or bare LF in the message; lines must end with CRLF")
        elif self._max_line_bytes and has_line_over(content, self._max_line_bytes):
            self._refusal = Reply(554, "5.6.0", f"a line is longer than {self._max_line_bytes} octets")
        return content
