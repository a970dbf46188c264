"""Email providers on both engines: commands, the read table that follows in the same transaction, and its rebuild."""

import asyncio
import random
import re
from collections.abc import Callable
from typing import Any

import pytest

from mailward.db.database import Database, Row, Transaction, open_database
from mailward.errors import FailedPrecondition, InvalidArgument, MailwardError, NotFound
from mailward.eventstore import projection as projections
from mailward.ids import ProviderId, UserId
from mailward.provider.commands import Details, Providers
from mailward.provider.projection import GRACE_US, EmailProvidersProjection
from mailward.provider.queries import HTTPSettings, ProviderView, SMTPSettings
from mailward.provider.relay import UnusableRelay
from mailward.secretbox import SecretText
from mailward.settings.commands import InstanceSettings
from mailward.settings.values import DomainPolicy
from mailward.transport.base import HTTPRelay, RelaySettings, TlsMode
from tests.contract.provider.conftest import INSTANCE, Clock
from tests.support import events as stored_events
from tests.support.providers import UNKNOWN, http, smtp

EDITOR = UserId("298765432109870001")
CANARY = "canary-7f3a-horse"
PASSWORD = SecretText(CANARY)


def dump(tx: Transaction) -> list[list[Row]]:
    """Return all rows of the read tables, in one order."""
    return [
        sorted(tx.fetch(f"SELECT * FROM {table}"), key=repr) for table in ("email_providers", "email_provider_totals")
    ]


def events(tx: Transaction) -> list[tuple[int, str, dict[str, Any]]]:
    stream = stored_events.stream(tx, "instance", INSTANCE)
    return [(event.version, event.type, event.payload) for event in stream]


def rebuild(tx: Transaction) -> int:
    return projections.rebuild(tx, [EmailProvidersProjection()])


# --- what a write says, and the read after it


async def test_a_read_right_after_a_write_sees_it(providers: Providers, clock: Clock) -> None:
    added = await providers.add_smtp(smtp(), PASSWORD, EDITOR)

    view = await providers.get(added.id)

    assert added.details == Details(1, clock.us, INSTANCE)
    assert view == ProviderView(
        id=added.id,
        instance=INSTANCE,
        state="inactive",
        description="main relay",
        sequence=1,
        creation_us=clock.us,
        change_us=clock.us,
        config=SMTPSettings(
            sender_address="no-reply@example.com",
            sender_name="Example",
            reply_to="help@example.com",
            tls=True,
            host="smtp.example.com:587",
            user="mailer",
            secrets=frozenset({"password"}),
        ),
    )


async def test_sequences_and_dates_follow_what_happened(providers: Providers, clock: Clock) -> None:
    """Session 16 of the recorded ones: an answer's sequence and date are those of the next read."""
    born = clock.us
    first = await providers.add_smtp(smtp(), PASSWORD, EDITOR)
    clock.us += 1
    activated = await providers.activate(first.id, EDITOR)
    clock.us += 1
    unchanged = await providers.change_smtp(first.id, smtp(), None, EDITOR)
    assert unchanged == activated == Details(2, born + 1, INSTANCE)

    changed = await providers.change_smtp(first.id, smtp(description="x"), None, EDITOR)
    clock.us += 1
    second = await providers.add_smtp(smtp(), None, EDITOR)
    view = await providers.active()
    assert (view.id, view.sequence, view.creation_us, view.change_us) == (
        first.id,
        changed.sequence,
        born,
        changed.at_us,
    )

    clock.us += 1
    switched = await providers.activate(second.id, EDITOR)
    view = await providers.get(first.id)
    assert (view.state, view.sequence, view.change_us) == ("inactive", switched.sequence, switched.at_us)


async def test_of_two_activated_ones_the_last_is_active(providers: Providers) -> None:
    a, b = [await providers.add_smtp(smtp(), None, EDITOR) for _ in "ab"]
    await providers.activate(a.id, EDITOR)
    await providers.activate(b.id, EDITOR)

    assert (await providers.active()).id == b.id

    with pytest.raises(FailedPrecondition, match="COMMAND-km8g3"):
        await providers.deactivate(a.id, EDITOR)
    await providers.remove(b.id, EDITOR)
    with pytest.raises(NotFound, match="QUERY-fwofw"):
        await providers.active()


async def test_an_http_provider_shows_its_signing_key(providers: Providers) -> None:
    added = await providers.add_http(http(), EDITOR)
    view = await providers.get(added.id)
    shown = providers.signing_key(view)

    assert isinstance(view.config, HTTPSettings)
    assert added.signing_key is not None and re.fullmatch("[A-Za-z0-9]{36}", added.signing_key.reveal())
    assert shown == added.signing_key

    kept = await providers.change_http(added.id, http(endpoint="https://other.example.com"), EDITOR)
    rotated = await providers.change_http(added.id, http(), EDITOR, new_signing_key=True)
    assert kept.signing_key is None
    assert rotated.signing_key not in (None, shown)
    assert providers.signing_key(await providers.get(added.id)) == rotated.signing_key


async def test_calls_on_a_provider_of_the_other_kind(providers: Providers) -> None:
    hook = await providers.add_http(http(), EDITOR)
    active = await providers.activate(hook.id, EDITOR)

    assert await providers.change_smtp(hook.id, smtp(), PASSWORD, EDITOR) == active
    assert await providers.change_password(hook.id, PASSWORD, EDITOR) == active
    relay = await providers.add_smtp(smtp(), None, EDITOR)
    with pytest.raises(NotFound, match="COMMAND-xIrdledqv4"):
        await providers.change_http(relay.id, http(), EDITOR)


async def test_what_is_refused_leaves_nothing_behind(database: Database, providers: Providers) -> None:
    with pytest.raises(InvalidArgument, match="COMMAND-EvAtufIinh"):
        await providers.add_smtp(smtp(host="noport"), PASSWORD, EDITOR)
    with pytest.raises(NotFound, match="COMMAND-E9K20hxOS9"):
        await providers.activate(UNKNOWN, EDITOR)
    with pytest.raises(NotFound, match="QUERY-fwofw"):
        await providers.get(UNKNOWN)

    assert await database.read(events) == []
    assert await database.read(dump) == [[], []]


async def test_a_text_that_the_store_cannot_hold_is_the_callers_fault(providers: Providers) -> None:
    """Half of a surrogate pair is no character: 400, not 500 (departure 12)."""
    with pytest.raises(InvalidArgument):
        await providers.add_smtp(smtp(description="\ud800"), None, EDITOR)


# --- lists


async def test_a_page_is_a_part_of_all_in_the_order_of_creation(providers: Providers, clock: Clock) -> None:
    ids = [(await providers.add_smtp(smtp(), None, EDITOR)).id for _ in range(5)]
    clock.us += 1
    await providers.change_smtp(ids[0], smtp(description="changed"), None, EDITOR)

    async def listed(offset: int = 0, limit: int = 0, asc: bool = False) -> tuple[list[ProviderId], int]:
        page = await providers.list(offset, limit, asc)
        assert page.view_us == clock.us
        return [view.id for view in page.items], page.total

    assert await listed() == (ids, 5)
    assert await listed(asc=True) == (ids, 5)
    assert await listed(limit=2) == (ids[:2], 5)
    assert await listed(2, 2) == (ids[2:4], 5)
    assert await listed(4) == (ids[4:], 5)
    assert await listed(limit=5_000) == (ids, 5)
    assert await listed(10) == ([], 0)
    assert await listed(2**63) == ([], 0)

    await providers.remove(ids[1], EDITOR)
    assert await listed() == ([ids[0], *ids[2:]], 4)


async def test_an_empty_list_has_no_total(providers: Providers) -> None:
    page = await providers.list()

    assert (page.items, page.total, page.view_us) == ([], 0, 0)


# --- events and rebuild


async def test_whatever_was_done_a_rebuild_gives_the_same_tables(
    database: Database, providers: Providers, clock: Clock
) -> None:
    """The read table is the snapshot that commands decide on: it must be what the events say, always."""
    dice = random.Random(7)
    ids: list[ProviderId] = [UNKNOWN]
    for _ in range(150):
        clock.us += 1
        id = dice.choice(ids)
        config = smtp(
            host=dice.choice(["a:25", "b:587"]),
            tls=dice.random() < 0.5,
            user=dice.choice(["", "u"]),
            description=dice.choice("xy"),
        )
        password = dice.choice([None, PASSWORD])
        try:
            match dice.randrange(8):
                case 0:
                    ids.append((await providers.add_smtp(config, password, EDITOR)).id)
                case 1:
                    ids.append((await providers.add_http(http(), EDITOR)).id)
                case 2:
                    await providers.change_smtp(id, config, password, EDITOR)
                case 3:
                    await providers.change_http(
                        id, http(description=dice.choice("xy")), EDITOR, new_signing_key=dice.random() < 0.3
                    )
                case 4:
                    await providers.change_password(id, password, EDITOR)
                case 5:
                    await providers.activate(id, EDITOR)
                case 6:
                    await providers.deactivate(id, EDITOR)
                case 7 if dice.random() < 0.3:
                    await providers.remove(id, EDITOR)
        except MailwardError:
            pass
    before = await database.read(dump)

    count = await database.write(rebuild)

    assert count > 50
    assert await database.read(dump) == before
    assert len(before[0]) == (await providers.list()).total > 5


async def test_the_events_say_what_happened_under_their_wire_names(database: Database, providers: Providers) -> None:
    added = await providers.add_smtp(smtp(), PASSWORD, EDITOR)
    await providers.activate(added.id, EDITOR)
    await providers.change_password(added.id, PASSWORD, EDITOR)
    await providers.remove(added.id, EDITOR)

    recorded = await database.read(events)

    assert [(version, type, list(payload)) for version, type, payload in recorded] == [
        (
            1,
            "instance.smtp.config.added",
            ["description", "host", "id", "password", "replyToAddress", "senderAddress", "senderName", "tls", "user"],
        ),
        (2, "instance.smtp.config.activated", ["id"]),
        (3, "instance.smtp.config.password.changed", ["id", "password"]),
        (4, "instance.smtp.config.removed", ["id"]),
    ]


async def test_no_secret_is_stored_or_shown_in_clear(
    database: Database, database_url: str, providers: Providers, caplog: pytest.LogCaptureFixture
) -> None:
    added = await providers.add_smtp(smtp(), PASSWORD, EDITOR)
    hook = await providers.add_http(http(), EDITOR)
    await providers.activate(added.id, EDITOR)
    await providers.change_smtp(added.id, smtp(description="x"), PASSWORD, EDITOR)
    await providers.change_password(added.id, PASSWORD, EDITOR)
    assert hook.signing_key is not None
    shown = [
        await database.read(dump),
        await database.read(events),
        await providers.get(added.id),
        await providers.relay(),
    ]
    with pytest.raises(InvalidArgument) as caught:
        await providers.add_smtp(smtp(host="x"), PASSWORD, EDITOR)
    shown += [caught.value.args, caught.value.__context__, added, hook, caplog.text]

    for secret in (CANARY, hook.signing_key.reveal()):
        assert secret not in repr(shown)
        if database_url.startswith("sqlite"):
            path = database_url.removeprefix("sqlite:///")
            with open(path, "rb") as file, open(path + "-wal", "rb") as wal:
                assert secret.encode() not in file.read() + wal.read()


# --- many at once


async def test_of_fifty_concurrent_adds_none_fails(providers: Providers) -> None:
    """In the original 1-2 % of them do (departure 14)."""
    added = await asyncio.gather(*[providers.add_smtp(smtp(), PASSWORD, EDITOR) for _ in range(50)])

    assert len({one.id for one in added}) == 50
    assert sorted(one.details.sequence for one in added) == list(range(1, 51))
    assert (await providers.list()).total == 50


async def test_two_nodes_that_add_and_activate_at_once_never_leave_two_active(
    database: Database, database_url: str, new_providers: Callable[..., Providers]
) -> None:
    other_database = await open_database(database_url)
    try:
        nodes = [new_providers(database), new_providers(other_database)]
        added = await asyncio.gather(*[nodes[n % 2].add_smtp(smtp(), None, EDITOR) for n in range(20)])
        await asyncio.gather(*[nodes[n % 2].activate(one.id, EDITOR) for n, one in enumerate(added)])
        pages = [await node.list() for node in nodes]
    finally:
        await other_database.aclose()

    assert pages[0] == pages[1]
    assert pages[0].total == 20
    last = max(pages[0].items, key=lambda view: view.sequence)
    assert last.sequence == 40
    assert len([view for view in pages[0].items if view.state == "active"]) == 1


# --- what the worker is told


async def smtp_relay(providers: Providers) -> RelaySettings | None:
    """Return the active relay, if it is an SMTP provider that can be used."""
    relay = await providers.relay()
    return relay if isinstance(relay, RelaySettings) else None


async def test_the_worker_gets_the_active_relay_with_its_password(providers: Providers) -> None:
    assert await providers.relay() is None
    added = await providers.add_smtp(smtp(), PASSWORD, EDITOR)
    assert await smtp_relay(providers) is None
    await providers.activate(added.id, EDITOR)

    assert await smtp_relay(providers) == RelaySettings(
        provider_id=added.id,
        host="smtp.example.com",
        port=587,
        tls=TlsMode.AUTO,
        user="mailer",
        password=PASSWORD,
        ehlo_name="mx.example.org",
    )


async def test_the_worker_sees_every_change_at_once(providers: Providers) -> None:
    """Password rotation must work from the next attempt on; the clock stands still in this test."""
    told = 0

    async def listen() -> None:
        nonlocal told
        told += 1

    providers.subscribe(listen)
    added = await providers.add_smtp(smtp(), PASSWORD, EDITOR)
    await providers.activate(added.id, EDITOR)
    before = await smtp_relay(providers)

    await providers.change_password(added.id, SecretText("new"), EDITOR)
    after = await smtp_relay(providers)

    assert before is not None and after is not None
    assert (before.password, after.password) == (PASSWORD, SecretText("new"))
    await providers.change_password(added.id, None, EDITOR)
    erased = await smtp_relay(providers)
    assert erased is not None and (erased.user, erased.password) == ("", None)
    await providers.deactivate(added.id, EDITOR)
    assert await providers.relay() is None
    assert told == 4  # What was only added cannot send.


async def test_a_change_by_another_process_is_seen_after_a_while(
    database: Database, clock: Clock, new_providers: Callable[..., Providers]
) -> None:
    here, there = new_providers(database), new_providers(database)
    added = await here.add_smtp(smtp(), None, EDITOR)
    assert await there.relay() is None
    await here.activate(added.id, EDITOR)

    assert await there.relay() is None
    clock.us += there.relay_defaults.ttl_us
    assert await smtp_relay(there) is not None
    clock.us -= 10 * there.relay_defaults.ttl_us  # A clock that was set back makes nothing last for ever.
    await here.deactivate(added.id, EDITOR)
    assert await there.relay() is None


async def test_a_signing_key_is_used_beside_the_new_one_for_an_hour(
    database: Database, clock: Clock, new_providers: Callable[..., Providers]
) -> None:
    providers = new_providers(database)
    added = await providers.add_http(http(), EDITOR)
    await providers.activate(added.id, EDITOR)
    changed = await providers.change_http(added.id, http(), EDITOR, new_signing_key=True)
    await providers.change_http(added.id, http(description="other"), EDITOR)

    during = await providers.relay()
    clock.us += GRACE_US
    after = await providers.relay()

    assert isinstance(during, HTTPRelay) and isinstance(after, HTTPRelay)
    assert (during.signing_key, during.old_signing_key) == (changed.signing_key, added.signing_key)
    assert (after.signing_key, after.old_signing_key) == (changed.signing_key, None)


async def test_an_active_http_provider_says_so(providers: Providers) -> None:
    added = await providers.add_http(http(), EDITOR)
    await providers.activate(added.id, EDITOR)

    assert added.signing_key is not None
    relay = await providers.relay()
    assert isinstance(relay, HTTPRelay)
    assert (relay.provider_id, relay.endpoint) == (added.id, "https://hook.example.com/mail")
    assert relay.signing_key.reveal() == added.signing_key.reveal()
    assert await smtp_relay(providers) is None


@pytest.mark.parametrize(
    ("host", "user", "password"), [("h:25", "", PASSWORD), ("h:25", "u", None), ("h:25", "", None)]
)
async def test_auth_needs_a_user_and_a_password(
    providers: Providers, host: str, user: str, password: SecretText | None
) -> None:
    added = await providers.add_smtp(smtp(host=host, user=user, tls=False), password, EDITOR)
    await providers.activate(added.id, EDITOR)

    settings = await smtp_relay(providers)

    assert settings is not None
    assert (settings.user, settings.password, settings.tls) == ("", None, TlsMode.NONE)


@pytest.mark.parametrize("host", ["mail.example.com:", "mail.example.com:99999", ":"])
async def test_a_provider_without_a_usable_port_makes_mail_wait_and_says_why(providers: Providers, host: str) -> None:
    added = await providers.add_smtp(smtp(host=host), PASSWORD, EDITOR)
    await providers.activate(added.id, EDITOR)

    relay = await providers.relay()

    assert isinstance(relay, UnusableRelay)
    assert "port" in relay.reason


async def test_another_master_key_makes_mail_wait_and_says_why(
    database: Database, providers: Providers, new_providers: Callable[..., Providers]
) -> None:
    added = await providers.add_smtp(smtp(), PASSWORD, EDITOR)
    await providers.activate(added.id, EDITOR)

    relay = await new_providers(database, bytes([1] * 32)).relay()

    assert isinstance(relay, UnusableRelay)
    assert "not in the keyring" in relay.reason


async def test_the_password_remembers_what_it_was_entered_for(providers: Providers) -> None:
    """A changed destination keeps the password, as on the wire, and what it was meant for stays known.

    Without a user nobody logs in, so the password is in nobody's way.
    """
    added = await providers.add_smtp(smtp(), PASSWORD, EDITOR)
    await providers.change_smtp(added.id, smtp(host="other:25", tls=False, user="x"), None, EDITOR)
    moved = await providers.stored(added.id)
    await providers.change_smtp(added.id, smtp(host="other:25", tls=False, user="x"), PASSWORD, EDITOR)
    entered = await providers.stored(added.id)

    assert moved is not None and moved.bound_to == ("smtp.example.com:587", True, "mailer")
    assert entered is not None and entered.bound_to == ("other:25", False, "x")

    await providers.activate(added.id, EDITOR)
    await providers.change_smtp(added.id, smtp(host="third:25", tls=False, user=""), None, EDITOR)
    assert isinstance(await providers.relay(), RelaySettings)


# --- the domain policy


async def test_senders_must_use_a_domain_of_the_instance_where_its_policy_says_so(
    database: Database, clock: Clock, new_providers: Callable[..., Providers]
) -> None:
    providers = new_providers(database, domains=("example.com", "localhost"))
    settings = InstanceSettings(database, instance=INSTANCE, now_us=clock)
    foreign = smtp(sender_address="a@example.org")
    known = await providers.add_smtp(foreign, None, EDITOR)
    await settings.change(DomainPolicy(smtp_sender_address_matches_instance_domain=True), EDITOR)

    for attempt in (providers.add_smtp(foreign, None, EDITOR), providers.change_smtp(known.id, foreign, None, EDITOR)):
        with pytest.raises(InvalidArgument, match="INST-xtWIiR2ZbR"):
            await attempt
    await providers.add_smtp(smtp(sender_address="a@example.com"), None, EDITOR)
    await providers.add_http(http(), EDITOR)
    await providers.activate(known.id, EDITOR)

    await settings.change(DomainPolicy(), EDITOR)
    await providers.change_smtp(known.id, smtp(sender_address="b@example.org"), None, EDITOR)


async def test_a_policy_that_another_node_changed_holds_at_once(
    database: Database, database_url: str, clock: Clock, new_providers: Callable[..., Providers]
) -> None:
    providers = new_providers(database, domains=("example.com",))
    foreign = smtp(sender_address="a@example.org")
    await providers.add_smtp(foreign, None, EDITOR)
    other = await open_database(database_url)
    settings = InstanceSettings(other, instance=INSTANCE, now_us=clock)
    await settings.change(DomainPolicy(smtp_sender_address_matches_instance_domain=True), EDITOR)

    with pytest.raises(InvalidArgument, match="INST-xtWIiR2ZbR"):
        await providers.add_smtp(foreign, None, EDITOR)

    await settings.change(DomainPolicy(), EDITOR)
    await providers.add_smtp(foreign, None, EDITOR)
    await other.aclose()
