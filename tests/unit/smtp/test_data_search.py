"""Looking for dots and bare line ends by single octets finds what looking for the whole finds."""

from hypothesis import given
from hypothesis import strategies as st

from mailward.smtp.data import ContentReader, has_bare_line_end, stuff, unstuff

_bytes = st.lists(st.sampled_from([b".", b"\r\n", b"\r", b"\n", b"a", b"\r\n.\r\n", b"." * 70]), max_size=40).map(
    b"".join
)


@given(_bytes)
def test_a_bare_cr_or_lf_is_seen_wherever_it_is(content: bytes) -> None:
    assert has_bare_line_end(content) == (
        b"\r" in content.replace(b"\r\n", b"") or b"\n" in content.replace(b"\r\n", b"")
    )


@given(_bytes)
def test_dots_are_doubled_and_halved_as_by_a_plain_replace(content: bytes) -> None:
    doubled = content.replace(b"\r\n.", b"\r\n..")
    doubled = b"." + doubled if doubled.startswith(b".") else doubled

    assert stuff(content)[0] == doubled
    assert unstuff(doubled) == content


@given(_bytes, st.integers(1, 9))
def test_a_content_ends_at_its_first_final_dot_however_it_is_cut(content: bytes, size: int) -> None:
    wire = content + b"\r\n.\r\nQUIT\r\n"
    end = (b"\r\n" + wire).find(b"\r\n.\r\n")
    reader, position, found = ContentReader(1 << 20), 0, None
    while found is None:
        piece = wire[position : position + size]
        used, found = reader.feed(piece, 0)
        position += used

    assert found == wire[:end]
    assert position == end + 3
