"""What is asked of the read tables of users, tokens and members (SQL)."""

import hmac
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from mailward.access.roles import TokenRole, permissions
from mailward.access.tokens import Caller
from mailward.db.database import Transaction
from mailward.ids import InstanceId, UserId

_INSTANCE = "SELECT value FROM meta WHERE key = 'instance'"


def instance_id(tx: Transaction) -> InstanceId | None:
    """Return the id of the instance that this database belongs to, or None before its first start."""
    row = tx.fetch_one(_INSTANCE)
    return InstanceId(row[0]) if row else None


@dataclass(frozen=True, slots=True)
class Grant:
    """A living token: whom it stands for, and until when."""

    caller: Caller
    expires_at_us: int | None  #: None: without end
    for_api: bool  #: False: an access token that was asked for without the API's audience

    def has_expired(self, now_us: int) -> bool:
        return self.expires_at_us is not None and self.expires_at_us <= now_us


_BY_DIGEST = """
    SELECT tokens.digest, tokens.id, tokens.role, tokens.expires_at_us, tokens.for_api,
           users.id, users.name, members.roles
      FROM tokens JOIN users ON users.id = tokens.user_id LEFT JOIN members ON members.user_id = users.id
     WHERE tokens.digest = :digest
"""


def grant(tx: Transaction, digest: bytes) -> Grant | None:
    """Return what the token with this SHA-256 grants, be it expired or not, or None when there is no such token."""
    row = tx.fetch_one(_BY_DIGEST, digest=digest)
    if row is None or not hmac.compare_digest(bytes(row[0]), digest):
        return None
    _, token_id, role, expires_at_us, for_api, user_id, name, roles_json = row
    roles = frozenset(json.loads(roles_json)) if roles_json is not None else frozenset()
    granted = permissions(TokenRole(role), roles)
    return Grant(
        Caller(UserId(user_id), token_id, name, roles, granted, roles_json is not None), expires_at_us, bool(for_api)
    )


def grants(tx: Transaction, digests: Sequence[bytes]) -> dict[bytes, Grant]:
    """Return what those of the tokens with these SHA-256 grant that there are."""
    found = {digest: grant(tx, digest) for digest in digests}
    return {digest: one for digest, one in found.items() if one is not None}


@dataclass(frozen=True, slots=True)
class TokenRow:
    """A token as an operator sees it. The text is known to nobody but its holder."""

    id: str
    name: str  #: of its user
    role: TokenRole
    created_at_us: int
    expires_at_us: int | None  #: None: without end
    user_id: UserId


_TOKENS = """
    SELECT tokens.id, users.name, tokens.role, tokens.created_at_us, tokens.expires_at_us, users.id
      FROM tokens JOIN users ON users.id = tokens.user_id
     WHERE tokens.kind = 'pat'
     ORDER BY tokens.created_at_us, tokens.id
"""


def list_tokens(tx: Transaction) -> list[TokenRow]:
    """Return all tokens that were not revoked, expired ones included, oldest first."""
    return [
        TokenRow(id, name, TokenRole(role), created_at_us, expires_at_us, UserId(user_id))
        for id, name, role, created_at_us, expires_at_us, user_id in tx.fetch(_TOKENS)
    ]


@dataclass(frozen=True, slots=True)
class UserRow:
    """A machine user."""

    id: UserId
    name: str
    role: TokenRole  #: what it was made for
    sequence: int  #: version of its aggregate at its last event
    created_at_us: int
    changed_at_us: int


_USER = "SELECT id, name, role, sequence, created_at_us, changed_at_us FROM users WHERE "


def user_by_name(tx: Transaction, name: str) -> UserRow | None:
    """Return the user called exactly `name`, or None."""
    return _user(tx.fetch_one(_USER + "name = :name", name=name))


def user_by_id(tx: Transaction, user_id: UserId) -> UserRow | None:
    """Return the user with this id, or None."""
    return _user(tx.fetch_one(_USER + "id = :id", id=user_id))


def _user(row: tuple[object, ...] | None) -> UserRow | None:
    if row is None:
        return None
    id, name, role, *rest = row
    return UserRow(id, name, TokenRole(role), *rest)  # type: ignore[arg-type]  # the columns are those of _USER


def display_name(tx: Transaction, user_id: UserId) -> str | None:
    """Return how a user is shown to people, None when there is no such user."""
    row = tx.fetch_one("SELECT display_name FROM users WHERE id = :id", id=user_id)
    return row[0] if row else None


def has_users(tx: Transaction) -> bool:
    """Whether anybody was ever given access."""
    return tx.fetch_one("SELECT 1 FROM users LIMIT 1") is not None


@dataclass(frozen=True, slots=True)
class Membership:
    """What a user is, or was, to the instance."""

    roles: tuple[str, ...] | None  #: in the order in which they were given; None: a member no longer
    sequence: int  #: version of the instance at the membership's last event
    created_at_us: int
    changed_at_us: int


_MEMBERSHIP = "SELECT roles, sequence, created_at_us, changed_at_us FROM members WHERE user_id = :id"


def membership(tx: Transaction, user_id: UserId) -> Membership | None:
    """Return the membership of a user, also a former one; None when there never was any."""
    row = tx.fetch_one(_MEMBERSHIP, id=user_id)
    return Membership(_roles(row[0]), *row[1:]) if row else None


def member_roles(tx: Transaction, user_id: UserId) -> tuple[str, ...] | None:
    """Return the roles of a member, in the order in which they were given; None when the user is no member."""
    found = membership(tx, user_id)
    return found.roles if found else None


def _roles(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(json.loads(text))


@dataclass(frozen=True, slots=True)
class MemberRow:
    """A member as lists show one."""

    user_id: UserId
    name: str  #: of the user
    membership: Membership


MemberOrder = Literal["user_id", "created_at_us", "changed_at_us"]

_MEMBERS = """
    SELECT users.id, users.name, members.roles, members.sequence, members.created_at_us, members.changed_at_us
      FROM members JOIN users ON users.id = members.user_id
     WHERE members.roles IS NOT NULL
"""
#: By what a list may be sorted; a tie is broken by the user, so that pages do not overlap.
_ORDERS: dict[tuple[MemberOrder, bool], str] = {
    (column, asc): f" ORDER BY members.{column} {'ASC' if asc else 'DESC'}, members.user_id"
    for column in get_args(MemberOrder)
    for asc in (True, False)
}


def members(
    tx: Transaction, user_id: str | None, order: MemberOrder, asc: bool, offset: int, limit: int
) -> tuple[list[MemberRow], int]:
    """Return up to `limit` (0: all) members after the first `offset`, and how many there are in all.

    `user_id`: this one only. Instances have a handful of members, so they are counted by reading them.
    """
    chosen = "" if user_id is None else " AND members.user_id = :user_id"
    rows = tx.fetch(_MEMBERS + chosen + _ORDERS[order, asc], user_id=user_id)
    page = rows[offset : offset + limit] if limit else rows[offset:]
    return [MemberRow(UserId(id), name, Membership(_roles(roles), *rest)) for id, name, roles, *rest in page], len(rows)
