"""Nodes: who may hold leases, in which life (SQL)."""

from mailward.db.database import Transaction
from mailward.delivery.lease import Owner
from mailward.errors import ResourceExhausted
from mailward.ids import MAX_NODE

_NEXT_LIFE = """
    UPDATE nodes SET epoch = epoch + 1, heartbeat_at_us = :now_us WHERE name = :name RETURNING id, epoch
"""

_IDS = "SELECT id FROM nodes"

_ADD = "INSERT INTO nodes (id, name, epoch, heartbeat_at_us) VALUES (:id, :name, 1, :now_us)"

# Two nodes that start together must not pick the same id. Readers and FOR SHARE go on meanwhile.
_LOCK = "LOCK TABLE nodes IN SHARE ROW EXCLUSIVE MODE"


def register(tx: Transaction, name: str, now_us: int) -> Owner:
    """Begin the next life of node `name`, made on its first. What it held before is void: call `queue.recover` next.

    `name` must be the same after a restart and no living node's. Raises ResourceExhausted beyond 256 nodes.
    """
    if tx.dialect == "postgresql":
        tx.execute(_LOCK)
    if row := tx.fetch_one(_NEXT_LIFE, name=name, now_us=now_us):
        return Owner(*row)
    free = set(range(MAX_NODE + 1)).difference(id for (id,) in tx.fetch(_IDS))
    if not free:
        raise ResourceExhausted(
            "NODES-full", f"{MAX_NODE + 1} nodes have registered with this database; remove old ones"
        )
    id = min(free)
    tx.execute(_ADD, id=id, name=name, now_us=now_us)
    return Owner(id, 1)


_HEARTBEAT = "UPDATE nodes SET heartbeat_at_us = :now_us WHERE id = :node AND epoch = :epoch"


def heartbeat(tx: Transaction, owner: Owner, now_us: int) -> bool:
    """Say that `owner` lives; False when its life is over and its leases are void."""
    return tx.execute(_HEARTBEAT, node=owner.node, epoch=owner.epoch, now_us=now_us) == 1
