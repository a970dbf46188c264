"""The read table of SMS providers, written with the events; it is also what commands decide on (SQL)."""

from typing import Any

from mailward.db.database import Transaction
from mailward.eventstore.event import RecordedEvent
from mailward.ids import InstanceId, ProviderId
from mailward.provider import events, sms_events
from mailward.provider.sms import SMSProvider, TwilioConfig
from mailward.provider.sms_events import (
    SMSActivated,
    SMSDeactivated,
    SMSHTTPAdded,
    SMSHTTPChanged,
    SMSRemoved,
    TwilioAdded,
    TwilioChanged,
    TwilioTokenChanged,
)
from mailward.provider.state import HTTPConfig

_ADD = """
    INSERT INTO sms_providers
           (instance, id, kind, state, description, added_sequence, sequence, creation_us, change_us,
            sid, token, sender_number, verify_service_sid, endpoint, signing_key)
    VALUES (:instance, :id, :kind, 'inactive', :description, :sequence, :sequence, :at, :at,
            :sid, :token, :sender_number, :verify_service_sid, :endpoint, :signing_key)
"""
_CHANGE = """
    UPDATE sms_providers
       SET description = COALESCE(:description, description), sid = COALESCE(:sid, sid),
           token = COALESCE(:token, token), sender_number = COALESCE(:sender_number, sender_number),
           verify_service_sid = COALESCE(:verify_service_sid, verify_service_sid),
           endpoint = COALESCE(:endpoint, endpoint), signing_key = COALESCE(:signing_key, signing_key),
           sequence = :sequence, change_us = :at
     WHERE instance = :instance AND id = :id
"""
# Before the new one becomes active: the unique index allows one at a time.
_MAKE_OTHERS_INACTIVE = """
    UPDATE sms_providers SET state = 'inactive', sequence = :sequence, change_us = :at
     WHERE instance = :instance AND state = 'active' AND id <> :id
"""
_SET_STATE = """
    UPDATE sms_providers SET state = :state, sequence = :sequence, change_us = :at
     WHERE instance = :instance AND id = :id
"""
_REMOVE = "DELETE FROM sms_providers WHERE instance = :instance AND id = :id"
_COUNT = """
    INSERT INTO sms_provider_totals (instance, total, view_us) VALUES (:instance, :by, :at)
    ON CONFLICT (instance) DO UPDATE SET total = sms_provider_totals.total + :by, view_us = :at
"""
#: Every column that an event may set; what it does not name is NULL when added and stays when changed.
_COLUMNS = ("description", "sid", "token", "sender_number", "verify_service_sid", "endpoint", "signing_key")


class SMSProvidersProjection:
    """Tables `sms_providers` and `sms_provider_totals`."""

    name = "sms_providers"

    def apply(self, tx: Transaction, event: RecordedEvent) -> None:
        """Write what `event` changes; events of other rooms are ignored."""
        if event.aggregate_type != events.AGGREGATE_TYPE:
            return
        happened = sms_events.from_payload(event.type, event.payload)
        if happened is None:
            return
        where: dict[str, Any] = {
            "instance": event.aggregate_id,
            "id": happened.id,
            "sequence": event.version,
            "at": event.at_us,
        }
        by = 0
        match happened:
            case TwilioAdded():
                tx.put(_ADD, kind="twilio", **where, **_values(happened))
                by = +1
            case SMSHTTPAdded():
                tx.put(_ADD, kind="http", **where, **_values(happened))
                by = +1
            case TwilioChanged() | TwilioTokenChanged() | SMSHTTPChanged():
                tx.put(_CHANGE, **where, **_values(happened))
            case SMSActivated():
                tx.put(_MAKE_OTHERS_INACTIVE, **where)
                tx.put(_SET_STATE, state="active", **where)
            case SMSDeactivated():
                tx.put(_SET_STATE, state="inactive", **where)
            case SMSRemoved():
                by = -tx.execute(_REMOVE, instance=event.aggregate_id, id=happened.id)
        tx.put(_COUNT, instance=event.aggregate_id, by=by, at=event.at_us)

    def reset(self, tx: Transaction) -> None:
        """Empty the tables, so that all events can be applied again."""
        tx.put("DELETE FROM sms_providers")
        tx.put("DELETE FROM sms_provider_totals")


def _values(event: object) -> dict[str, Any]:
    return {column: getattr(event, column, None) for column in _COLUMNS}


_LOAD = """
    SELECT kind, state, description, sid, sender_number, verify_service_sid, endpoint
      FROM sms_providers WHERE instance = :instance AND id = :id
"""


def load(tx: Transaction, instance: InstanceId, id: ProviderId) -> SMSProvider | None:
    """Return what a command about `id` decides on, None when there is no such SMS provider."""
    row = tx.fetch_one(_LOAD, instance=instance, id=id)
    if row is None:
        return None
    kind, state, description, sid, sender_number, verify_service_sid, endpoint = row
    config: TwilioConfig | HTTPConfig
    if kind == "twilio":
        config = TwilioConfig(
            sid=sid, sender_number=sender_number, verify_service_sid=verify_service_sid, description=description
        )
    else:
        config = HTTPConfig(endpoint=endpoint, description=description)
    return SMSProvider(id, config, active=state == "active")


_LAST_CHANGE = "SELECT sequence, change_us FROM sms_providers WHERE instance = :instance AND id = :id"


def last_change(tx: Transaction, instance: InstanceId, id: ProviderId) -> tuple[int, int]:
    """Return (sequence, time) of the last event that touched an existing SMS provider."""
    row = tx.fetch_one(_LAST_CHANGE, instance=instance, id=id)
    assert row is not None, "only a command about an existing provider can change nothing"
    return row[0], row[1]
