"""Limits per provider: how many attempts may fall into any second, minute or day, shared by all nodes (pure).

A node takes a few slots at a time, uses them, and says when they are used. A slot counts from the moment that it is
taken until a window after the end of its attempt, so no window that the provider can look through holds more than the
limit, however long an attempt takes.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from mailward.provider.routing import SECOND_US, SendLimits

_BUCKETS = 50  # in a window: what is counted together is freed together, never too early
_LEAST_WAIT_US = 5_000


class Holder(NamedTuple):
    """A node's life, and how many slots it has taken and not yet said to be used."""

    epoch: int
    slots: int


@dataclass(slots=True)
class Usage:
    """What is used and what is taken. `ended`: by window, [end of bucket, slots], oldest first."""

    at_us: int = 0  #: the latest moment that any node has named; time never goes back
    ended: dict[str, list[list[int]]] = field(default_factory=dict)
    taken: dict[int, Holder] = field(default_factory=dict)  #: by node

    def to_json(self) -> dict[str, Any]:
        return {"at": self.at_us, "ended": self.ended, "taken": {str(n): list(h) for n, h in self.taken.items()}}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Usage":
        if not value:
            return cls()
        return cls(value["at"], value["ended"], {int(n): Holder(*h) for n, h in value["taken"].items()})


class Exchange(NamedTuple):
    """What a node says and asks for."""

    node: int
    epoch: int
    used: int  #: slots whose attempts have ended since the last exchange
    unused: int  #: slots that are handed back
    want: int
    now_us: int


class Grant(NamedTuple):
    """What it gets."""

    slots: int
    window: str  #: why it is less than what was wanted, "" when it is not
    retry_at_us: int  #: when there may be more; 0 when nothing was wanting


def exchange(usage: Usage, limits: SendLimits, ask: Exchange, lives: Collection[tuple[int, int]]) -> Grant:
    """Bring `usage` up to date and answer `ask`. `lives`: (node, epoch) of every node that is known.

    What a life that is over had taken counts as used now.
    """
    now_us = usage.at_us = max(usage.at_us, ask.now_us)
    used = ask.used
    mine = usage.taken.get(ask.node)
    held = mine.slots if mine is not None and mine.epoch == ask.epoch else 0
    used = min(used, held)
    held -= min(held, used + ask.unused)
    for node, holder in list(usage.taken.items()):
        is_asking = node == ask.node
        if is_asking and holder.epoch == ask.epoch:
            continue
        if is_asking or (node, holder.epoch) not in lives:
            used += holder.slots
            del usage.taken[node]
    _drop_old(usage, limits, now_us)
    if used:
        for name, length_us, _ in limits.windows():
            _count(usage.ended.setdefault(name, []), used, now_us, length_us // _BUCKETS)
    others = sum(holder.slots for node, holder in usage.taken.items() if node != ask.node)
    grant = _grant(usage, limits, others + held, ask.want, now_us)
    if held + grant.slots:
        usage.taken[ask.node] = Holder(ask.epoch, held + grant.slots)
    else:
        usage.taken.pop(ask.node, None)
    return grant


def set_back(usage: Usage, now_us: int) -> None:
    """The clock was set back to `now_us`: what was taken is as long ago as it was before."""
    by_us = usage.at_us - now_us
    usage.at_us = now_us
    for buckets in usage.ended.values():
        for bucket in buckets:
            bucket[0] -= by_us


def _grant(usage: Usage, limits: SendLimits, taken: int, want: int, now_us: int) -> Grant:
    slots, reason, retry_at_us = min(want, limits.share), "", 0
    for name, length_us, limit in limits.windows():
        buckets = usage.ended.get(name, [])
        free = limit - taken - sum(slots for _, slots in buckets)
        if free < slots:
            slots, reason = max(0, free), name
        if free < 1:
            retry_at_us = max(retry_at_us, _free_at(buckets, 1 - free, now_us, length_us))
    if slots:
        return Grant(slots, "", 0)
    return Grant(0, reason, retry_at_us if want else 0)


def _free_at(buckets: list[list[int]], needed: int, now_us: int, length_us: int) -> int:
    """Return when `needed` slots will have left the window; soon, when they are still in use."""
    for end_us, slots in buckets:
        needed -= slots
        if needed <= 0:
            return max(end_us + length_us, now_us + _LEAST_WAIT_US)
    return now_us + min(SECOND_US // 4, length_us // 20)


def _count(buckets: list[list[int]], slots: int, now_us: int, width_us: int) -> None:
    end_us = (now_us // width_us + 1) * width_us
    if buckets and buckets[-1][0] == end_us:
        buckets[-1][1] += slots
    else:
        buckets.append([end_us, slots])


def _drop_old(usage: Usage, limits: SendLimits, now_us: int) -> None:
    kept = {}
    for name, length_us, _ in limits.windows():
        buckets = [bucket for bucket in usage.ended.get(name, []) if bucket[0] + length_us > now_us]
        if buckets:
            kept[name] = buckets
    usage.ended = kept
