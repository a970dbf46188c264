"""Heads of HTTP/2 in header blocks: what is remembered of them must never show."""

import pytest
from hpack import Decoder, Encoder, HPACKError
from hypothesis import given
from hypothesis import strategies as st

from mailward.rpc.http import Response
from mailward.rpc.http2_frames import Fault
from mailward.rpc.http2_head import Head, HeadReader, request_head, response_block

BASE = [(b":method", b"POST"), (b":path", b"/a"), (b":scheme", b"http"), (b":authority", b"a")]

#: One request: fields beside the usual ones, whether the table is to remember them, and a new size of the table.
REQUESTS = st.lists(
    st.tuples(
        st.lists(st.tuples(st.sampled_from([b"x", b"y"]), st.sampled_from([b"1", b"2", b"3" * 60])), max_size=3),
        st.booleans(),
        st.sampled_from([None, None, None, 0, 100, 4_096]),
    ),
    max_size=20,
)


@given(requests=REQUESTS)
def test_a_remembered_head_is_what_a_decoder_without_memory_finds(
    requests: list[tuple[list[tuple[bytes, bytes]], bool, int | None]],
) -> None:
    client, reader, decoder = Encoder(), HeadReader(65_536), Decoder()
    for extra, is_kept, size in requests:
        if size is not None:
            client.header_table_size = size
        block = client.encode([(name, value, not is_kept) for name, value in BASE + extra])

        assert fields(reader.request(block)) == fields(request_head(list(decoder.decode(block, raw=True))))


SIZES = [b"\x3f\x45", b"\x3f\x45\x3f\xe1\x1f", b"\x20", b"\x3f\xe1\x1f"]  #: 100; 100, then 4,096 again; 0; 4,096
FIELDS = [b"\x40\x01x\x01y", b"\x40\x01x\x3cy" + b"y" * 59, b"\xbe", b"\xbf", b"\x00\x01x\x01y", b"\x7e\x01q"]
PLAIN = Encoder().encode([(name, value, True) for name, value in BASE])


@given(
    st.lists(
        st.builds(
            lambda size, field: size + PLAIN + field, st.sampled_from([b"", b"", *SIZES]), st.sampled_from(FIELDS)
        ),
        max_size=12,
    )
)
def test_equal_bytes_are_decoded_anew_when_the_table_has_changed(blocks: list[bytes]) -> None:
    """Sizes that shrink and grow again, entries that are added, moved and thrown out."""
    reader, decoder = HeadReader(65_536), Decoder()
    for block in blocks:
        try:
            expected = request_head(list(decoder.decode(block, raw=True)))
        except HPACKError:
            with pytest.raises(Fault):
                reader.request(block)
            return
        assert fields(reader.request(block)) == fields(expected)


def test_a_table_that_shrinks_and_grows_again_in_one_block_is_another_table() -> None:
    """Its size and its newest entry are the same afterwards; only what is older has gone."""
    reader = HeadReader(65_536)
    for added in (FIELDS[1], FIELDS[0]):
        reader.request(PLAIN + added)
    assert fields(reader.request(PLAIN + b"\xbf"))[-1] == (b"x", b"y" * 60)

    reader.request(SIZES[1] + PLAIN)

    with pytest.raises(Fault):
        reader.request(PLAIN + b"\xbf")


def fields(head: Head | None) -> list[tuple[bytes, bytes]]:
    assert head is not None
    return head.headers.raw


@given(value=st.text(max_size=300), status=st.sampled_from([200, 404, 599]))
def test_a_head_that_we_write_is_read_by_others(value: str, status: int) -> None:
    try:
        block = response_block(Response(status, [("X-A", value), ("Connection", "close")], b"four"), "some day")
    except ValueError:
        assert set(value) & set("\r\n\0") or not value.isprintable()
        return

    charset = "latin-1" if all(char < "\u0100" for char in value) else "utf-8"
    assert list(Decoder().decode(block, raw=True)) == [
        (b":status", str(status).encode()),
        (b"x-a", value.encode(charset)),
        (b"date", b"some day"),
        (b"content-length", b"4"),
    ]
