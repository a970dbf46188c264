"""What is set for an instance, on both engines: defaults, changes, and the rebuild of the read table."""

import asyncio

import pytest

from mailward.db.database import Database, Row, Transaction
from mailward.errors import AlreadyExists, FailedPrecondition, InvalidArgument
from mailward.eventstore import projection as projections
from mailward.eventstore import store
from mailward.ids import InstanceId, UserId
from mailward.settings.commands import InstanceSettings
from mailward.settings.projection import SettingsProjection, sender_must_match
from mailward.settings.values import DEFAULTS, DomainPolicy, Language, NotificationPolicy, SecretGenerator
from tests.support import events as stored_events
from tests.support.waiting import until

INSTANCE = InstanceId("298765432109876543")
SYSTEM, EDITOR = UserId("SYSTEM"), UserId("298765432109870001")


class Clock:
    def __init__(self) -> None:
        self.us = 1_700_000_000_000_000

    def __call__(self) -> int:
        return self.us


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def settings(database: Database, clock: Clock) -> InstanceSettings:
    settings = InstanceSettings(database, instance=INSTANCE, now_us=clock)
    await settings.start(SYSTEM)
    return settings


def dump(tx: Transaction) -> list[Row]:
    return tx.fetch("SELECT * FROM settings ORDER BY name")


def version(tx: Transaction) -> int:
    return store.version(tx, "instance", INSTANCE, lock=False)


async def test_a_new_instance_has_the_defaults_and_says_so_in_its_events(
    database: Database, settings: InstanceSettings
) -> None:
    events = await database.read(stored_events.stream, "instance", INSTANCE)

    assert [event.editor for event in events] == [SYSTEM] * len(DEFAULTS)
    assert [(await settings.get(value)).value for value in DEFAULTS] == list(DEFAULTS)


async def test_a_second_start_adds_nothing(database: Database, settings: InstanceSettings) -> None:
    await settings.change(NotificationPolicy(password_change=False), EDITOR)
    before = await database.read(version)

    await settings.start(SYSTEM)

    assert await database.read(version) == before
    assert (await settings.get(NotificationPolicy())).value == NotificationPolicy(password_change=False)


async def test_a_change_is_seen_by_the_next_read_with_its_date(settings: InstanceSettings, clock: Clock) -> None:
    born = clock.us
    clock.us += 5

    changed = await settings.change(DomainPolicy(validate_org_domains=True), EDITOR)

    found = await settings.get(DomainPolicy())
    assert found == changed
    assert (found.creation_us, found.change_us, found.sequence) == (born, born + 5, len(DEFAULTS) + 1)


@pytest.mark.parametrize(
    ("value", "id"),
    [
        (Language(), "INST-DS3rq"),
        (DomainPolicy(), "INSTANCE-pl9fN"),
        (NotificationPolicy(), "INSTANCE-29x02n"),
        (DEFAULTS[1], "COMMAND-m0o3f"),
    ],
)
async def test_a_change_of_nothing_is_refused(
    settings: InstanceSettings, value: Language | DomainPolicy | NotificationPolicy | SecretGenerator, id: str
) -> None:
    with pytest.raises(FailedPrecondition) as caught:
        await settings.change(value, EDITOR)

    assert caught.value.id == id


async def test_there_is_a_notification_policy_from_the_start(settings: InstanceSettings) -> None:
    with pytest.raises(AlreadyExists):
        await settings.add_notification_policy()


async def test_generators_come_by_type_and_the_nameless_one_last(settings: InstanceSettings) -> None:
    await settings.change(SecretGenerator(generator_type=3), EDITOR)

    generators = [setting.value for setting in await settings.generators()]

    assert [value.generator_type for value in generators if isinstance(value, SecretGenerator)] == [*range(1, 9), 0]
    assert generators[2] == SecretGenerator(generator_type=3)


async def test_the_language_of_errors_follows_at_once_here_and_soon_elsewhere(
    database: Database, settings: InstanceSettings, clock: Clock
) -> None:
    other = InstanceSettings(database, instance=INSTANCE, now_us=clock)
    await other.start(SYSTEM)
    await settings.set_language("de", EDITOR)
    assert settings.language() == "de"
    assert other.language() == "en"

    clock.us += 1_000_000
    other.language()
    await until(lambda: other.language() == "de")

    await other.stop()
    await settings.stop()


async def test_a_language_without_texts_is_refused(settings: InstanceSettings) -> None:
    with pytest.raises(InvalidArgument):
        await settings.set_language("fi", EDITOR)

    assert settings.language() == "en"


async def test_whether_senders_must_use_a_domain_of_ours_is_what_the_policy_says(
    database: Database, settings: InstanceSettings
) -> None:
    assert not await database.read(sender_must_match, INSTANCE)
    assert not await database.read(sender_must_match, InstanceId("1"))

    await settings.change(DomainPolicy(smtp_sender_address_matches_instance_domain=True), EDITOR)

    assert await database.read(sender_must_match, INSTANCE)


async def test_a_rebuild_makes_the_same_rows(database: Database, settings: InstanceSettings, clock: Clock) -> None:
    clock.us += 5
    await settings.set_language("sv", EDITOR)
    await settings.change(SecretGenerator(generator_type=3, length=12), EDITOR)
    before = await database.read(dump)

    await database.write(projections.rebuild, [SettingsProjection()])

    assert await database.read(dump) == before


async def test_changes_at_once_queue_up(settings: InstanceSettings) -> None:
    wanted = [SecretGenerator(generator_type=1, length=length) for length in range(10, 30)]

    changed = await asyncio.gather(*[settings.change(value, EDITOR) for value in wanted])

    assert sorted(one.sequence for one in changed) == list(range(len(DEFAULTS) + 1, len(DEFAULTS) + 21))
