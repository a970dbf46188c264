"""Nodes: who may hold leases, in which life, and who has died (SQL).

No clock decides: a heartbeat is a counter, and whoever watches it stand still for long enough, by a clock of its own
that only runs forward, takes the node for dead.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from mailward.db.database import Transaction
from mailward.delivery.lease import Owner
from mailward.errors import ResourceExhausted
from mailward.ids import COMMAND_NODES

_NEXT_LIFE = """
    UPDATE nodes SET name = :name, epoch = epoch + 1, living = 1, beat = beat + 1, heartbeat_at_us = :now_us
     WHERE id = :id RETURNING id, epoch
"""

_ROWS = "SELECT id, name, living FROM nodes"

_ADD = """
    INSERT INTO nodes (id, name, epoch, living, beat, heartbeat_at_us, last_id) VALUES (:id, :name, 1, 1, 0, :now_us, 0)
"""

# Two nodes that start together must not pick the same id. Readers and FOR SHARE go on meanwhile.
_LOCK = "LOCK TABLE nodes IN SHARE ROW EXCLUSIVE MODE"


def register(tx: Transaction, name: str, now_us: int) -> Owner:
    """Begin the next life of node `name`. What an earlier one held is void: call `queue.recover` next.

    `name` must be the same after a restart and no living node's. A name that is new gets the first id that nobody has,
    or else that of a node that has gone; its epochs go on. Raises ResourceExhausted when all are alive.
    """
    if tx.dialect == "postgresql":
        tx.execute(_LOCK)
    rows = tx.fetch(_ROWS)
    free = set(range(COMMAND_NODES)).difference(id for id, _, _ in rows)
    mine = [id for id, named, _ in rows if named == name]
    gone = [id for id, _, living in rows if not living]
    if not mine and free:
        id = min(free)
        tx.execute(_ADD, id=id, name=name, now_us=now_us)
        return Owner(id, 1)
    if not mine and not gone:
        raise ResourceExhausted("NODES-full", f"{COMMAND_NODES} nodes work on this database, which is as many as can")
    row = tx.fetch_one(_NEXT_LIFE, id=mine[0] if mine else min(gone), name=name, now_us=now_us)
    assert row is not None
    return Owner(*row)


_NAMED = "SELECT epoch FROM nodes WHERE name = :name AND living = 1"


def is_taken(tx: Transaction, name: str, former: Owner) -> bool:
    """Return whether another process lives under `name`, which `former` had: it began after us, and is not us."""
    row = tx.fetch_one(_NAMED, name=name)
    return row is not None and row[0] > former.epoch


_HIGHEST = """
    SELECT max(id) FROM (SELECT max(last_id) AS id FROM nodes WHERE id = :node
                         UNION ALL SELECT max(id) FROM messages) AS ids
"""


def highest_id(tx: Transaction, node: int) -> int:
    """Return the highest id that earlier lives are known to have drawn, 0 when there is none."""
    row = tx.fetch_one(_HIGHEST, node=node)
    return (row[0] or 0) if row is not None else 0


class Neighbour(NamedTuple):
    """Another living node, as its row shows it."""

    node: int
    epoch: int
    beat: int


_BEAT = """
    UPDATE nodes SET beat = beat + 1, heartbeat_at_us = :now_us, last_id = :last_id
     WHERE id = :node AND epoch = :epoch AND living = 1
"""

_OTHERS = "SELECT id, epoch, beat FROM nodes WHERE living = 1 AND id <> :node"


def heartbeat(tx: Transaction, owner: Owner, now_us: int, last_id: int) -> list[Neighbour] | None:
    """Say that `owner` lives, and return the others; None when its life is over and its leases are void."""
    if not tx.execute(_BEAT, node=owner.node, epoch=owner.epoch, now_us=now_us, last_id=last_id):
        return None
    return [Neighbour(*row) for row in tx.fetch(_OTHERS, node=owner.node)]


_FIRST = "SELECT min(id) FROM nodes WHERE living = 1"


def first(tx: Transaction) -> int | None:
    """Return the lowest id of a living node: the one that does what only one needs to do."""
    row = tx.fetch_one(_FIRST)
    return row[0] if row is not None else None


_BURY = """
    UPDATE nodes SET epoch = epoch + 1, living = 0
     WHERE id = :node AND epoch = :epoch AND beat = :beat AND living = 1 RETURNING epoch
"""


def bury(tx: Transaction, dead: Neighbour) -> Owner | None:
    """End the life of a node that was seen to stand still; None when it moved, or another node was first.

    From then on it cannot write. Recover what the life before the returned one held, in the same transaction.
    """
    row = tx.fetch_one(_BURY, **dead._asdict())
    return None if row is None else Owner(dead.node, row[0])


_LOCK_WAIT = "SELECT set_config('lock_timeout', :wait, true)"


@contextmanager
def impatient(tx: Transaction) -> Iterator[None]:
    """Wait no longer than 0.1 s for a lock in the block: Contended, and better luck next time.

    The dead node may have frozen inside a transaction. Its locks last until the server ends that, and nobody else's
    mail must wait for it.
    """
    if tx.dialect == "sqlite":
        yield
        return
    row = tx.fetch_one("SELECT current_setting('lock_timeout')")
    assert row is not None
    tx.fetch(_LOCK_WAIT, wait="100ms")
    yield
    tx.fetch(_LOCK_WAIT, wait=row[0])


_LEAVE = """
    UPDATE nodes SET living = 0, last_id = :last_id
     WHERE id = :node AND epoch = :epoch AND NOT EXISTS (SELECT 1 FROM recipients WHERE node = :node)
"""


def leave(tx: Transaction, owner: Owner, last_id: int) -> None:
    """End a life in order. One that still holds something is left to be recovered by its next life, or by others."""
    tx.execute(_LEAVE, node=owner.node, epoch=owner.epoch, last_id=last_id)
