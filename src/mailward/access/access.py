"""Who may call: tokens to callers, with a memory of one second."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from mailward.access import commands, members, queries
from mailward.access.commands import CreateToken, RevokeToken
from mailward.access.guesses import Door, Guesses, SignIn
from mailward.access.members import ChangeMember, MemberDetails
from mailward.access.queries import Grant, MemberOrder, MemberRow, TokenRow, UserRow
from mailward.access.roles import TokenRole
from mailward.access.standing import Standing, Standings
from mailward.access.tokens import Caller, digest, new_token
from mailward.db.database import Database, Transaction
from mailward.errors import InvalidArgument
from mailward.ids import InstanceId, UserId
from mailward.peer import IpNetwork

T = TypeVar("T")

#: How long a revocation, or a lost membership, by another process may go unnoticed.
MEMORY_US = 1_000_000
_MEMORY_SIZE = 10_000  #: tokens; beyond it everything is forgotten, so that a flood of bad tokens costs no memory


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token just made. `text` is shown to its owner once and kept nowhere."""

    text: str
    row: TokenRow

    def __repr__(self) -> str:
        return f"NewToken(row={self.row!r})"


class _Seen(NamedTuple):
    """What the store said of a token."""

    at_us: int
    reading: int  #: see Standings
    grant: Grant | None  #: None: there is no such token


class Access:
    """The one that doors ask who calls."""

    def __init__(
        self,
        db: Database,
        ids: Callable[[], int],
        now_us: Callable[[], int],
        instance: InstanceId,
        *,
        failures_per_minute: int = 0,
        unlimited: tuple[IpNetwork, ...] = (),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`ids` draws ids of 18 digits; `now_us` gives µs since 1970.

        `failures_per_minute`, `unlimited`: see Guesses.
        """
        self._db = db
        self._ids = ids
        self._now_us = now_us
        self.instance = instance
        self._memory: dict[bytes, _Seen] = {}  #: by digest
        self.guesses = Guesses(failures_per_minute, monotonic, self._record_limited, unlimited)
        self.standings = Standings(db)

    async def admit(self, token: str, door: Door, peer: str, *, for_api: bool = True) -> Caller | None:
        """Do what `authenticate` does for somebody at `door`, within the limit on failures.

        Raises TooManyFailures, Unavailable.
        """
        caller = self.remembered(token)
        if caller is not None:
            return caller
        attempt = SignIn(door, peer, token)
        async with self.guesses.turn(attempt):
            caller = await self.authenticate(token, for_api=for_api)
            if caller is None:
                await self.guesses.wrong(attempt, "unknown token")
            else:
                self.guesses.right(attempt)
            return caller

    async def sign_in(self, token: str, door: Door, peer: str, permission: str) -> Standing | None:
        """Return the standing of a token for a session, which stays true as long as that lasts.

        None for a wrong one, and for one that lacks `permission`: where it is good for nothing it counts as wrong.
        Raises TooManyFailures, Unavailable.
        """
        attempt, key = SignIn(door, peer, token), digest(token)
        async with self.guesses.turn(attempt):
            standing = Standing() if key is None else self.standings.hold(key)
            if key is not None:
                seen = await self._look(key)
                standing.learn(seen.grant, seen.reading)
            if standing.permits(permission, self._now_us()):
                self.guesses.right(attempt)
                return standing
            reason = "unknown token" if standing.grant is None else f"expired, or without {permission}"
            await self.guesses.wrong(attempt, reason)
            return None

    async def refuse(self, door: Door, peer: str, reason: str) -> None:
        """Count a failure of who offers what need not be looked at. Raises TooManyFailures, Unavailable."""
        attempt = SignIn(door, peer)
        async with self.guesses.turn(attempt):
            await self.guesses.wrong(attempt, reason)

    async def authenticate(self, token: str, *, for_api: bool = True) -> Caller | None:
        """Return whom `token` stands for, or None when it is malformed, unknown, revoked or expired.

        `for_api`: None too for an access token that was asked for without the API's audience.

        Raises Unavailable when the database cannot be read.
        """
        key = digest(token)
        if key is None:
            return None
        granted = (await self._look(key)).grant
        if granted is None or granted.has_expired(self._now_us()):
            return None
        return granted.caller if granted.for_api or not for_api else None

    async def _look(self, key: bytes) -> _Seen:
        now_us = self._now_us()
        seen = self._memory.get(key)
        if seen is None or not 0 <= now_us - seen.at_us < MEMORY_US:
            memory, reading = self._memory, self.standings.reading()
            seen = _Seen(now_us, reading, await self._db.read(queries.grant, key))
            if len(memory) >= _MEMORY_SIZE:
                memory.clear()
            memory[key] = seen  # Into the memory from before the read: a change may have come since.
        return seen

    def remembered(self, token: str) -> Caller | None:
        """Return whom `token` stands for if that is known without a look at the database; None: ask `authenticate`."""
        key = digest(token)
        seen = self._memory.get(key) if key is not None else None
        now_us = self._now_us()
        if seen is None or not 0 <= now_us - seen.at_us < MEMORY_US:
            return None
        granted = seen.grant
        if granted is None or granted.has_expired(now_us):
            return None
        return granted.caller if granted.for_api else None

    async def changed(self) -> None:
        """Read everything anew: what this process just changed is seen at once, in open sessions too."""
        self._memory = {}
        await self.standings.refresh()

    async def _record_limited(self, network: str, door: str) -> None:
        await self._db.write(commands.record_limited, self.instance, network, door, self._now_us())

    async def create_token(
        self,
        role: TokenRole,
        name: str,
        *,
        text: str | None = None,
        expires_in_us: int | None = None,
        editor: UserId = commands.SYSTEM,
    ) -> NewToken:
        """Make a token for the user called `name`. Raises InvalidArgument, AlreadyExists.

        `text`: the token, where secrets are made elsewhere: "mw_" and 43 letters of base64url. None: a new one.
        """
        text, command = self._new(role, name, expires_in_us, editor, text)
        row = await self._db.write(commands.create_token, command)
        await self.changed()
        return NewToken(text, row)

    async def ensure_owner(self) -> NewToken | None:
        """Make the user "owner" with a token if there is no user at all; None when there is one."""
        text, command = self._new(TokenRole.OWNER, commands.OWNER_NAME, None, commands.SYSTEM, None)
        row = await self._db.write(commands.create_owner, command)
        return NewToken(text, row) if row else None

    async def revoke_token(self, token: str, *, editor: UserId = commands.SYSTEM) -> list[TokenRow]:
        """Revoke the token with the id `token`, or all tokens of the user called so. Raises NotFound."""
        command = RevokeToken(instance=self.instance, token=token, editor=editor, at_us=self._now_us())
        revoked = await self._db.write(commands.revoke_token, command)
        await self.changed()
        return revoked

    async def add_member(self, user_id: UserId, roles: Sequence[str], editor: UserId) -> MemberDetails:
        """Make a user a member of the instance. Raises InvalidArgument, FailedPrecondition, AlreadyExists."""
        return await self._change(members.add, user_id, roles, editor)

    async def change_member(self, user_id: UserId, roles: Sequence[str], editor: UserId) -> MemberDetails:
        """Replace a member's roles. Raises InvalidArgument, NotFound."""
        return await self._change(members.change, user_id, roles, editor)

    async def remove_member(self, user_id: UserId, editor: UserId) -> MemberDetails:
        """End a membership, if there is one."""
        return await self._change(members.remove, user_id, (), editor)

    async def _change(
        self,
        command: Callable[[Transaction, ChangeMember], MemberDetails],
        user_id: UserId,
        roles: Sequence[str],
        editor: UserId,
    ) -> MemberDetails:
        change = ChangeMember(
            instance=self.instance, user_id=user_id, roles=tuple(roles), editor=editor, at_us=self._now_us()
        )
        details = await self._db.write(command, change)
        await self.changed()  # Tokens that are out already gain or lose with it.
        return details

    async def list_members(
        self, *, user_id: str | None, order: MemberOrder, asc: bool, offset: int, limit: int
    ) -> tuple[list[MemberRow], int]:
        """Return a page of the members, and how many there are."""
        return await self._db.read(queries.members, user_id, order, asc, offset, limit)

    async def user(self, user_id: UserId) -> UserRow | None:
        """Return the user with this id, or None."""
        return await self._db.read(queries.user_by_id, user_id)

    async def list_tokens(self) -> list[TokenRow]:
        """Return all tokens that were not revoked, oldest first."""
        return await self._db.read(queries.list_tokens)

    def _new(
        self, role: TokenRole, name: str, expires_in_us: int | None, editor: UserId, given: str | None
    ) -> tuple[str, CreateToken]:
        text, now_us = given or new_token(), self._now_us()
        key = digest(text)
        if key is None:
            raise InvalidArgument("ACCESS-Fm2Tk", "a token is mw_ and 43 letters of base64url (256 random bits)")
        return text, CreateToken(
            instance=self.instance,
            user_id=UserId(str(self._ids())),
            token_id=str(self._ids()),
            digest=key,
            role=role,
            name=name,
            expires_at_us=None if expires_in_us is None else now_us + expires_in_us,
            editor=editor,
            at_us=now_us,
        )


async def open_access(db: Database, ids: Callable[[], int], now_us: Callable[[], int]) -> Access:
    """Return the Access of this database; its instance gets an id at the first start."""
    instance = await db.write(commands.ensure_instance, InstanceId(str(ids())))
    return Access(db, ids, now_us, instance)
