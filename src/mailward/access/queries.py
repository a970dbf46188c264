"""What is asked of the read tables of users, tokens and members (SQL)."""

import hmac
import json
from dataclasses import dataclass

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


_BY_DIGEST = """
    SELECT tokens.digest, tokens.id, tokens.role, tokens.expires_at_us, users.id, users.name, members.roles
      FROM tokens JOIN users ON users.id = tokens.user_id LEFT JOIN members ON members.user_id = users.id
     WHERE tokens.digest = :digest
"""


def grant(tx: Transaction, digest: bytes) -> Grant | None:
    """Return what the token with this SHA-256 grants, be it expired or not, or None when there is no such token."""
    row = tx.fetch_one(_BY_DIGEST, digest=digest)
    if row is None or not hmac.compare_digest(bytes(row[0]), digest):
        return None
    _, token_id, role, expires_at_us, user_id, name, roles_json = row
    roles = frozenset(json.loads(roles_json)) if roles_json is not None else frozenset()
    granted = permissions(TokenRole(role), roles)
    return Grant(Caller(UserId(user_id), token_id, name, roles, granted, roles_json is not None), expires_at_us)


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
    sequence: int  #: version of its aggregate at its last event
    created_at_us: int
    changed_at_us: int


_USER = "SELECT id, name, sequence, created_at_us, changed_at_us FROM users WHERE "


def user_by_name(tx: Transaction, name: str) -> UserRow | None:
    """Return the user called exactly `name`, or None."""
    return _user(tx.fetch_one(_USER + "name = :name", name=name))


def user_by_id(tx: Transaction, user_id: UserId) -> UserRow | None:
    """Return the user with this id, or None."""
    return _user(tx.fetch_one(_USER + "id = :id", id=user_id))


def _user(row: tuple[object, ...] | None) -> UserRow | None:
    return UserRow(*row) if row else None  # type: ignore[arg-type]  # the columns are those of _USER


def display_name(tx: Transaction, user_id: UserId) -> str | None:
    """Return how a user is shown to people, None when there is no such user."""
    row = tx.fetch_one("SELECT display_name FROM users WHERE id = :id", id=user_id)
    return row[0] if row else None


def has_users(tx: Transaction) -> bool:
    """Whether anybody was ever given access."""
    return tx.fetch_one("SELECT 1 FROM users LIMIT 1") is not None


def member_roles(tx: Transaction, user_id: UserId) -> tuple[str, ...] | None:
    """Return the roles of a member, in the order in which they were given; None when the user is no member."""
    row = tx.fetch_one("SELECT roles FROM members WHERE user_id = :id", id=user_id)
    return tuple(json.loads(row[0])) if row else None


def token_roles(tx: Transaction, user_id: UserId) -> set[TokenRole]:
    """Return the roles of the living tokens of a user."""
    return {TokenRole(row[0]) for row in tx.fetch("SELECT role FROM tokens WHERE user_id = :id", id=user_id)}
