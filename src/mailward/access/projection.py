"""The read tables of who may call, written in the transaction that appends the events (SQL)."""

import json
from collections.abc import Callable

from mailward.access import events
from mailward.db.database import Transaction
from mailward.eventstore.event import RecordedEvent

_ADD_USER = """
    INSERT INTO users (id, name, display_name, sequence, created_at_us, changed_at_us)
    VALUES (:id, :name, :display_name, :sequence, :at, :at)
"""
_TOUCH_USER = "UPDATE users SET sequence = :sequence, changed_at_us = :at WHERE id = :id"
_ADD_TOKEN = """
    INSERT INTO tokens (id, user_id, digest, role, created_at_us, expires_at_us)
    VALUES (:id, :user_id, :digest, :role, :at, :expires_at)
"""
_REMOVE_TOKEN = "DELETE FROM tokens WHERE id = :id"
_ADD_MEMBER = """
    INSERT INTO members (user_id, roles, sequence, created_at_us, changed_at_us)
    VALUES (:user_id, :roles, :sequence, :at, :at)
"""
_CHANGE_MEMBER = """
    UPDATE members SET roles = :roles, sequence = :sequence, changed_at_us = :at WHERE user_id = :user_id
"""
_REMOVE_MEMBER = "DELETE FROM members WHERE user_id = :user_id"


class AccessProjection:
    """Tables `users`, `tokens` and `members`."""

    name = "access"

    def apply(self, tx: Transaction, event: RecordedEvent) -> None:
        """Write what `event` changes; events of other rooms are ignored."""
        if handle := _HANDLERS.get(event.type):
            handle(tx, event)

    def reset(self, tx: Transaction) -> None:
        """Empty the tables, so that all events can be applied again."""
        for statement in ("DELETE FROM members", "DELETE FROM tokens", "DELETE FROM users"):
            tx.execute(statement)


def _machine_added(tx: Transaction, event: RecordedEvent) -> None:
    name, display_name = event.payload["userName"], event.payload["name"]
    tx.execute(
        _ADD_USER,
        id=event.aggregate_id,
        name=name,
        display_name=display_name,
        sequence=event.version,
        at=event.at_us,
    )


def _pat_added(tx: Transaction, event: RecordedEvent) -> None:
    token = event.payload
    tx.execute(
        _ADD_TOKEN,
        id=token["tokenId"],
        user_id=event.aggregate_id,
        digest=bytes.fromhex(token["digest"]),
        role=token["role"],
        at=event.at_us,
        expires_at=token.get("expiration"),
    )
    _touch(tx, event)


def _pat_removed(tx: Transaction, event: RecordedEvent) -> None:
    tx.execute(_REMOVE_TOKEN, id=event.payload["tokenId"])
    _touch(tx, event)


def _touch(tx: Transaction, event: RecordedEvent) -> None:
    tx.execute(_TOUCH_USER, id=event.aggregate_id, sequence=event.version, at=event.at_us)


def _member_added(tx: Transaction, event: RecordedEvent) -> None:
    _write_member(_ADD_MEMBER, tx, event)


def _member_changed(tx: Transaction, event: RecordedEvent) -> None:
    _write_member(_CHANGE_MEMBER, tx, event)


def _write_member(statement: str, tx: Transaction, event: RecordedEvent) -> None:
    roles = json.dumps(event.payload.get("roles", []))
    tx.execute(statement, user_id=event.payload["userId"], roles=roles, sequence=event.version, at=event.at_us)


def _member_removed(tx: Transaction, event: RecordedEvent) -> None:
    tx.execute(_REMOVE_MEMBER, user_id=event.payload["userId"])


_HANDLERS: dict[str, Callable[[Transaction, RecordedEvent], None]] = {
    events.MACHINE_ADDED: _machine_added,
    events.PAT_ADDED: _pat_added,
    events.PAT_REMOVED: _pat_removed,
    events.MEMBER_ADDED: _member_added,
    events.MEMBER_CHANGED: _member_changed,
    events.MEMBER_REMOVED: _member_removed,
}
