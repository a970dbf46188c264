"""Slots of a window: never more than the limit, as the provider sees it, whatever nodes there are."""

import json
import random

import pytest

from mailward.delivery.limits import Exchange, Grant, Usage, exchange, set_back
from mailward.provider.routing import SendLimits

SECOND = 1_000_000
NOW = 1_790_000_000 * SECOND
LIVES = {(node, 1) for node in range(4)}


def ask(usage: Usage, limits: SendLimits, now_us: int = NOW, node: int = 1, **changes: int) -> Grant:
    values = {"epoch": 1, "used": 0, "unused": 0, "want": 0} | changes
    return exchange(usage, limits, Exchange(node=node, now_us=now_us, **values), LIVES)


def test_a_node_gets_a_quarter_of_the_smallest_limit_at_a_time() -> None:
    limits = SendLimits(per_second=100, per_day=40)

    assert ask(Usage(), limits, want=1_000).slots == 10
    assert ask(Usage(), limits, want=3).slots == 3


def test_what_is_taken_is_nobody_elses() -> None:
    usage, limits = Usage(), SendLimits(per_second=8)

    grants = [ask(usage, limits, node=n % 3, want=2).slots for n in range(6)]

    assert grants == [2, 2, 2, 2, 0, 0]


def test_what_was_used_is_free_again_a_window_later_and_not_before() -> None:
    usage, limits = Usage(), SendLimits(per_second=1)
    assert ask(usage, limits, want=1).slots == 1

    refused = ask(usage, limits, used=1, want=1)
    early = ask(usage, limits, refused.retry_at_us - 1, want=1)
    later = ask(usage, limits, refused.retry_at_us, want=1)

    assert (refused.slots, refused.window) == (0, "second")
    assert NOW + SECOND <= refused.retry_at_us <= NOW + SECOND + SECOND // 50
    assert (early.slots, later.slots) == (0, 1)


def test_what_was_not_used_is_free_at_once() -> None:
    usage, limits = Usage(), SendLimits(per_minute=1)
    ask(usage, limits, want=1)

    assert ask(usage, limits, unused=1, want=1).slots == 1


def test_the_tightest_window_decides_and_is_named() -> None:
    usage, limits = Usage(), SendLimits(per_second=10, per_day=2)
    for n in range(2):
        assert ask(usage, limits, NOW + n * 10 * SECOND, want=1).slots == 1
        ask(usage, limits, NOW + n * 10 * SECOND, used=1)

    refused = ask(usage, limits, NOW + 60 * SECOND, want=1)

    assert (refused.slots, refused.window) == (0, "day")
    assert refused.retry_at_us >= NOW + 86_400 * SECOND


def test_what_a_life_that_is_over_had_taken_counts_as_used() -> None:
    usage, limits = Usage(), SendLimits(per_second=1)
    ask(usage, limits, node=1, want=1)

    over = exchange(usage, limits, Exchange(2, 1, 0, 0, 1, NOW + SECOND), {(1, 2), (2, 1)})
    after = exchange(usage, limits, Exchange(2, 1, 0, 0, 1, over.retry_at_us), {(1, 2), (2, 1)})

    assert over.slots == 0
    assert over.retry_at_us >= NOW + 2 * SECOND
    assert after.slots == 1


def test_the_same_node_in_its_next_life_has_taken_nothing_and_its_former_life_used_all() -> None:
    usage, limits = Usage(), SendLimits(per_second=1)
    ask(usage, limits, node=1, want=1)

    refused = exchange(usage, limits, Exchange(1, 2, 0, 0, 1, NOW), {(1, 2)})

    assert refused.slots == 0
    assert usage.taken == {}


def test_a_clock_that_goes_back_frees_nothing() -> None:
    usage, limits = Usage(), SendLimits(per_second=1)
    ask(usage, limits, want=1)
    ask(usage, limits, NOW + 3600 * SECOND, used=1)

    assert ask(usage, limits, NOW, want=1).slots == 0


def test_it_survives_being_stored() -> None:
    usage, limits = Usage(), SendLimits(per_second=4, per_day=9)
    ask(usage, limits, want=1)
    ask(usage, limits, used=1, want=1)

    again = Usage.from_json(json.loads(json.dumps(usage.to_json())))

    assert again == usage
    assert Usage.from_json({}) == Usage()


@pytest.mark.parametrize("seed", range(8))
def test_no_window_that_the_provider_can_look_through_holds_more_than_the_limit(seed: int) -> None:
    """Nodes take, use and report as they like; the provider sees an attempt anywhere between its start and its end."""
    dice = random.Random(seed)
    limits = SendLimits(per_second=dice.choice([1, 3, 10]), per_minute=dice.choice([0, 40]))
    usage, now_us = Usage(), NOW
    slots, flying, ended = [0] * 3, [[], [], []], [0] * 3  # type: ignore[var-annotated]
    seen: list[int] = []
    for _ in range(3_000):
        now_us += dice.randrange(0, 40_000)
        node = dice.randrange(3)
        match dice.randrange(3):
            case 0:
                grant = ask(usage, limits, now_us, node=node, used=ended[node], want=dice.randrange(6))
                ended[node] = 0
                slots[node] += grant.slots
            case 1 if slots[node]:
                slots[node] -= 1
                flying[node].append(now_us)
            case 2 if flying[node]:
                seen.append(dice.randint(flying[node].pop(0), now_us))
                ended[node] += 1
    seen.sort()
    for _, length_us, limit in limits.windows():
        for first, beyond in zip(seen, seen[limit:], strict=False):
            assert beyond - first >= length_us
    assert len(seen) > 20


def test_a_steady_sender_gets_nearly_all_that_is_allowed() -> None:
    limits, usage, now_us, sent = SendLimits(per_second=20), Usage(), NOW, 0
    used = 0
    while now_us < NOW + 60 * SECOND:
        grant = ask(usage, limits, now_us, used=used, want=100)
        used = grant.slots
        sent += grant.slots
        now_us = max(now_us + 2_000, grant.retry_at_us)

    assert 60 * 20 * 0.9 <= sent <= 61 * 20


def test_a_window_is_as_long_as_ever_when_the_clock_was_set_back() -> None:
    usage, limits = Usage(), SendLimits(per_minute=1)
    assert ask(usage, limits, want=1).slots == 1
    ask(usage, limits, used=1)

    earlier = NOW - 3600 * SECOND
    set_back(usage, earlier)

    assert ask(usage, limits, earlier + 30 * SECOND, want=1).slots == 0
    assert ask(usage, limits, earlier + 90 * SECOND, want=1).slots == 1
