"""Frames between a gateway and its store process."""

import pickle

from hypothesis import given
from hypothesis import strategies as st

from mailward.db.frames import FrameReader, frame, pieces
from mailward.errors import InvalidArgument


@given(st.lists(st.binary(max_size=40), max_size=5), st.integers(1, 30))
def test_values_come_out_as_they_went_in_however_they_are_cut(values: list[bytes], size: int) -> None:
    wire = b"".join(map(frame, values))
    reader = FrameReader()
    seen: list[bytes] = []
    for start in range(0, len(wire), size):
        seen += reader.feed(wire[start : start + size])

    assert seen == values


def test_an_error_keeps_its_id_its_sentence_and_its_pointer() -> None:
    error = pickle.loads(pickle.dumps(InvalidArgument("X-1", "no", pointer="/a")))

    assert (type(error), error.id, error.message, error.pointer) == (InvalidArgument, "X-1", "no", "/a")


def test_large_bytes_are_a_piece_of_their_own_and_not_copied() -> None:
    large = bytes(100_000)
    parts = pieces(["a", large, "b"])

    assert any(part is large for part in parts)
    assert pickle.loads(b"".join(parts)) == ["a", large, "b"]
