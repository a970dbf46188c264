"""SMS providers on both engines: commands, the read table that follows in the same transaction, and its rebuild."""

import asyncio
from collections.abc import Callable
from itertools import count

import pytest

from mailward.db.database import Database, Row, Transaction
from mailward.errors import NotFound
from mailward.eventstore import projection as projections
from mailward.ids import ProviderId, UserId
from mailward.provider.queries import HTTPSettings
from mailward.provider.sms import TwilioConfig
from mailward.provider.sms_commands import SMSProviders
from mailward.provider.sms_projection import SMSProvidersProjection
from mailward.provider.sms_queries import TwilioSettings
from mailward.provider.state import HTTPConfig
from mailward.secretbox import SecretBox, SecretText
from tests.contract.provider.conftest import INSTANCE, Clock
from tests.support import events as stored_events

EDITOR = UserId("298765432109870001")
CANARY = SecretText("canary-41c2-token")
ACCOUNT = TwilioConfig(sid="AC1", sender_number="+41790000000", description="tw")
HOOK = HTTPConfig(endpoint="https://hook.example.com/sms", description="hook")


@pytest.fixture
def open_sms(clock: Clock) -> Callable[..., SMSProviders]:
    ids = count(298_765_432_109_880_001)

    def make(database: Database, key: bytes = bytes(32)) -> SMSProviders:
        return SMSProviders(database, SecretBox([key]), instance=INSTANCE, new_id=lambda: next(ids), now_us=clock)

    return make


@pytest.fixture
def sms(database: Database, open_sms: Callable[..., SMSProviders]) -> SMSProviders:
    return open_sms(database)


def dump(tx: Transaction) -> list[list[Row]]:
    return [sorted(tx.fetch(f"SELECT * FROM {table}"), key=repr) for table in ("sms_providers", "sms_provider_totals")]


async def test_a_read_right_after_a_write_sees_it(sms: SMSProviders, clock: Clock) -> None:
    added = await sms.add_twilio(ACCOUNT, CANARY, EDITOR)
    clock.us += 1
    changed = await sms.change_twilio(added.id, TwilioConfig(sid="AC2", verify_service_sid="VA1"), EDITOR)

    view = await sms.get(added.id)

    assert view.config == TwilioSettings(sid="AC2", sender_number="", verify_service_sid="VA1")
    assert (view.state, view.description, view.sequence) == ("inactive", "", changed.sequence)
    assert (view.creation_us, view.change_us) == (clock.us - 1, clock.us)


async def test_a_change_of_nothing_answers_with_the_last_event(sms: SMSProviders, clock: Clock) -> None:
    added = await sms.add_twilio(ACCOUNT, CANARY, EDITOR)
    await sms.add_http(HOOK, EDITOR)
    clock.us += 1

    assert await sms.change_twilio(added.id, ACCOUNT, EDITOR) == added.details


async def test_reads_work_after_a_rotation(sms: SMSProviders) -> None:
    """In the original every read of a rotated one fails until it is removed (departure 15)."""
    added = await sms.add_http(HOOK, EDITOR)
    await sms.change_http(added.id, HOOK, EDITOR)
    rotated = await sms.change_http(added.id, HOOK, EDITOR, new_key=True)

    listed = await sms.list()

    assert rotated.signing_key not in (None, added.signing_key)
    assert [sms.signing_key(view) for view in listed.items] == [rotated.signing_key]
    assert sms.signing_key(await sms.get(added.id)) == rotated.signing_key


async def test_a_list_works_without_the_master_key(
    database: Database, sms: SMSProviders, open_sms: Callable[..., SMSProviders]
) -> None:
    await sms.add_http(HOOK, EDITOR)
    stranger = open_sms(database, bytes([1]) * 32)

    [view] = (await stranger.list()).items

    assert isinstance(view.config, HTTPSettings)
    assert stranger.signing_key(view) is None


async def test_activating_one_deactivates_the_one_before(sms: SMSProviders) -> None:
    first = await sms.add_twilio(ACCOUNT, CANARY, EDITOR)
    second = await sms.add_http(HOOK, EDITOR)
    await sms.activate(first.id, EDITOR)

    await sms.activate(second.id, EDITOR)

    assert [view.state for view in (await sms.list()).items] == ["inactive", "active"]


async def test_calls_at_once_leave_one_active_and_lose_nothing(sms: SMSProviders) -> None:
    added = await asyncio.gather(*[sms.add_twilio(ACCOUNT, CANARY, EDITOR) for _ in range(20)])
    await asyncio.gather(*[sms.activate(one.id, EDITOR) for one in added])

    page = await sms.list(offset=0, limit=0)

    assert page.total == 20
    assert [view.state for view in page.items].count("active") == 1


async def test_a_page_is_a_part_and_beyond_the_end_there_is_no_total(sms: SMSProviders) -> None:
    added = [await sms.add_twilio(ACCOUNT, CANARY, EDITOR) for _ in range(3)]

    page, beyond = await sms.list(1, 1), await sms.list(3, 1)

    assert ([view.id for view in page.items], page.total) == ([added[1].id], 3)
    assert (beyond.items, beyond.total) == ([], 0)
    assert (await sms.list(1 << 63, 1)).items == []


async def test_a_removed_one_is_gone(sms: SMSProviders) -> None:
    added = await sms.add_twilio(ACCOUNT, CANARY, EDITOR)
    await sms.activate(added.id, EDITOR)
    await sms.remove(added.id, EDITOR)

    with pytest.raises(NotFound) as caught:
        await sms.get(added.id)

    assert str(caught.value) == "Errors.SMSConfig.NotExisting (QUERY-fn99w)"
    assert (await sms.list()).total == 0


async def test_a_token_is_nowhere_in_clear(database: Database, sms: SMSProviders) -> None:
    added = await sms.add_twilio(ACCOUNT, CANARY, EDITOR)
    await sms.change_twilio_token(added.id, CANARY, EDITOR)

    stored = repr(await database.read(dump)) + repr(await database.read(stored_events.stream, "instance", INSTANCE))

    assert CANARY.reveal() not in stored


async def test_a_rebuild_makes_the_same_rows(database: Database, sms: SMSProviders, clock: Clock) -> None:
    twilio, hook = await sms.add_twilio(ACCOUNT, CANARY, EDITOR), await sms.add_http(HOOK, EDITOR)
    gone = ProviderId((await sms.add_http(HOOK, EDITOR)).id)
    clock.us += 1
    await sms.activate(twilio.id, EDITOR)
    await sms.activate(hook.id, EDITOR)
    await sms.deactivate(hook.id, EDITOR)
    await sms.change_twilio_token(twilio.id, CANARY, EDITOR)
    await sms.remove(gone, EDITOR)
    before = await database.read(dump)

    await database.write(projections.rebuild, [SMSProvidersProjection()])

    assert await database.read(dump) == before
