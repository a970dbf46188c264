"""Changes to who may call: each a function for Database.write that loads, decides and appends (SQL: table meta)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from mailward.access import events, queries
from mailward.access.projection import AccessProjection
from mailward.access.roles import MEMBER_ROLE, TokenRole
from mailward.db.database import Transaction
from mailward.errors import AlreadyExists, InvalidArgument, NotFound
from mailward.eventstore import store
from mailward.eventstore.event import NewEvent
from mailward.ids import InstanceId, UserId

SYSTEM = UserId("SYSTEM")  #: the editor of what is done at the command line or at the first start
OWNER_NAME = "owner"  #: the user made at the first start

_MAX_NAME = 200
_PROJECTIONS = (AccessProjection(),)

_KEEP_INSTANCE = "INSERT INTO meta (key, value) VALUES ('instance', :id) ON CONFLICT (key) DO NOTHING"


def ensure_instance(tx: Transaction, new_id: InstanceId) -> InstanceId:
    """Return the id of this database's instance; at the first start that becomes `new_id`."""
    tx.execute(_KEEP_INSTANCE, id=new_id)
    found = queries.instance_id(tx)
    assert found is not None
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateToken:
    """A token to be made, and the user to be made with it when nobody has the name yet."""

    instance: InstanceId
    user_id: UserId  #: of the user, if a new one is needed
    token_id: str
    digest: bytes  #: SHA-256 of the token
    role: TokenRole
    name: str  #: 1 to 200 characters
    expires_at_us: int | None = None  #: None: without end
    editor: UserId = SYSTEM
    at_us: int


def create_token(tx: Transaction, command: CreateToken) -> queries.TokenRow:
    """Make a token for the user called `name`, who gets the membership that the role asks for if it is new.

    A further token for a living user of the same role is how tokens are rotated. Raises InvalidArgument, and
    AlreadyExists when the name belongs to a user of another role.
    """
    if command.expires_at_us is not None and command.expires_at_us <= command.at_us:
        raise InvalidArgument("ACCESS-Ex7Pt", "a token must expire in the future", pointer="/expires_at")
    user_id = give(tx, command, events.pat_added(command.token_id, command.digest, command.role, command.expires_at_us))
    row = (command.token_id, command.name, command.role, command.at_us, command.expires_at_us, user_id)
    return queries.TokenRow(*row)


class ForUser(Protocol):
    """What is given to the machine user called `name`, who is made with the role if there is none yet."""

    @property
    def instance(self) -> InstanceId: ...
    @property
    def user_id(self) -> UserId: ...
    @property
    def role(self) -> TokenRole: ...
    @property
    def name(self) -> str: ...
    @property
    def editor(self) -> UserId: ...
    @property
    def at_us(self) -> int: ...


def give(tx: Transaction, command: ForUser, event: NewEvent) -> UserId:
    """Append `event` to the user it is for; make the user, with the membership its role asks for, if it is new.

    Raises InvalidArgument, and AlreadyExists when the name belongs to a user of another role.
    """
    if not command.name.strip() or len(command.name) > _MAX_NAME or not command.name.isprintable():
        raise InvalidArgument("ACCESS-Nm3Lq", f"a name has 1 to {_MAX_NAME} printable characters", pointer="/name")
    # The lock makes commands of this room queue up on every engine, so that a name is given out once.
    instance_version = store.version(tx, events.INSTANCE, command.instance, lock=True)
    user = queries.user_by_name(tx, command.name)
    user_id = user.id if user else command.user_id
    new = [event] if user else [events.machine_added(command.name, command.role), event]
    if user is not None and user.role is not command.role:
        raise AlreadyExists("ACCESS-Rl5Vb", f"{command.name!r} is a user of another role; choose another name")
    _append(tx, command, (events.USER, user_id), store.version(tx, events.USER, user_id, lock=True), new)
    member_role = MEMBER_ROLE.get(command.role)
    if user is None and member_role:
        membership = events.member_added(user_id, [member_role])
        _append(tx, command, (events.INSTANCE, command.instance), instance_version, [membership])
    return user_id


def create_owner(tx: Transaction, command: CreateToken) -> queries.TokenRow | None:
    """Do what `create_token` does if no user exists yet; otherwise nothing, and return None."""
    store.lock_appends(tx)
    return None if queries.has_users(tx) else create_token(tx, command)


@dataclass(frozen=True, slots=True, kw_only=True)
class RevokeToken:
    """Tokens to be revoked: the one with this id, or all of the user with this name."""

    instance: InstanceId
    token: str  #: id of a token, or name of a user
    editor: UserId = SYSTEM
    at_us: int


def revoke_token(tx: Transaction, command: RevokeToken) -> list[queries.TokenRow]:
    """Revoke for good, and return what was revoked. Users and memberships stay. Raises NotFound."""
    store.lock_appends(tx)
    tokens = queries.list_tokens(tx)
    found = [token for token in tokens if token.id == command.token]
    found = found or [token for token in tokens if token.name == command.token]
    if not found:
        raise NotFound("ACCESS-Tk8Wd", f"no token has the id, and no user with a token the name, {command.token!r}")
    for token in found:
        version = store.version(tx, events.USER, token.user_id, lock=True)
        _append(tx, command, (events.USER, token.user_id), version, [events.pat_removed(token.id)])
    return found


def record_limited(tx: Transaction, instance: InstanceId, network: str, door: str, at_us: int) -> None:
    """Put on record that an address was wrong too often."""
    version = store.version(tx, events.INSTANCE, instance, lock=True)
    event = events.address_limited(network, door)
    store.append(tx, events.INSTANCE, instance, version, [event], editor=SYSTEM, at_us=at_us, projections=())


def role_of(tx: Transaction, user_id: UserId) -> TokenRole:
    """Return what an existing user was made for."""
    user = queries.user_by_id(tx, user_id)
    assert user is not None, "users are never removed"
    return user.role


class Edited(Protocol):
    """Who did it, and when."""

    @property
    def editor(self) -> UserId: ...
    @property
    def at_us(self) -> int: ...


def _append(
    tx: Transaction,
    command: Edited,
    aggregate: tuple[str, str],
    version: int,
    new: Sequence[NewEvent],
) -> None:
    kind, id = aggregate
    store.append(tx, kind, id, version, new, editor=command.editor, at_us=command.at_us, projections=_PROJECTIONS)
