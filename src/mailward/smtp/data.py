"""Content on the wire: dot-stuffing both ways (RFC 5321 4.5.2), and the law of CRLF (2.3.8)."""


def stuff(content: bytes) -> bytes:
    """Return `content` as it follows the 354: dots doubled at line starts, CRLF at the end, and the final dot.

    `content` has CRLF line ends only (see `has_bare_line_end`).
    """
    if b"\r\n." in content:
        content = content.replace(b"\r\n.", b"\r\n..")
    if content.startswith(b"."):
        content = b"." + content
    if content.endswith(b"\r\n") or not content:
        return content + b".\r\n"
    return content + b"\r\n.\r\n"


def unstuff(wire: bytes) -> bytes:
    """Return the content of `wire`, which is what came between the 354 and the final dot's line."""
    if b"\r\n." in wire:
        wire = wire.replace(b"\r\n.", b"\r\n")
    return wire[1:] if wire.startswith(b".") else wire


def has_bare_line_end(content: bytes) -> bool:
    """Return whether a CR or LF stands alone in `content`. Servers differ on what those mean: SMTP smuggling."""
    pairs = content.count(b"\r\n")
    return content.count(b"\n") != pairs or content.count(b"\r") != pairs


def has_line_over(content: bytes, limit: int) -> bool:
    """Return whether a line of `content` has more than `limit` octets, its line end not counted (RFC 5322 2.1.1)."""
    start, reach = 0, limit + 2
    while len(content) - start > limit:
        end = content.rfind(b"\n", start, start + reach)
        if end < 0:
            return True
        start = end + 1
    return False


class ContentReader:
    """Collects one content up to its final dot, for a server. Only CRLF "." CRLF ends it."""

    def __init__(self, limit: int) -> None:
        """`limit`: octets kept, dots as stuffed; of longer content only the length is known."""
        self._limit = limit
        self._kept = bytearray()  # begins with a CRLF that never came, so that the first line's dot is found as well
        self.size_bytes = 0  #: octets seen, the final dot's line not counted; complete once `feed` gave the content
        self.is_over_limit = False  #: the content was thrown away

    def feed(self, data: bytes, position: int) -> tuple[int, bytes | None]:
        """Take `data` from `position` on; return where reading ended, and the whole content, still stuffed, or None."""
        kept = self._kept
        if not kept:  # Most often all of the content comes in one piece.
            if data.startswith(b".\r\n", position):
                return position + 3, b""
            end = data.find(b"\r\n.\r\n", position)
            if end >= 0 and end + 2 - position <= self._limit:
                self.size_bytes = end + 2 - position
                return end + 5, data[position : end + 2]
            kept += b"\r\n"
        known = len(kept)
        kept += data[position:]
        end = kept.find(b"\r\n.\r\n", max(0, known - 4))
        if end >= 0:
            self.size_bytes += end
            self.is_over_limit = self.size_bytes > self._limit
            return position + end + 5 - known, b"" if self.is_over_limit else bytes(kept[2 : end + 2])
        if len(kept) > self._limit + 6:
            self.size_bytes += len(kept) - 4
            self.is_over_limit = True
            del kept[:-4]
        return len(data), None
