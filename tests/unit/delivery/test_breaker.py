"""When a provider leaves rotation, and when it comes back."""

from dataclasses import replace

import pytest

from mailward.delivery.breaker import (
    FAILURES,
    Breaker,
    Entered,
    Event,
    Failed,
    Probing,
    Served,
    State,
    Throttled,
    after,
    may_probe,
    renewed,
    set_back,
)

SECOND = 1_000_000
NOW = 1_000 * SECOND


def told(*events: Event, breaker: Breaker | None = None) -> Breaker:
    breaker = breaker or Breaker()
    for event in events:
        breaker = after(breaker, event)
    return breaker


def refused(at_us: int = NOW) -> Failed:
    return Failed(at_us, "535 5.7.8 no", entry=True)


def broken(at_us: int = NOW) -> Failed:
    return Failed(at_us, "connection lost", entry=False)


def test_failures_in_a_row_open_it_with_the_providers_words() -> None:
    before = told(*[refused()] * (FAILURES - 1))
    opened = after(before, refused())

    assert before.state is State.CLOSED
    assert (opened.state, opened.reason) == (State.OPEN, "535 5.7.8 no")
    assert opened.try_at_us == NOW + 5 * SECOND


def test_a_success_between_them_begins_the_count_anew() -> None:
    assert told(refused(), refused(), Entered(NOW), refused(), refused()).state is State.CLOSED
    assert told(broken(), broken(), Served(NOW), broken(), broken()).state is State.CLOSED


def test_mail_that_a_kept_session_takes_says_nothing_about_the_login() -> None:
    """Old sessions go on while a rotated password is refused to new ones."""
    assert told(refused(), Served(NOW), refused(), Served(NOW), refused()).state is State.OPEN


def test_a_login_says_nothing_about_what_happens_after_it() -> None:
    assert told(broken(), Entered(NOW), broken(), Entered(NOW), broken()).state is State.OPEN


def test_it_may_be_tried_when_its_time_has_come_and_by_one() -> None:
    opened = told(*[refused()] * FAILURES)

    assert not may_probe(opened, NOW + 4 * SECOND)
    assert may_probe(opened, NOW + 5 * SECOND)
    probed = after(opened, Probing(NOW + 5 * SECOND))
    assert probed.state is State.HALF_OPEN
    assert not may_probe(probed, NOW + 6 * SECOND)
    assert may_probe(probed, NOW + 60 * SECOND)  # Whoever tried is gone.


def test_a_probe_that_works_closes_it_and_one_that_does_not_opens_it_for_longer() -> None:
    probed = told(*[refused()] * FAILURES, Probing(NOW))

    assert told(Entered(NOW), breaker=probed) == Breaker(reason="535 5.7.8 no")
    assert after(probed, Served(NOW)).state is State.CLOSED
    again = after(probed, refused())
    assert (again.state, again.try_at_us) == (State.OPEN, NOW + 10 * SECOND)


def test_it_is_never_out_for_longer_than_half_a_minute_at_a_time() -> None:
    """So that a provider is back within a minute of its repair."""
    breaker = told(*[refused()] * FAILURES)
    for _ in range(50):
        breaker = told(Probing(NOW), refused(), breaker=breaker)

    assert breaker.try_at_us == NOW + 30 * SECOND


@pytest.mark.parametrize("event", [Entered(NOW), Served(NOW), refused(), broken()])
def test_late_words_change_nothing_while_it_is_open(event: Event) -> None:
    opened = told(*[refused()] * FAILURES)

    changed = after(opened, event)

    assert (changed.state, changed.try_at_us) == (State.OPEN, opened.try_at_us)


def test_new_settings_begin_anew_and_old_ones_do_not() -> None:
    opened = told(*[refused()] * FAILURES, breaker=Breaker(revision=4))

    assert renewed(opened, 5) == Breaker(revision=5)
    assert renewed(opened, 4) is opened
    assert renewed(opened, 3) is opened


def test_a_provider_that_names_a_time_is_left_alone_until_then_and_stays_in_rotation() -> None:
    paused = told(*[Throttled(NOW, "429", 30.0, NOW - 1)] * 10)

    assert (paused.state, paused.paused_until_us) == (State.CLOSED, NOW + 30 * SECOND)


def test_without_a_time_the_pause_doubles_each_time_and_ends_at_five_minutes() -> None:
    breaker, pauses = Breaker(), []
    for n in range(9):
        at_us = NOW + n * 1_000 * SECOND
        breaker = after(breaker, Throttled(at_us, "421", 0.0, at_us))
        pauses.append((breaker.paused_until_us - at_us) // SECOND)

    assert pauses == [5, 10, 20, 40, 80, 160, 300, 300, 300]
    assert told(Served(NOW + 10_000 * SECOND), breaker=breaker).pauses == 0


def test_those_who_were_on_their_way_when_the_pause_began_do_not_lengthen_it() -> None:
    paused = told(Throttled(NOW, "421", 0.0, NOW - 1), *[Throttled(NOW + 1, "421", 0.0, NOW - 1)] * 19)

    assert (paused.pauses, paused.paused_until_us) == (1, NOW + 5 * SECOND)


def test_a_probe_that_is_asked_to_wait_shows_that_the_provider_is_back() -> None:
    probed = told(*[refused()] * FAILURES, Probing(NOW))

    assert after(probed, Throttled(NOW, "421", 7.0, NOW)).state is State.CLOSED


def test_a_spotless_breaker_needs_no_word_of_success() -> None:
    assert Breaker(revision=7, reason="long ago").is_spotless
    assert not replace(Breaker(), talks=1).is_spotless
    assert not told(*[refused()] * FAILURES).is_spotless


def test_a_clock_that_was_set_back_keeps_no_provider_away_until_it_is_that_late_again() -> None:
    earlier = NOW - 900 * SECOND
    opened, paused = told(*[refused()] * FAILURES), told(Throttled(NOW, "429", 30.0, NOW - 1))

    assert may_probe(set_back(opened, earlier), earlier + 60 * SECOND)
    assert set_back(paused, earlier).paused_until_us == earlier + 30 * SECOND
    assert set_back(paused, NOW) == paused
