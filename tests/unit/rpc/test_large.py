"""Large bodies have room, or wait for it in line."""

from functools import partial

from mailward.rpc.large import LargeBody, Room


def bodies(room: Room, *sizes: int) -> tuple[list[LargeBody], list[int]]:
    admitted: list[int] = []
    made = [LargeBody(room, size, partial(admitted.append, number)) for number, size in enumerate(sizes)]
    return made, admitted


def test_a_body_comes_out_as_it_went_in_and_nothing_is_kept() -> None:
    content = bytes(range(256)) * 10_000
    (one, another), _ = bodies(Room(1), len(content), len(content))
    for at in range(0, len(content), 99_999):
        one.add(content[at : at + 99_999])
        another.add(content[at : at + 99_999])

    assert b"".join(one.take()) == another.take_whole() == content
    assert list(one.take()) == list(another.take()) == []
    assert one.size == another.size == len(content)


def test_whoever_finds_no_room_waits_and_is_admitted_in_line() -> None:
    """A small one does not overtake a large one, or that would wait for ever."""
    made, admitted = bodies(Room(100), 60, 60, 10)
    assert admitted == [0]

    made[0].leave()

    assert admitted == [0, 1, 2]
    assert all(body.is_admitted for body in made)


def test_who_goes_away_leaves_the_line_and_gives_back_room_once() -> None:
    room = Room(100)
    made, admitted = bodies(room, 60, 60, 60)
    made[1].leave()
    made[0].leave()
    made[0].leave()
    assert admitted == [0, 2]

    _, later = bodies(room, 50, 40)

    assert later == []
    made[2].leave()
    assert later == [0, 1]


def test_one_that_is_larger_than_all_the_room_has_it_alone() -> None:
    made, admitted = bodies(Room(100), 500, 1)
    assert admitted == [0]

    made[0].leave()

    assert admitted == [0, 1]
