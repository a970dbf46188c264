"""What nodes share about providers: breakers and the use of limits, one row each (SQL)."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import orjson

from mailward.db.database import Transaction
from mailward.delivery import breaker as breaking
from mailward.delivery import limits as limiting
from mailward.delivery.breaker import Breaker, Event, Probing, State, after, may_probe, renewed
from mailward.delivery.limits import Exchange, Grant, Usage, exchange
from mailward.ids import ProviderId
from mailward.provider.routing import SendLimits

_READ = "SELECT provider_id, breaker FROM provider_health"


def breakers(tx: Transaction) -> dict[ProviderId, Breaker]:
    """Return what is known of every provider that ever gave cause."""
    return {ProviderId(id): _breaker(text) for id, text in tx.fetch(_READ)}


_LOCKED = {
    "sqlite": "SELECT breaker FROM provider_health WHERE provider_id = :id",
    "postgresql": "SELECT breaker FROM provider_health WHERE provider_id = :id FOR UPDATE",
}

_ADD = "INSERT INTO provider_health (provider_id, breaker, usage) VALUES (:id, '{}', '{}') ON CONFLICT DO NOTHING"

_SET_BREAKER = "UPDATE provider_health SET breaker = :text WHERE provider_id = :id"


def report(tx: Transaction, id: ProviderId, revision: int, events: Sequence[Event]) -> Breaker:
    """Add what a node saw of provider `id`, which it knows in `revision` of its settings; return what came of it.

    What was seen of an older revision is no longer of interest.
    """
    breaker = renewed(_locked(tx, id), revision)
    if breaker.revision == revision:
        for event in events:
            breaker = after(breaker, event)
    _store(tx, id, breaker)
    return breaker


def take_probe(tx: Transaction, id: ProviderId, revision: int, now_us: int) -> tuple[Breaker, bool]:
    """Return the breaker, and whether the caller is the one who tries."""
    breaker = renewed(_locked(tx, id), revision)
    mine = may_probe(breaker, now_us) and breaker.revision == revision
    if mine:
        breaker = after(breaker, Probing(now_us))
    _store(tx, id, breaker)
    return breaker, mine


_ALL = {
    "sqlite": "SELECT provider_id, breaker, usage FROM provider_health",
    "postgresql": "SELECT provider_id, breaker, usage FROM provider_health ORDER BY provider_id FOR UPDATE",
}


def mend(tx: Transaction, now_us: int, slack_us: int) -> None:
    """Mend what a clock that was set back left: pauses and windows that would last until it is that late again."""
    for id, text, used in tx.fetch(_ALL[tx.dialect]):
        breaker = _breaker(text)
        if (mended := breaking.set_back(breaker, now_us)) != breaker:
            _store(tx, ProviderId(id), mended)
        usage = Usage.from_json(orjson.loads(used))
        if usage.at_us > now_us + slack_us:
            limiting.set_back(usage, now_us)
            tx.execute(_SET_USAGE, id=id, text=orjson.dumps(usage.to_json()).decode())


def _locked(tx: Transaction, id: ProviderId) -> Breaker:
    tx.execute(_ADD, id=id)
    row = tx.fetch_one(_LOCKED[tx.dialect], id=id)
    assert row is not None
    return _breaker(row[0])


def _store(tx: Transaction, id: ProviderId, breaker: Breaker) -> None:
    tx.execute(_SET_BREAKER, id=id, text=orjson.dumps(asdict(breaker)).decode())


def _breaker(text: str) -> Breaker:
    values: dict[str, Any] = orjson.loads(text)
    breaker = Breaker(**values)
    return replace(breaker, state=State(breaker.state))


_USAGE = {
    "sqlite": "SELECT usage FROM provider_health WHERE provider_id = :id",
    "postgresql": "SELECT usage FROM provider_health WHERE provider_id = :id FOR UPDATE",
}

_SET_USAGE = "UPDATE provider_health SET usage = :text WHERE provider_id = :id"

_LIVES = "SELECT id, epoch FROM nodes"


def trade(tx: Transaction, id: ProviderId, limits: SendLimits, ask: Exchange) -> Grant:
    """Say which slots of provider `id` were used, and take further ones. One small write for many messages."""
    tx.execute(_ADD, id=id)
    row = tx.fetch_one(_USAGE[tx.dialect], id=id)
    assert row is not None
    usage = Usage.from_json(orjson.loads(row[0]))
    lives = {(node, epoch) for node, epoch in tx.fetch(_LIVES)}
    grant = exchange(usage, limits, ask, lives)
    tx.execute(_SET_USAGE, id=id, text=orjson.dumps(usage.to_json()).decode())
    return grant
