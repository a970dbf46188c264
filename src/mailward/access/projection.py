"""The read tables of who may call, written in the transaction that appends the events (SQL)."""

import json
from collections.abc import Callable

from mailward.access import events
from mailward.db.database import Transaction
from mailward.eventstore.event import RecordedEvent

_ADD_USER = """
    INSERT INTO users (id, name, display_name, role, sequence, created_at_us, changed_at_us)
    VALUES (:id, :name, :display_name, :role, :sequence, :at, :at)
"""
_TOUCH_USER = "UPDATE users SET sequence = :sequence, changed_at_us = :at WHERE id = :id"
_ADD_TOKEN = """
    INSERT INTO tokens (id, user_id, digest, role, kind, key_id, for_api, created_at_us, expires_at_us)
    VALUES (:id, :user_id, :digest, :role, :kind, :key_id, :for_api, :at, :expires_at)
"""
_REMOVE_OVERDUE = "DELETE FROM tokens WHERE user_id = :user_id AND kind = 'access' AND expires_at_us <= :at"
_ADD_KEY = """
    INSERT INTO machine_keys (id, user_id, public_key, created_at_us, expires_at_us)
    VALUES (:id, :user_id, :public_key, :at, :expires_at)
"""
_REMOVE_KEY = "DELETE FROM machine_keys WHERE id = :id"
_REMOVE_BROUGHT_BY_KEY = "DELETE FROM tokens WHERE user_id = :user_id AND key_id = :id"
_REMOVE_BROUGHT_BY_SECRET = "DELETE FROM tokens WHERE user_id = :user_id AND kind = 'access' AND key_id IS NULL"
_SET_SECRET = "UPDATE users SET secret_digest = :digest WHERE id = :id"
_ADD_SIGNING_KEY = """
    INSERT INTO signing_keys (id, public_key, private_key, created_at_us)
    VALUES (:id, :public_key, :private_key, :at)
"""
_REMOVE_TOKEN = "DELETE FROM tokens WHERE id = :id"
_ADD_MEMBER = """
    INSERT INTO members (user_id, roles, sequence, created_at_us, changed_at_us)
    VALUES (:user_id, :roles, :sequence, :at, :at)
    ON CONFLICT (user_id) DO UPDATE
    SET roles = excluded.roles, sequence = excluded.sequence,
        created_at_us = excluded.created_at_us, changed_at_us = excluded.changed_at_us
"""
_CHANGE_MEMBER = """
    UPDATE members SET roles = :roles, sequence = :sequence, changed_at_us = :at WHERE user_id = :user_id
"""
# The row stays: removing a former member again tells when that was.
_REMOVE_MEMBER = """
    UPDATE members SET roles = NULL, sequence = :sequence, changed_at_us = :at WHERE user_id = :user_id
"""


_EMPTY = (
    "DELETE FROM signing_keys",
    "DELETE FROM machine_keys",
    "DELETE FROM members",
    "DELETE FROM tokens",
    "DELETE FROM users",
)


class AccessProjection:
    """Tables `users`, `tokens`, `members`, `machine_keys` and `signing_keys`."""

    name = "access"

    def apply(self, tx: Transaction, event: RecordedEvent) -> None:
        """Write what `event` changes; events of other rooms are ignored."""
        if handle := _HANDLERS.get(event.type):
            handle(tx, event)

    def reset(self, tx: Transaction) -> None:
        """Empty the tables, so that all events can be applied again."""
        for statement in _EMPTY:
            tx.put(statement)


def _machine_added(tx: Transaction, event: RecordedEvent) -> None:
    user = event.payload
    tx.put(
        _ADD_USER,
        id=event.aggregate_id,
        name=user["userName"],
        display_name=user["name"],
        role=user["role"],
        sequence=event.version,
        at=event.at_us,
    )


def _pat_added(tx: Transaction, event: RecordedEvent) -> None:
    _add_token(tx, event, "pat", for_api=True)
    _touch(tx, event)


def _token_added(tx: Transaction, event: RecordedEvent) -> None:
    """A sign-in changes nothing about the user. What it held before and is overdue goes."""
    tx.put(_REMOVE_OVERDUE, user_id=event.aggregate_id, at=event.at_us)
    _add_token(tx, event, "access", for_api=bool(event.payload.get("forAPI")))


def _add_token(tx: Transaction, event: RecordedEvent, kind: str, *, for_api: bool) -> None:
    token = event.payload
    tx.put(
        _ADD_TOKEN,
        id=token["tokenId"],
        user_id=event.aggregate_id,
        digest=bytes.fromhex(token["digest"]),
        role=token["role"],
        kind=kind,
        key_id=token.get("keyId"),
        for_api=for_api,
        at=event.at_us,
        expires_at=token.get("expiration"),
    )


def _key_added(tx: Transaction, event: RecordedEvent) -> None:
    key = event.payload
    tx.put(
        _ADD_KEY,
        id=key["keyId"],
        user_id=event.aggregate_id,
        public_key=key["publicKey"],
        at=event.at_us,
        expires_at=key.get("expirationDate"),
    )
    _touch(tx, event)


def _key_removed(tx: Transaction, event: RecordedEvent) -> None:
    tx.put(_REMOVE_KEY, id=event.payload["keyId"])
    tx.put(_REMOVE_BROUGHT_BY_KEY, user_id=event.aggregate_id, id=event.payload["keyId"])
    _touch(tx, event)


def _secret_set(tx: Transaction, event: RecordedEvent) -> None:
    tx.put(_SET_SECRET, id=event.aggregate_id, digest=bytes.fromhex(event.payload["digest"]))
    tx.put(_REMOVE_BROUGHT_BY_SECRET, user_id=event.aggregate_id)
    _touch(tx, event)


def _signing_key_added(tx: Transaction, event: RecordedEvent) -> None:
    key = event.payload
    tx.put(
        _ADD_SIGNING_KEY,
        id=key["keyId"],
        public_key=key["publicKey"],
        private_key=key["privateKey"],
        at=event.at_us,
    )


def _pat_removed(tx: Transaction, event: RecordedEvent) -> None:
    tx.put(_REMOVE_TOKEN, id=event.payload["tokenId"])
    _touch(tx, event)


def _touch(tx: Transaction, event: RecordedEvent) -> None:
    tx.put(_TOUCH_USER, id=event.aggregate_id, sequence=event.version, at=event.at_us)


def _member_added(tx: Transaction, event: RecordedEvent) -> None:
    _write_member(_ADD_MEMBER, tx, event)


def _member_changed(tx: Transaction, event: RecordedEvent) -> None:
    _write_member(_CHANGE_MEMBER, tx, event)


def _write_member(statement: str, tx: Transaction, event: RecordedEvent) -> None:
    roles = json.dumps(event.payload.get("roles", []))
    tx.put(statement, user_id=event.payload["userId"], roles=roles, sequence=event.version, at=event.at_us)


def _member_removed(tx: Transaction, event: RecordedEvent) -> None:
    tx.put(_REMOVE_MEMBER, user_id=event.payload["userId"], sequence=event.version, at=event.at_us)


_HANDLERS: dict[str, Callable[[Transaction, RecordedEvent], None]] = {
    events.MACHINE_ADDED: _machine_added,
    events.PAT_ADDED: _pat_added,
    events.PAT_REMOVED: _pat_removed,
    events.TOKEN_ADDED: _token_added,
    events.KEY_ADDED: _key_added,
    events.KEY_REMOVED: _key_removed,
    events.SECRET_SET: _secret_set,
    events.SIGNING_KEY_ADDED: _signing_key_added,
    events.MEMBER_ADDED: _member_added,
    events.MEMBER_CHANGED: _member_changed,
    events.MEMBER_REMOVED: _member_removed,
}
