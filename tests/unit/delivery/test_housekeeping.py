"""How much housekeeping does at once, and how long it rests."""

import pytest

from mailward.delivery.housekeeping import next_size, rest_s

HOUR = 3600.0


def test_steps_grow_and_shrink_to_some_milliseconds_of_the_writer() -> None:
    sizes = [200]
    for _ in range(10):
        sizes.append(next_size(sizes[-1], sizes[-1] * 10e-6))  # It removes 100,000 a second ...
    assert sizes[-1] == 400

    assert next_size(400, 0.4) == 20  # ... and suddenly 1,000.


@pytest.mark.parametrize(("took_s", "least", "most"), [(0.0, 400, 400), (10.0, 20, 20)])
def test_a_step_never_doubles_twice_nor_vanishes(took_s: float, least: int, most: int) -> None:
    assert least <= next_size(200, took_s) <= most


def test_the_more_is_overdue_the_less_it_rests() -> None:
    rests = [rest_s(0.01, overdue_s) for overdue_s in (0, 600, HOUR, 2 * HOUR, 4 * HOUR, 400 * HOUR)]

    assert rests[0] == rests[1] == pytest.approx(0.2)
    assert sorted(rests, reverse=True) == rests
    assert rests[-1] == rest_s(0.01, 3.5 * HOUR) == 0.02


def test_the_busier_the_writer_is_the_longer_it_rests() -> None:
    assert rest_s(0.1, HOUR) == pytest.approx(10 * rest_s(0.01, HOUR))
