"""The log asked by kind, editor, aggregate and time, at a cost that does not grow with its length (SQL).

The indexes hold one range of positions for each kind of event, and for each editor and kind. Whatever is asked becomes
bounds of positions and a few such ranges, of which the ends are merged: nothing is read to be thrown away.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mailward.db.database import Transaction
from mailward.eventstore import store
from mailward.eventstore.event import RecordedEvent

MAX_LIMIT = 1_000
_LAST = (1 << 63) - 1
#: Up to how many events of one aggregate are looked through; of a longer one the kinds are.
_SHORT = 5_000

Kind = tuple[str, str]  #: aggregate type, event type


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """Which events are wanted: those that match everything that is not empty."""

    aggregate_id: str = ""
    aggregate_types: frozenset[str] = frozenset()
    types: frozenset[str] = frozenset()
    editor: str = ""
    after_us: int | None = None  #: exclusive
    before_us: int | None = None  #: exclusive
    after_version: int = 0  #: exclusive
    before_version: int | None = None  #: exclusive
    newest_first: bool = True
    limit: int = MAX_LIMIT


@dataclass(frozen=True, slots=True)
class _Bounds:
    """Positions, both exclusive."""

    low: int = 0
    high: int = _LAST


@dataclass(frozen=True, slots=True)
class _Aggregate:
    """One that has events."""

    type: str
    version: int


_AGGREGATES = "SELECT type, version FROM aggregates WHERE id = :id"
_KINDS = "SELECT aggregate_type, type FROM event_kinds"


def search(tx: Transaction, wanted: Search) -> list[RecordedEvent]:
    """Return up to `limit` events that match, by position, the newest or the oldest first."""
    bounds = _in_time(tx, wanted)
    if bounds is None or wanted.before_version == 0:
        return []
    aggregates: list[_Aggregate] = []
    if wanted.aggregate_id:
        found = [_Aggregate(*row) for row in tx.fetch(_AGGREGATES, id=wanted.aggregate_id)]
        aggregates = [one for one in found if not wanted.aggregate_types or one.type in wanted.aggregate_types]
        if not aggregates:
            return []
        if len(aggregates) == 1:
            bounds = _between_versions(tx, wanted, aggregates[0], bounds)
            wanted = replace(wanted, after_version=0, before_version=None)
        unbound = not (wanted.types or wanted.editor) and bounds == _Bounds()
        if unbound or sum(one.version for one in aggregates) <= _SHORT:
            return _of_aggregates(tx, wanted, aggregates, bounds)
    if not (aggregates or wanted.aggregate_types or wanted.types or wanted.editor):
        return _whole(tx, wanted, bounds)
    kinds = [
        (aggregate_type, type)
        for aggregate_type, type in tx.fetch(_KINDS)
        if (not wanted.types or type in wanted.types)
        and (not wanted.aggregate_types or aggregate_type in wanted.aggregate_types)
        and (not aggregates or any(one.type == aggregate_type for one in aggregates))
    ]
    return _of_kinds(tx, wanted, sorted(kinds), bounds)


# --- bounds

_LAST_UNTIL = "SELECT position FROM events WHERE at_us <= :at ORDER BY at_us DESC, position DESC LIMIT 1"
_FIRST_FROM = "SELECT position FROM events WHERE at_us >= :at ORDER BY at_us, position LIMIT 1"


def _in_time(tx: Transaction, wanted: Search) -> _Bounds | None:
    """Return between which positions the wanted time lies, None when nothing can lie there.

    The log's time does not go back (store.append), so an end of a time is an end of positions.
    """
    low, high = 0, _LAST
    if wanted.after_us is not None:
        row = tx.fetch_one(_LAST_UNTIL, at=wanted.after_us)
        low = row[0] if row else 0
    if wanted.before_us is not None:
        row = tx.fetch_one(_FIRST_FROM, at=wanted.before_us)
        high = row[0] if row else _LAST
    return _Bounds(low, high) if high - low > 1 else None


_POSITION = "SELECT position FROM events WHERE aggregate_type = :type AND aggregate_id = :id AND version = :version"


def _between_versions(tx: Transaction, wanted: Search, aggregate: _Aggregate, bounds: _Bounds) -> _Bounds:
    """Return `bounds` made narrower by the versions that are wanted of one aggregate: they are in one order."""

    def position(version: int) -> int:
        row = tx.fetch_one(_POSITION, type=aggregate.type, id=wanted.aggregate_id, version=version)
        assert row is not None, "the versions of an aggregate have no gaps"
        return int(row[0])

    low, high = bounds.low, bounds.high
    if wanted.after_version >= aggregate.version:
        low = _LAST
    elif wanted.after_version > 0:
        low = max(low, position(wanted.after_version))
    if wanted.before_version is not None and 0 < wanted.before_version <= aggregate.version:
        high = min(high, position(wanted.before_version))
    return _Bounds(low, high)


# --- where to look
#
# A planner that does not know the values (plans are made once for all of them) takes any index that might do, also one
# whose every entry it then has to look at. So what an index is not meant for is wrapped: no index is on `type || ''`;
# and the order of positions is asked for by an expression that only the right index has.


def _whole(tx: Transaction, wanted: Search, bounds: _Bounds) -> list[RecordedEvent]:
    """Return from the log as it stands."""
    where, values = ["position > :low", "position < :high"], {"low": bounds.low, "high": bounds.high}
    return _read(tx, wanted, [*where, *_of_versions(wanted, values)], "position", values)


def _of_aggregates(
    tx: Transaction, wanted: Search, aggregates: Sequence[_Aggregate], bounds: _Bounds
) -> list[RecordedEvent]:
    """Return from the events of one aggregate, or of the few that share an id."""
    values: dict[str, Any] = {"id": wanted.aggregate_id}
    where = [_one_of("aggregate_type", "a", (one.type for one in aggregates), values), "aggregate_id = :id"]
    if bounds != _Bounds():
        where += ["position + 0 > :low", "position + 0 < :high"]
        values |= {"low": bounds.low, "high": bounds.high}
    where += _of_versions(wanted, values)
    if wanted.types:
        where.append(_one_of("type || ''", "t", wanted.types, values))
    if wanted.editor:
        where.append("editor || '' = :editor")
        values["editor"] = wanted.editor
    # Of one aggregate the versions are in the order of the positions, and have an index.
    order = "version" if len(aggregates) == 1 else "position + 0"
    return _read(tx, wanted, where, order, values)


def _of_kinds(tx: Transaction, wanted: Search, kinds: Sequence[Kind], bounds: _Bounds) -> list[RecordedEvent]:
    """Return what comes first of the ranges of `kinds`."""
    if not kinds:
        return []
    values: dict[str, Any] = {"low": bounds.low, "high": bounds.high}
    position = "position * 1" if wanted.editor else "position + 0"  # of events_by_editor, of events_by_kind
    common = [f"{position} > :low", f"{position} < :high", *_of_versions(wanted, values)]
    if wanted.editor:
        common.insert(0, "editor = :editor")
        values["editor"] = wanted.editor
    if wanted.aggregate_id:
        common.append("aggregate_id || '' = :id")
        values["id"] = wanted.aggregate_id
    # A literal, so that the planner knows how few it is; one of a few, so that there are few statements.
    limit = next(size for size in _SIZES if size >= wanted.limit)
    end = f"{'DESC' if wanted.newest_first else 'ASC'} LIMIT {limit}"
    ranges = []
    for number, (aggregate_type, type) in enumerate(kinds):
        values |= {f"a{number}": aggregate_type, f"t{number}": type}
        where = " AND ".join([f"aggregate_type = :a{number}", f"type = :t{number}", *common])
        one = f"SELECT {position} AS at FROM events WHERE {where} ORDER BY {position} {end}"  # noqa: S608 constants
        ranges.append(f"SELECT at FROM ({one}) AS r{number}")  # noqa: S608
    merged = f"SELECT at FROM ({' UNION ALL '.join(ranges)}) AS merged ORDER BY at {end}"  # noqa: S608
    return _read(tx, wanted, [f"position IN ({merged})"], "position + 0", values)


_SIZES = (1, 20, 100, MAX_LIMIT)


def _of_versions(wanted: Search, values: dict[str, Any]) -> list[str]:
    """Return the conditions for versions, where those could not become bounds of positions."""
    where = []
    if wanted.after_version:
        where.append("version > :after_version")
        values["after_version"] = wanted.after_version
    if wanted.before_version is not None:
        where.append("version < :before_version")
        values["before_version"] = wanted.before_version
    return where


def _one_of(expression: str, letter: str, wanted: Iterable[str], values: dict[str, Any]) -> str:
    given = {f"{letter}{number}": value for number, value in enumerate(sorted(wanted))}
    values |= given
    return f"{expression} IN ({', '.join(f':{name}' for name in given)})"


def _read(
    tx: Transaction, wanted: Search, where: Sequence[str], order: str, values: Mapping[str, Any]
) -> list[RecordedEvent]:
    direction = "DESC" if wanted.newest_first else "ASC"
    sql = (
        f"SELECT {store.COLUMNS} FROM events WHERE {' AND '.join(where)}"  # noqa: S608 constants
        f" ORDER BY {order} {direction} LIMIT :limit"
    )
    found = [store.recorded(row) for row in tx.fetch(sql, **values, limit=wanted.limit)]
    # Where a clock was set back by minutes, the bounds of positions let some of another time through.
    low = wanted.after_us if wanted.after_us is not None else -_LAST
    high = wanted.before_us if wanted.before_us is not None else _LAST
    return [event for event in found if low < event.at_us < high]
