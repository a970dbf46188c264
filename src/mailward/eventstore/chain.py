"""The chain through the event log: each event carries a digest over itself and the digest of the one before it (SQL).

Whoever changes or removes an event breaks the chain there. Whoever may write to the database can make a whole new
chain; a head that was noted elsewhere is not in that one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import orjson

from mailward.db.database import Transaction

START = b""  #: what stands for the digest before the first event


def link(previous: bytes, fields: Sequence[Any]) -> bytes:
    """Return the digest of the event with `fields` (of FIELDS, as stored) behind the one with digest `previous`."""
    return sha256(previous + orjson.dumps(fields)).digest()


#: Over what the digest goes. Not the position, which the order of the chain says.
FIELDS = "aggregate_type, aggregate_id, version, type, payload, editor, peer, at_us"


@dataclass(frozen=True, slots=True)
class Broken:
    """The first event that does not follow from the one before it."""

    position: int
    type: str
    aggregate: str  #: type and id
    version: int
    at_us: int


@dataclass(frozen=True, slots=True)
class Checked:
    """How far a check has come."""

    count: int  #: events
    position: int  #: of the last of them; 0: there was none
    head: bytes  #: digest of the last of them
    broken: Broken | None = None  #: then nothing behind it was looked at
    met: bool = False  #: a digest that was looked for is one of theirs


_PAGE = f"""
    SELECT position, digest, {FIELDS} FROM events WHERE position > :after ORDER BY position LIMIT :limit
"""  # noqa: S608 a constant


def check(tx: Transaction, so_far: Checked, limit: int, wanted: bytes) -> Checked:
    """Check up to `limit` events behind `so_far` and return how far that came: as far as before at the end of the log.

    `wanted`: a digest to look out for.
    """
    count, position, head, met = so_far.count, so_far.position, so_far.head, so_far.met
    for at, digest, *fields in tx.fetch(_PAGE, after=position, limit=limit):
        if bytes(digest) != link(head, fields):
            aggregate_type, aggregate_id, version, type, _, _, _, at_us = fields
            broken = Broken(at, type, f"{aggregate_type} {aggregate_id}", version, at_us)
            return Checked(count, position, head, broken, met)
        count, position, head = count + 1, at, bytes(digest)
        met = met or head == wanted
    return Checked(count, position, head, None, met)
