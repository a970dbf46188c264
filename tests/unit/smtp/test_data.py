"""Dot-stuffing and the law of CRLF."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailward.smtp.data import ContentReader, has_bare_line_end, has_line_over, stuff, unstuff

contents = st.lists(st.sampled_from([b".", b"..", b"a", b"\r\n", b".\r\n", b"\r\n.\r\n", b"ab.c"])).map(
    lambda parts: b"".join([*parts, b"\r\n"])
)


@given(contents)
def test_unstuffing_undoes_stuffing(content: bytes) -> None:
    wire = b"".join(stuff(content))

    assert wire.endswith(b"\r\n.\r\n")
    assert unstuff(wire[:-3]) == content


@given(contents, st.lists(st.integers(0, 200)))
def test_a_content_is_read_alike_wherever_its_bytes_are_cut(content: bytes, cuts: list[int]) -> None:
    wire = b"".join(stuff(content)) + b"MAIL FROM:<next@example.com>\r\n"
    bounds = [0, *sorted(min(cut, len(wire)) for cut in cuts), len(wire)]
    reader = ContentReader(1000)

    end, found = 0, None
    for start, stop in pairwise(bounds):
        position, found = reader.feed(wire[start:stop], 0)
        if found is not None:
            end = start + position
            break

    assert found is not None
    assert unstuff(found) == content
    assert wire[end:] == b"MAIL FROM:<next@example.com>\r\n"


def test_content_without_a_line_end_gets_one_and_empty_content_none() -> None:
    assert b"".join(stuff(b"a")) == b"a\r\n.\r\n"
    assert b"".join(stuff(b"")) == b".\r\n"
    assert ContentReader(10).feed(b".\r\n", 0) == (3, b"")


def test_content_over_the_limit_is_not_kept() -> None:
    reader = ContentReader(10)
    for _ in range(1000):
        assert reader.feed(b"x" * 100, 0)[1] is None
    position, content = reader.feed(b"\r\n.\r\nQUIT", 0)

    assert (position, content) == (5, b"")
    assert reader.is_over_limit
    assert reader.size_bytes == 100_002


@pytest.mark.parametrize("content", [b"\r", b"\n", b"a\nb\r\n", b"a\rb\r\n", b"\n\r", b"a\r\r\n", b"a\r\n\n"])
def test_a_lone_cr_or_lf_is_seen(content: bytes) -> None:
    assert has_bare_line_end(content)
    assert not has_bare_line_end(content.replace(b"\r", b"").replace(b"\n", b""))


@given(st.lists(st.integers(0, 30)), st.booleans())
def test_a_line_over_the_limit_is_seen(lengths: list[int], ended: bool) -> None:
    content = b"\r\n".join([b"x" * length for length in lengths]) + (b"\r\n" if ended else b"")

    assert has_line_over(content, 20) == any(length > 20 for length in lengths)
