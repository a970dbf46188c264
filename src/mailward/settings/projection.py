"""The read table of what is set for an instance, written with the events, and what is asked of it (SQL)."""

from dataclasses import dataclass

import orjson

from mailward.db.database import Row, Transaction
from mailward.eventstore.event import RecordedEvent
from mailward.ids import InstanceId
from mailward.settings import values
from mailward.settings.values import DomainPolicy, Value


@dataclass(frozen=True, slots=True)
class Setting:
    """A value with its history."""

    value: Value
    instance: InstanceId  #: the resource owner
    sequence: int  #: of the last event that touched it
    creation_us: int
    change_us: int


_KEEP = """
    INSERT INTO settings (instance, name, value, sequence, creation_us, change_us)
    VALUES (:instance, :name, :value, :sequence, :at, :at)
    ON CONFLICT (instance, name) DO UPDATE SET value = :value, sequence = :sequence, change_us = :at
"""


class SettingsProjection:
    """Table `settings`."""

    name = "settings"

    def apply(self, tx: Transaction, event: RecordedEvent) -> None:
        """Write what `event` changes; events of other rooms are ignored."""
        if event.aggregate_type != values.AGGREGATE_TYPE:
            return
        blank = values.blank_of(event.type, event.payload)
        if blank is None:
            return
        instance = InstanceId(event.aggregate_id)
        old = find(tx, instance, blank.name)
        new = values.after(blank if old is None else old.value, event.payload)
        stored = orjson.dumps(values.to_stored(new)).decode()
        tx.put(_KEEP, instance=instance, name=new.name, value=stored, sequence=event.version, at=event.at_us)

    def reset(self, tx: Transaction) -> None:
        """Empty the table, so that all events can be applied again."""
        tx.put("DELETE FROM settings")


_COLUMNS = "name, value, instance, sequence, creation_us, change_us"
_FIND = f"SELECT {_COLUMNS} FROM settings WHERE instance = :instance AND name = :name"  # noqa: S608 a constant
_ALL = f"SELECT {_COLUMNS} FROM settings WHERE instance = :instance ORDER BY sequence"  # noqa: S608 a constant


def find(tx: Transaction, instance: InstanceId, name: str) -> Setting | None:
    """Return what is set under `name`, None while nothing is."""
    row = tx.fetch_one(_FIND, instance=instance, name=name)
    return None if row is None else _setting(row)


def all_of(tx: Transaction, instance: InstanceId) -> list[Setting]:
    """Return everything that is set, what changed last at the end."""
    return [_setting(row) for row in tx.fetch(_ALL, instance=instance)]


def sender_must_match(tx: Transaction, instance: InstanceId) -> bool:
    """Whether senders must use a domain of the instance. False before the instance's first start."""
    setting = find(tx, instance, DomainPolicy().name)
    if setting is None or not isinstance(setting.value, DomainPolicy):
        return False
    return setting.value.smtp_sender_address_matches_instance_domain


def _setting(row: Row) -> Setting:
    name, value, *rest = row
    return Setting(values.from_stored(name, orjson.loads(value)), *rest)
