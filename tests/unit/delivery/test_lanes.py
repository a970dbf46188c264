"""Which share of connections and memory each lane may take."""

import pytest

from mailward.delivery.hold import Hold, HoldLimits
from mailward.delivery.lanes import Backlog, memory, next_lane, slots
from mailward.delivery.lease import Due, Lane, Lease, Owner, Phase
from mailward.ids import MessageId
from mailward.message.envelope import Envelope

OTP, TRANSACTIONAL, BULK = Lane


def lease(lane: Lane, size_bytes: int = 10) -> Lease:
    return Lease(
        MessageId(1), Owner(0, 1), lane, Envelope("", ("a@example.net",)), b"x" * size_bytes, (Due(0, 0, 0),), 0, 1,
        None, Phase.READY,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("total", "shares"), [(1, (1, 1, 1)), (2, (2, 1, 1)), (20, (20, 18, 10)), (200, (200, 196, 100))]
)
def test_connections_are_kept_free_for_what_is_urgent(total: int, shares: tuple[int, int, int]) -> None:
    assert tuple(slots(lane, total) for lane in Lane) == shares


def test_the_most_urgent_mail_that_has_room_goes_next() -> None:
    assert next_lane((1, 1, 1), (0, 0, 0), 20) is OTP
    assert next_lane((0, 1, 1), (0, 0, 0), 20) is TRANSACTIONAL
    assert next_lane((0, 0, 1), (5, 0, 9), 20) is BULK


def test_bulk_mail_stops_at_its_share_and_everything_stops_at_the_total() -> None:
    assert next_lane((0, 0, 1), (0, 0, 10), 20) is None
    assert next_lane((0, 1, 1), (0, 8, 10), 20) is None
    assert next_lane((1, 1, 1), (0, 8, 10), 20) is OTP
    assert next_lane((1, 1, 1), (2, 8, 10), 20) is None


def test_bulk_mail_leaves_half_of_the_memory_and_codes_find_room_beside_everything_else() -> None:
    hold = Hold(HoldLimits(messages=32, content_bytes=1 << 20))
    for _ in range(memory(BULK, 32)):
        assert hold.has_room(10, BULK, backlog=False)
        hold.add(lease(BULK))
    assert not hold.has_room(10, BULK, backlog=False)
    while hold.has_room(10, TRANSACTIONAL, backlog=False):
        hold.add(lease(TRANSACTIONAL))

    assert hold.messages == memory(TRANSACTIONAL, 32) == 30
    assert hold.has_room(10, OTP, backlog=False)
    assert hold.rooms() == {OTP: (2, (1 << 20) - 300)}


def test_a_claim_brings_few_of_a_large_room_because_opens_and_closes_wait_for_it() -> None:
    hold = Hold(HoldLimits(messages=4_000))

    assert {messages for messages, _ in hold.rooms().values()} == {128}


def test_bytes_count_like_messages() -> None:
    hold = Hold(HoldLimits(messages=100, content_bytes=1_600))
    hold.add(lease(BULK, 800))

    assert not hold.has_room(1, BULK, backlog=False)
    assert hold.has_room(700, TRANSACTIONAL, backlog=False)
    assert BULK not in hold.rooms()


def test_new_mail_gets_half_of_its_share_while_older_mail_of_its_lane_waits() -> None:
    hold = Hold(HoldLimits(messages=32))
    for _ in range(8):
        hold.add(lease(BULK))

    assert hold.has_room(10, BULK, backlog=False)
    assert not hold.has_room(10, BULK, backlog=True)


def test_a_backlog_knows_when_the_next_lane_has_something_due() -> None:
    backlog = Backlog()

    backlog.learn(Lane, {BULK: 50, OTP: 5, TRANSACTIONAL: 70}, now_us=10)

    assert (backlog.lanes, backlog.next_due_at_us) == ({OTP}, 50)
    assert backlog.expect(TRANSACTIONAL, 40)
    assert not backlog.expect(BULK, 60)
    assert backlog.next_due_at_us == 40
    backlog.learn([BULK, TRANSACTIONAL], {}, now_us=10)
    assert backlog.next_due_at_us is None
