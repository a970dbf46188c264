"""What is asked of the read table of SMS providers (SQL)."""

from dataclasses import dataclass

from mailward.db.database import Row, Transaction
from mailward.errors import NotFound
from mailward.ids import InstanceId, ProviderId
from mailward.provider.queries import HTTPSettings, State


@dataclass(frozen=True, slots=True, kw_only=True)
class TwilioSettings:
    """What a Twilio account shows of itself. The token is never among it."""

    sid: str
    sender_number: str
    verify_service_sid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SMSView:
    """One SMS provider as the API shows it."""

    id: ProviderId
    instance: InstanceId  #: the resource owner
    state: State
    description: str
    sequence: int  #: of the last event that touched it, an activation of another one too
    creation_us: int
    change_us: int
    config: TwilioSettings | HTTPSettings


@dataclass(frozen=True, slots=True)
class SMSPage:
    """A part of the list, in the order of creation."""

    items: list[SMSView]
    total: int  #: of all; 0 too when the offset is beyond the end, as the original has it (spec 4.4)
    view_us: int  #: time of the last event that changed the table; 0 when there was none


_VIEW = """id, instance, kind, state, description, sequence, creation_us, change_us,
           sid, sender_number, verify_service_sid, endpoint, signing_key"""

_BY_ID = f"SELECT {_VIEW} FROM sms_providers WHERE instance = :instance AND id = :id"  # noqa: S608 a constant


def by_id(tx: Transaction, instance: InstanceId, id: ProviderId) -> SMSView:
    """Return the SMS provider `id`. Raises NotFound, with the key that the original has no text for."""
    row = tx.fetch_one(_BY_ID, instance=instance, id=id)
    if row is None:
        raise NotFound("QUERY-fn99w", "Errors.SMSConfig.NotExisting")
    return _view(row)


_TOTAL = "SELECT total, view_us FROM sms_provider_totals WHERE instance = :instance"

_PAGE = f"""
    SELECT {_VIEW} FROM sms_providers
     WHERE instance = :instance ORDER BY added_sequence LIMIT :limit OFFSET :offset
"""  # noqa: S608


def page(tx: Transaction, instance: InstanceId, offset: int = 0, limit: int = 0) -> SMSPage:
    """Return up to `limit` (0: all) SMS providers after the first `offset`, oldest first."""
    row = tx.fetch_one(_TOTAL, instance=instance)
    total, view_us = row if row is not None else (0, 0)
    if offset >= total:
        return SMSPage([], 0, view_us)
    rows = tx.fetch(_PAGE, instance=instance, limit=limit or total, offset=offset)
    return SMSPage([_view(row) for row in rows], total, view_us)


def _view(row: Row) -> SMSView:
    id, instance, kind, state, description, sequence, creation_us, change_us, *rest = row
    sid, sender_number, verify_service_sid, endpoint, signing_key = rest
    config: TwilioSettings | HTTPSettings
    if kind == "twilio":
        config = TwilioSettings(sid=sid, sender_number=sender_number, verify_service_sid=verify_service_sid)
    else:
        config = HTTPSettings(endpoint=endpoint, signing_key=signing_key)
    return SMSView(
        id=id,
        instance=instance,
        state=state,
        description=description,
        sequence=sequence,
        creation_us=creation_us,
        change_us=change_us,
        config=config,
    )
