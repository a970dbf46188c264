"""How one life of a node follows another in the store: what `life` has the writer do.

Apart from it, because a store process imports what it is to run, and this needs neither log nor metrics.
"""

from mailward.db.database import Transaction
from mailward.delivery import nodes, queue
from mailward.delivery.lease import Owner
from mailward.delivery.nodes import Neighbour
from mailward.delivery.retry import RetryPolicy
from mailward.message import content

_ALL = (1 << 63) - 1


def register(tx: Transaction, name: str, policy: RetryPolicy, now_us: int) -> tuple[Owner, int]:
    """Begin the next life of `name`; return it, and the highest id that an earlier one is known to have drawn."""
    owner = nodes.register(tx, name, now_us)
    queue.recover(tx, owner, policy, now_us)
    if tx.dialect == "sqlite":  # There is no other node, so whatever was being submitted never will be.
        content.discard(tx, content.orphans(tx, 0, _ALL))
    return owner, nodes.highest_id(tx, owner.node)


def register_again(
    tx: Transaction, name: str, spare: str, former: Owner, policy: RetryPolicy, now_us: int
) -> tuple[Owner, int, str]:
    """Two processes may have been given one name, e.g. by a copied data dir: the later one keeps it."""
    if nodes.is_taken(tx, name, former):
        name = spare
    return *register(tx, name, policy, now_us), name


def bury(tx: Transaction, dead: Neighbour, policy: RetryPolicy, now_us: int) -> queue.Recovered | None:
    """End the life of a node that stands still and recover what it held; None when another node did."""
    with nodes.impatient(tx):
        over = nodes.bury(tx, dead)
        return None if over is None else queue.recover(tx, over, policy, now_us)
