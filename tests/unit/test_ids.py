"""Ids are time-ordered, unique within a source, and of exactly 18 digits."""

import pytest

from mailward.ids import EPOCH_MS, IdSource, MessageId, format_message_id, parse_message_id

NOW_MS = 1_795_000_000_000  # in 2026


def test_an_id_has_exactly_eighteen_digits_from_2023_until_2050() -> None:
    for year in (2023.2, 2026.9, 2049.9):
        ms = EPOCH_MS + int((year - 2020) * 365.25 * 86_400_000)

        assert len(str(IdSource(255, lambda ms=ms: ms)())) == 18  # type: ignore[misc]


def test_ids_of_one_source_increase_even_when_the_clock_stands_still_or_steps_back() -> None:
    clock = iter([NOW_MS] * 10_000 + [NOW_MS - 3_600_000] * 100)
    source = IdSource(3, lambda: next(clock))

    drawn = [source() for _ in range(10_100)]

    assert drawn == sorted(set(drawn))


def test_two_nodes_never_draw_the_same_id() -> None:
    one, other = IdSource(1, lambda: NOW_MS), IdSource(2, lambda: NOW_MS)

    assert not {one() for _ in range(5000)} & {other() for _ in range(5000)}


def test_a_node_outside_its_eight_bits_is_refused() -> None:
    with pytest.raises(ValueError, match="between 0 and 255"):
        IdSource(256, lambda: NOW_MS)


def test_a_message_id_survives_the_way_through_a_door() -> None:
    id = MessageId(IdSource(0, lambda: NOW_MS)())

    assert parse_message_id(format_message_id(id)) == id


@pytest.mark.parametrize(
    "text", ["", "msg_", "msg_1", "227654321098765432", "msg_22765432109876543x", "msg_²27654321098765432"]
)
def test_what_is_no_message_id_is_none(text: str) -> None:
    assert parse_message_id(text) is None
