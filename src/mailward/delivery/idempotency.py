"""Idempotency keys: whoever submits the same again under the same key gets the first message again (SQL)."""

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from mailward.db.database import Row, Transaction
from mailward.delivery.lease import NewMessage
from mailward.errors import IdempotencyConflict, InvalidArgument
from mailward.ids import MessageId
from mailward.message.options import lasting_parts

MAX_KEY_CHARACTERS = 256
KEPT_US = 72 * 3600 * 1_000_000  #: how long a key is remembered, at least

_is_key = re.compile(rf"[ -~]{{1,{MAX_KEY_CHARACTERS}}}").fullmatch


@dataclass(frozen=True, slots=True)
class Idempotency:
    """A key in its submitter's namespace, and what was submitted under it."""

    key: str
    fingerprint: str  #: hexadecimal; equal for requests that mean the same


class Fingerprint:
    """Of what is submitted, part by part; half a millisecond for a megabyte."""

    def __init__(self, *parts: bytes) -> None:
        self._digest = hashlib.sha256()
        for part in parts:
            self._digest.update(b"%d:" % len(part))
            self._digest.update(part)

    def go_on(self, octets: bytes) -> None:
        """Add to a last part whose length nobody knows yet."""
        self._digest.update(octets)

    def under(self, key: str) -> Idempotency:
        """Return the idempotency of what was taken in, under `key`, which `check_key` has seen."""
        return Idempotency(key, self._digest.hexdigest())


def keyed(key: str, parts: Iterable[bytes]) -> Idempotency:
    """Return the idempotency of a submission that consists of `parts`. Raises InvalidArgument for a bad key."""
    check_key(key)
    return Fingerprint(*parts).under(key)


def of_mail(key: str, reverse_path: str, recipients: Iterable[str], raw: bytes) -> Idempotency:
    """Return the idempotency of the mail `raw`: the same for what a program makes again, at whatever door.

    Raises InvalidArgument for a bad key.
    """
    return keyed(key, (parties(reverse_path, recipients), *lasting_parts(raw)))


def parties(reverse_path: str, recipients: Iterable[str]) -> bytes:
    """Return from whom to whom, for a fingerprint."""
    return "\n".join((reverse_path, *sorted(set(recipients)))).encode()


def check_key(key: str) -> None:
    """Raise InvalidArgument unless `key` is one."""
    if not _is_key(key):
        raise InvalidArgument(
            "QUEUE-key", f"an idempotency key is 1 to {MAX_KEY_CHARACTERS} printable ASCII characters"
        )


class Earlier(NamedTuple):
    """What a key was used for before."""

    message_id: MessageId
    same: bool  #: it was the same submission


def conflict() -> IdempotencyConflict:
    """Return the error for a key that was used for something else."""
    return IdempotencyConflict(
        "QUEUE-reuse", "this idempotency key was used for another message; a new message needs a new key"
    )


# A key that another node is about to commit is waited for. Sorted, so that two nodes cannot wait for each other.
_CLAIM = {
    "sqlite": """
        INSERT INTO idempotency_keys (sender, key, message_id, fingerprint)
        SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3 FROM json_each(?) WHERE true
            ON CONFLICT (sender, key) DO NOTHING
        RETURNING message_id
    """,
    "postgresql": """
        INSERT INTO idempotency_keys (sender, key, message_id, fingerprint)
        SELECT * FROM unnest(%s::text[], %s::text[], %s::bigint[], %s::text[])
                   AS v (sender, key, message_id, fingerprint)
         ORDER BY sender, key, message_id
            ON CONFLICT (sender, key) DO NOTHING
        RETURNING message_id
    """,
}

_KNOWN = {
    "sqlite": """
        SELECT v.value ->> 2, k.fingerprint, k.message_id
          FROM json_each(?) AS v JOIN idempotency_keys AS k ON k.sender = v.value ->> 0 AND k.key = v.value ->> 1
    """,
    "postgresql": """
        SELECT v.id, k.fingerprint, k.message_id
          FROM unnest(%s::text[], %s::text[], %s::bigint[]) AS v (sender, key, id)
          JOIN idempotency_keys AS k ON k.sender = v.sender AND k.key = v.key
    """,
}


def claim_keys(tx: Transaction, items: Sequence[NewMessage]) -> dict[MessageId, Earlier]:
    """Take the keys of `items`, which all have one; return, by id of the item, what was submitted before under its key.

    The first of several with one key takes it. What is returned must not be stored; the rest must be, in this
    transaction.
    """
    rows = sorted((item.sender, item.key, item.id, item.fingerprint) for item in items)  # Here for SQLite.
    taken = {id for (id,) in _run(tx, _CLAIM, rows)}
    late = {item.id: item for item in items if item.id not in taken}
    if not late:
        return {}
    known = _run(tx, _KNOWN, [(item.sender, item.key, item.id) for item in late.values()])
    return {
        MessageId(id): Earlier(MessageId(earlier), fingerprint == late[id].fingerprint)
        for id, fingerprint, earlier in known
    }


def _run(tx: Transaction, sql: dict[str, str], rows: Sequence[Sequence[Any]]) -> list[Row]:
    if tx.dialect == "sqlite":
        return tx.run(sql["sqlite"], (orjson.dumps(rows).decode(),))
    return tx.run(sql["postgresql"], [list(column) for column in zip(*rows, strict=True)])
