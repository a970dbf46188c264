"""A large content comes in pieces of whole lines, and means what it would mean as a whole."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailward.smtp.data import stuff
from mailward.smtp.receiving import ContentReceiver, Piece, Refused, Whole

_lines = st.lists(st.sampled_from([b"\r\n", b".\r\n", b"..\r\n", b".x\r\n", b"a\r\n", b"abcdefgh\r\n"]), max_size=40)


def _receive(wire: bytes, size: int, *, piece_bytes: int = 16, max_size_bytes: int = 1 << 20) -> list[object]:
    receiver = ContentReceiver(max_size_bytes=max_size_bytes, max_line_bytes=100, piece_bytes=piece_bytes)
    found: list[object] = []
    for start in range(0, len(wire), size):
        data, position = wire[start : start + size], 0
        while position < len(data):
            position, one = receiver.feed(data, position)
            if one is not None:
                found.append(one)
            if isinstance(one, Whole | Refused):
                return found
    raise AssertionError("it did not end")


@given(_lines, st.integers(1, 50))
def test_pieces_and_rest_are_the_content_however_it_is_cut(lines: list[bytes], size: int) -> None:
    content = b"".join(lines)

    *pieces, rest = _receive(b"".join(stuff(content)), size)

    assert isinstance(rest, Whole)
    bodies = [piece.content for piece in pieces if isinstance(piece, Piece)]
    assert b"".join([*bodies, rest.content]) == content
    assert all(body.endswith(b"\r\n") and len(body) <= 16 for body in bodies)


@given(_lines, st.integers(1, 50), st.integers(1, 50))
def test_the_cuts_are_the_contents_not_the_networks(lines: list[bytes], one: int, other: int) -> None:
    """Or the same mail would be stored, and fingerprinted, in another way each time."""
    wire = b"".join(stuff(b"".join(lines)))

    *first, _ = _receive(wire, one)
    *second, _ = _receive(wire, other)

    common = min(len(first), len(second))  # What came in one read with the final dot is not cut.
    assert first[:common] == second[:common]


@pytest.mark.parametrize("size", [1, 7, 16, 1000])
@pytest.mark.parametrize("bare", [b"x\ny\r\n", b"x\ry\r\n"])
def test_a_bare_line_end_behind_pieces_is_refused(bare: bytes, size: int) -> None:
    found = _receive(b"0123456\r\n" * 8 + bare + b"0123456\r\n" * 8 + b".\r\n", size)

    refused = found[-1]
    assert isinstance(refused, Refused)
    assert refused.reply.code == 550
    assert all(isinstance(one, Piece) and b"x" not in one.content for one in found[:-1])


def test_a_bare_lf_before_the_dot_at_the_edge_of_a_piece_ends_nothing() -> None:
    """What one server takes for the end and another for content must reach neither (SMTP smuggling)."""
    wire = b"0123456789abc\n.\r\nMAIL FROM:<eve@example.com>\r\n" + b"z" * 20 + b"\r\n.\r\n"

    [refused] = _receive(wire, 3)

    assert isinstance(refused, Refused)


def test_a_content_is_refused_when_its_pieces_together_are_too_large() -> None:
    found = _receive(b"0123456\r\n" * 8 + b".\r\n", 10, max_size_bytes=60)

    assert isinstance(found[-1], Refused)
    assert found[-1].reply.code == 552
