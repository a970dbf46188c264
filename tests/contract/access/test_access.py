"""Tokens, users and memberships on both engines."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any, cast

import pytest

from mailward.access import commands, events, queries
from mailward.access.access import MEMORY_US, Access, open_access
from mailward.access.projection import AccessProjection
from mailward.access.roles import MESSAGE_SEND, TokenRole
from mailward.access.tokens import Caller, new_token
from mailward.db.database import Database, Transaction
from mailward.errors import AlreadyExists, InvalidArgument, NotFound, TooManyFailures
from mailward.eventstore import store
from mailward.eventstore.event import RecordedEvent
from mailward.ids import InstanceId
from tests.support.waiting import until

DAY_US = 86_400_000_000


@dataclass
class World:
    """A gateway's access room, and the clock it looks at."""

    database: Database
    clock: list[int]
    access: Access

    def pass_us(self, us: int) -> None:
        self.clock[0] += us

    async def other_process(self) -> Access:
        """Return the access room of another process on the same database."""
        return await open_access(self.database, self._ids(9), lambda: self.clock[0])

    @staticmethod
    def _ids(node: int) -> Callable[[], int]:
        return count(node * 100_000_000_000_000_000).__next__


@pytest.fixture
async def world(database: Database) -> World:
    clock = [1_790_000_000_000_000]
    access = await open_access(database, World._ids(1), lambda: clock[0])
    return World(database, clock, access)


async def caller_of(access: Access, token: str) -> Caller:
    caller = await access.authenticate(token)
    assert caller is not None
    return caller


# -- the first start -----------------------------------------------------------------------------------------------


async def test_the_instance_keeps_the_id_of_the_first_start(world: World) -> None:
    again = await world.other_process()

    assert again.instance == world.access.instance
    assert len(again.instance) == 18


async def test_the_first_start_makes_an_owner_and_no_later_one_does(world: World) -> None:
    first = await world.access.ensure_owner()
    second = await world.access.ensure_owner()

    assert first is not None
    assert second is None
    owner = await caller_of(world.access, first.text)
    assert (owner.name, set(owner.roles), owner.is_member) == ("owner", {"IAM_OWNER"}, True)


async def test_an_installation_whose_tokens_are_all_revoked_gets_no_new_owner_by_a_restart(world: World) -> None:
    """Whoever revokes the last token means it; the command line makes another."""
    await world.access.ensure_owner()
    await world.access.revoke_token("owner")

    assert await world.access.ensure_owner() is None


# -- authenticating ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("role", "roles", "permission"),
    [
        (TokenRole.OWNER, {"IAM_OWNER"}, "iam.write"),
        (TokenRole.VIEWER, {"IAM_OWNER_VIEWER"}, "iam.read"),
        (TokenRole.SENDER, set(), "message.send"),
    ],
)
async def test_a_token_makes_its_holder_what_its_role_says(
    world: World, role: TokenRole, roles: set[str], permission: str
) -> None:
    made = await world.access.create_token(role, "ci")

    caller = await caller_of(world.access, made.text)
    assert (caller.user_id, caller.token_id, caller.name) == (made.row.user_id, made.row.id, "ci")
    assert (set(caller.roles), caller.is_member) == (roles, role is not TokenRole.SENDER)
    assert permission in caller.permissions


@pytest.mark.parametrize("text", ["", "garbage", pytest.param(new_token(), id="unknown")])
async def test_an_unknown_token_is_nobodys(world: World, text: str) -> None:
    await world.access.ensure_owner()

    assert await world.access.authenticate(text) is None


async def test_a_token_ends_at_its_expiry_also_while_it_is_remembered(world: World) -> None:
    made = await world.access.create_token(TokenRole.SENDER, "ci", expires_in_us=1_000)
    await caller_of(world.access, made.text)

    world.pass_us(1_000)

    assert await world.access.authenticate(made.text) is None


async def test_a_revoked_token_is_refused_at_once_here_and_within_a_second_elsewhere(world: World) -> None:
    other = await world.other_process()
    made = await world.access.create_token(TokenRole.OWNER, "ci")
    await caller_of(other, made.text)
    await caller_of(world.access, made.text)

    await world.access.revoke_token(made.row.id)

    assert await world.access.authenticate(made.text) is None
    assert await other.authenticate(made.text) is not None
    world.pass_us(MEMORY_US)
    assert await other.authenticate(made.text) is None


async def test_a_clock_that_was_set_back_does_not_prolong_the_memory(world: World) -> None:
    other = await world.other_process()
    made = await world.access.create_token(TokenRole.OWNER, "ci")
    await caller_of(other, made.text)

    world.pass_us(-DAY_US)
    await world.access.revoke_token(made.row.id)

    assert await other.authenticate(made.text) is None


async def test_a_lost_membership_is_lost_for_tokens_that_are_out(world: World) -> None:
    made = await world.access.create_token(TokenRole.OWNER, "ci")
    await world.database.write(remove_member, world.access.instance, made.row.user_id)

    caller = await caller_of(world.access, made.text)

    assert (caller.is_member, caller.permissions) == (False, frozenset())


def remove_member(tx: Transaction, instance: InstanceId, user_id: str) -> None:
    version = store.version(tx, events.INSTANCE, instance, lock=True)
    gone = events.member_removed(queries.list_tokens(tx)[0].user_id)
    projections = [AccessProjection()]
    store.append(tx, events.INSTANCE, instance, version, [gone], editor=user_id, at_us=1, projections=projections)


# -- making and revoking -------------------------------------------------------------------------------------------


async def test_a_second_token_of_the_same_name_and_role_is_of_the_same_user(world: World) -> None:
    """So that a token can be replaced without its messages changing hands."""
    old = await world.access.create_token(TokenRole.SENDER, "ci")
    new = await world.access.create_token(TokenRole.SENDER, "ci")

    assert new.row.user_id == old.row.user_id
    await caller_of(world.access, old.text)
    await caller_of(world.access, new.text)


@pytest.mark.parametrize(("first", "second"), [("owner", "sender"), ("sender", "owner"), ("viewer", "owner")])
async def test_a_name_cannot_be_used_for_another_role(world: World, first: str, second: str) -> None:
    await world.access.create_token(TokenRole(first), "ci")

    with pytest.raises(AlreadyExists):
        await world.access.create_token(TokenRole(second), "ci")


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "a\0b", "x" * 201])
async def test_a_name_that_cannot_be_shown_is_refused(world: World, name: str) -> None:
    with pytest.raises(InvalidArgument):
        await world.access.create_token(TokenRole.SENDER, name)


async def test_a_token_cannot_be_born_dead(world: World) -> None:
    with pytest.raises(InvalidArgument):
        await world.access.create_token(TokenRole.SENDER, "ci", expires_in_us=0)


async def test_the_list_shows_living_and_expired_tokens_oldest_first(world: World) -> None:
    owner = await world.access.create_token(TokenRole.OWNER, "owner")
    world.pass_us(1)
    sender = await world.access.create_token(TokenRole.SENDER, "ci", expires_in_us=5)
    world.pass_us(DAY_US)

    assert await world.access.list_tokens() == [owner.row, sender.row]


async def test_a_name_revokes_all_tokens_of_that_user(world: World) -> None:
    for name in ("ci", "ci", "other"):
        await world.access.create_token(TokenRole.SENDER, name)

    revoked = await world.access.revoke_token("ci")

    assert [token.name for token in revoked] == ["ci", "ci"]
    assert [token.name for token in await world.access.list_tokens()] == ["other"]


async def test_revoking_what_is_not_there_is_an_error(world: World) -> None:
    with pytest.raises(NotFound):
        await world.access.revoke_token("ci")


# -- events --------------------------------------------------------------------------------------------------------


async def test_what_was_done_is_told_by_the_events_and_no_event_holds_a_token(world: World) -> None:
    made = await world.access.create_token(TokenRole.OWNER, "ci", expires_in_us=7)
    await world.access.revoke_token(made.row.id)

    recorded = await world.database.read(store.read_all)
    assert [event.type for event in recorded] == [
        "user.machine.added",
        "user.pat.added",
        "instance.member.added",
        "user.pat.removed",
    ]
    assert recorded[2].payload == {"userId": made.row.user_id, "roles": ["IAM_OWNER"]}
    assert {event.editor for event in recorded} == {commands.SYSTEM}
    assert made.text not in str(recorded)
    assert made.text not in repr(made)


async def test_the_read_tables_rebuilt_from_the_events_are_the_same(world: World) -> None:
    for role in TokenRole:
        await world.access.create_token(role, role.value)
    await world.access.create_token(TokenRole.SENDER, "gone")
    await world.access.revoke_token("gone")
    before = await world.database.read(everything)

    await world.database.write(rebuild, await world.database.read(store.read_all))

    assert await world.database.read(everything) == before
    assert [len(rows) for rows in before] == [4, 3, 2]


def everything(tx: Transaction) -> list[list[tuple[object, ...]]]:
    return [tx.fetch(f"SELECT * FROM {table} ORDER BY 1") for table in ("users", "tokens", "members")]


def rebuild(tx: Transaction, recorded: list[RecordedEvent]) -> None:
    projection = AccessProjection()
    projection.reset(tx)
    for event in recorded:
        projection.apply(tx, event)


# -- open sessions ---------------------------------------------------------------------------------------------------


class LateAnswers:
    """A database whose answers about single tokens arrive when they are let through."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.read_one, self.arrive = asyncio.Event(), asyncio.Event()

    async def read(self, function: Callable[..., Any], *args: Any) -> Any:
        found = await self._database.read(function, *args)
        if function is queries.grant:
            self.read_one.set()
            await self.arrive.wait()
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)


async def test_a_change_meanwhile_turns_nobody_away_who_signs_in(world: World) -> None:
    late = LateAnswers(world.database)
    access = Access(cast(Database, late), World._ids(2), lambda: world.clock[0], world.access.instance)
    made = await access.create_token(TokenRole.SENDER, "app")
    signing_in = asyncio.create_task(access.sign_in(made.text, "smtp", "127.0.0.1", MESSAGE_SEND))
    await late.read_one.wait()
    await access.changed()
    late.arrive.set()

    assert await signing_in is not None


async def test_a_session_that_begins_during_the_revocation_of_its_token_does_not_outlive_it(world: World) -> None:
    late = LateAnswers(world.database)
    access = Access(cast(Database, late), World._ids(2), lambda: world.clock[0], world.access.instance)
    made = await access.create_token(TokenRole.SENDER, "app")
    signing_in = asyncio.create_task(access.sign_in(made.text, "smtp", "127.0.0.1", MESSAGE_SEND))
    await late.read_one.wait()
    await access.revoke_token("app")
    late.arrive.set()

    assert await signing_in is None


async def test_at_the_submission_door_a_token_that_may_not_send_is_as_wrong_as_an_unknown_one(world: World) -> None:
    access = Access(
        world.database, World._ids(2), lambda: world.clock[0], world.access.instance,
        failures_per_minute=3, monotonic=lambda: 0.0,
    )  # fmt: skip
    viewer = await access.create_token(TokenRole.VIEWER, "viewer")
    sender = await access.create_token(TokenRole.SENDER, "app")
    peer = "198.51.100.7"
    for _ in range(2):
        assert await access.sign_in(viewer.text, "smtp", peer, MESSAGE_SEND) is None
    await access.refuse("smtp", peer, "another authorization identity")

    with pytest.raises(TooManyFailures):
        await access.sign_in(viewer.text, "smtp", peer, MESSAGE_SEND)
    with pytest.raises(TooManyFailures):
        await access.sign_in(sender.text, "smtp", peer, MESSAGE_SEND)
    with pytest.raises(TooManyFailures):
        await access.refuse("smtp", peer, "another authorization identity")
    assert await access.sign_in(sender.text, "smtp", "127.0.0.1", MESSAGE_SEND) is not None


async def test_a_session_loses_its_standing_with_the_answer_to_the_revocation(world: World) -> None:
    made = await world.access.create_token(TokenRole.SENDER, "app")
    standing = await world.access.sign_in(made.text, "smtp", "127.0.0.1", MESSAGE_SEND)
    assert standing is not None and standing.permits(MESSAGE_SEND, world.clock[0])

    await world.access.revoke_token("app")

    assert not standing.permits(MESSAGE_SEND, world.clock[0])
    assert await world.access.sign_in(made.text, "smtp", "127.0.0.1", MESSAGE_SEND) is None


async def test_a_session_loses_its_standing_when_its_token_expires_or_its_membership_ends(world: World) -> None:
    app = await world.access.create_token(TokenRole.SENDER, "app", expires_in_us=DAY_US)
    owner = await world.access.create_token(TokenRole.OWNER, "boss")
    sessions = [await world.access.sign_in(made.text, "smtp", "127.0.0.1", MESSAGE_SEND) for made in (app, owner)]
    assert [one is not None and one.permits(MESSAGE_SEND, world.clock[0]) for one in sessions] == [True, True]

    await world.access.remove_member(owner.row.user_id, commands.SYSTEM)
    world.pass_us(DAY_US)

    assert [one is not None and one.permits(MESSAGE_SEND, world.clock[0]) for one in sessions] == [False, False]


async def test_a_session_loses_its_standing_by_another_node_at_the_next_look(world: World) -> None:
    made = await world.access.create_token(TokenRole.SENDER, "app")
    other = await world.other_process()
    standing = await other.sign_in(made.text, "smtp", "127.0.0.1", MESSAGE_SEND)
    assert standing is not None
    async with other.standings.watched(0.005):
        await world.access.revoke_token("app")
        await until(lambda: not standing.permits(MESSAGE_SEND, world.clock[0]))


async def test_sessions_keep_their_standing_while_the_store_cannot_be_read(world: World) -> None:
    made = await world.access.create_token(TokenRole.SENDER, "app")
    standing = await world.access.sign_in(made.text, "smtp", "127.0.0.1", MESSAGE_SEND)
    await world.database.aclose()

    await world.access.standings.refresh()

    assert standing is not None and standing.permits(MESSAGE_SEND, world.clock[0])
