"""Searches of the log on both engines: whatever is asked, the answer is what a look at every event would give."""

import random
from collections.abc import Iterable

import pytest

from mailward.db.database import Database, Transaction
from mailward.eventstore import search as searches
from mailward.eventstore import store
from mailward.eventstore.event import Editor, NewEvent, RecordedEvent
from mailward.eventstore.search import Search, search

BORN = 1_700_000_000_000_000
TYPES = {"house": ("house.built", "house.painted", "house.sold"), "cat": ("cat.born", "cat.fed")}
HOUSE, CATS, EDITORS = "1", ("7", "8", "1"), ("anna", "ben", "eve")


def fill(tx: Transaction, seed: int) -> None:
    """Append 120 events of one house and three cats, one of which has the id of the house, at times that repeat."""
    chance = random.Random(seed)
    at_us = BORN
    for _ in range(60):
        kind = chance.choice(["house", "house", "cat"])
        id = HOUSE if kind == "house" else chance.choice(CATS)
        version = store.version(tx, kind, id, lock=True)
        new = [NewEvent(chance.choice(TYPES[kind]), {"n": number}) for number in range(2)]
        at_us += chance.choice([0, 0, 10, 1_000])
        store.append(tx, kind, id, version, new, editor=chance.choice(EDITORS), at_us=at_us, projections=())


def everything(tx: Transaction) -> list[RecordedEvent]:
    return store.read_all(tx, 0, 10_000)


def matching(events: Iterable[RecordedEvent], wanted: Search) -> list[RecordedEvent]:
    """Return what a look at every event gives."""
    found = [
        event
        for event in events
        if (not wanted.aggregate_id or event.aggregate_id == wanted.aggregate_id)
        and (not wanted.aggregate_types or event.aggregate_type in wanted.aggregate_types)
        and (not wanted.types or event.type in wanted.types)
        and (not wanted.editor or event.editor == wanted.editor)
        and (wanted.after_us is None or event.at_us > wanted.after_us)
        and (wanted.before_us is None or event.at_us < wanted.before_us)
        and event.version > wanted.after_version
        and (wanted.before_version is None or event.version < wanted.before_version)
    ]
    found.sort(key=lambda event: event.position, reverse=wanted.newest_first)
    return found[: wanted.limit]


def some(chance: random.Random) -> Search:
    """Return a search that asks for this and that."""

    def maybe(values: Iterable[str]) -> frozenset[str]:
        return frozenset(chance.sample(list(values), 2)) if chance.random() < 0.4 else frozenset()

    return Search(
        aggregate_id=chance.choice(["", "", HOUSE, *CATS, "unknown"]),
        aggregate_types=maybe(["house", "cat", "dog"]),
        types=maybe([*TYPES["house"], *TYPES["cat"], "dog.fed"]),
        editor=chance.choice(["", "", *EDITORS, "nobody"]),
        after_us=BORN + chance.randrange(-10, 20_000) if chance.random() < 0.3 else None,
        before_us=BORN + chance.randrange(-10, 20_000) if chance.random() < 0.3 else None,
        after_version=chance.choice([0, 0, 3, 40, 200]),
        before_version=chance.choice([None, None, 0, 1, 30, (1 << 63) - 1]),
        newest_first=chance.random() < 0.5,
        limit=chance.choice([1, 3, 10, 1000]),
    )


@pytest.mark.parametrize("short", [5_000, 0])
async def test_a_search_gives_what_a_look_at_every_event_would(
    database: Database, monkeypatch: pytest.MonkeyPatch, short: int
) -> None:
    """`short` 0: as if every aggregate had more events than are looked through."""
    monkeypatch.setattr(searches, "_SHORT", short)
    await database.write(fill, 1)
    events = await database.read(everything)
    chance = random.Random(2)
    answers = 0

    for wanted in [Search(), *(some(chance) for _ in range(300))]:
        found = await database.read(search, wanted)
        assert found == matching(events, wanted), wanted
        answers += bool(found)

    assert answers > 60


async def test_the_times_of_the_log_do_not_go_back_with_a_clock(database: Database) -> None:
    """So a search by time misses nothing; a clock that was wrong by more than a minute does not bind those after it."""

    def append(tx: Transaction, at_us: int) -> int:
        version = store.version(tx, "cat", "7", lock=True)
        [event] = store.append(
            tx, "cat", "7", version, [NewEvent("cat.fed", {})], editor="anna", at_us=at_us, projections=()
        )
        return event.at_us

    minute = 60_000_000

    times = [
        await database.write(append, at) for at in (BORN, BORN - 5, BORN + 1, BORN + 10 * minute, BORN + 2, BORN + 3)
    ]

    assert times == [BORN, BORN, BORN + 1, BORN + 10 * minute, BORN + 2, BORN + 3]


async def test_an_editor_may_say_where_it_was(database: Database) -> None:
    def append(tx: Transaction, editor: str) -> RecordedEvent:
        version = store.version(tx, "cat", "7", lock=True)
        new = [NewEvent("cat.fed", {})]
        return store.append(tx, "cat", "7", version, new, editor=editor, at_us=BORN, projections=())[0]

    from_afar = await database.write(append, Editor("anna", "192.0.2.7:4711"))
    at_home = await database.write(append, "anna")

    assert [(one.editor, type(one.editor), one.peer) for one in (from_afar, at_home)] == [
        ("anna", str, "192.0.2.7:4711"),
        ("anna", str, ""),
    ]
    assert await database.read(search, Search(editor="anna", newest_first=False)) == [from_afar, at_home]
