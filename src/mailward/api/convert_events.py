"""Between the protobuf messages of the events API and the event log, both ways (spec 7)."""

from collections.abc import Mapping
from typing import Any

from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from mailward.access.audit import Entry
from mailward.api import convert, event_names
from mailward.eventstore.search import MAX_LIMIT, Search
from mailward.ids import InstanceId
from mailward.proto.zitadel import admin_pb2 as admin
from mailward.proto.zitadel import event_pb2
from mailward.provider.events import shown_payload
from mailward.rpc.scalars import timestamp_text

_SECOND_US = 1_000_000
_MAX_INT = (1 << 63) - 1
_SYSTEM = "SYSTEM"  #: the editor of what is done at the command line or at the first start
#: Stored in µs since 1970, shown as ZITADEL has them.
_DATES = ("expiration", "expirationDate")


def search_of(request: admin.ListEventsRequest, instance: InstanceId) -> Search | None:
    """Return what `request` asks for; None when nothing can match, because everything here belongs to `instance`."""
    if request.resource_owner and request.resource_owner != instance:
        return None
    after_us, before_us = _times(request)
    sequence = min(request.sequence, _MAX_INT)
    return Search(
        aggregate_id=request.aggregate_id,
        aggregate_types=frozenset(request.aggregate_types),
        types=frozenset(request.event_types),
        editor=request.editor_user_id,
        after_us=after_us,
        before_us=before_us,
        after_version=sequence if request.asc else 0,
        before_version=sequence if sequence and not request.asc else None,
        newest_first=not request.asc,
        limit=min(request.limit, MAX_LIMIT) or MAX_LIMIT,
    )


def _times(request: admin.ListEventsRequest) -> tuple[int | None, int | None]:
    """Return the exclusive bounds in µs; `from` is the lower one when ascending, the upper one when not."""
    if request.WhichOneof("creation_date_filter") == "range":
        span = request.range
        since = _floor_us(span.since) if span.HasField("since") else None
        return since, _ceiling_us(span.until) if span.HasField("until") else None
    name = "from" if request.HasField("from") else "creation_date"
    if not request.HasField(name):  # type: ignore[arg-type]
        return None, None
    moment: Timestamp = getattr(request, name)
    return (_floor_us(moment), None) if request.asc else (None, _ceiling_us(moment))


def _floor_us(moment: Timestamp) -> int:
    return moment.seconds * _SECOND_US + moment.nanos // 1000


def _ceiling_us(moment: Timestamp) -> int:
    return moment.seconds * _SECOND_US - -moment.nanos // 1000


def shown(entry: Entry, instance: InstanceId, language: str) -> event_pb2.Event:
    """Return an event as the events API shows it. The address it came from is not for this wire: `mailward event`."""
    event = entry.event
    return event_pb2.Event(
        editor=event_pb2.Editor(
            user_id=event.editor,
            display_name=entry.editor_name,
            service="mailward" if event.editor == _SYSTEM else "zitadel",
        ),
        aggregate=event_pb2.Aggregate(
            id=event.aggregate_id,
            type=event_names.aggregate_type(event.aggregate_type, language),
            resource_owner=instance,
        ),
        sequence=event.version,
        creation_date=convert.timestamp(event.at_us),
        payload=_payload(event.type, entry.payload),
        type=event_names.event_type(event.type, language),
    )


def _payload(type: str, payload: Mapping[str, Any]) -> Struct | None:
    """Return what may be read of a payload, None for nothing."""
    content = shown_payload(type, payload)
    if not content:
        return None
    for key in _DATES:
        if isinstance(content.get(key), int):
            content[key] = timestamp_text(content[key] // _SECOND_US, content[key] % _SECOND_US * 1000)
    struct = Struct()
    struct.update(content)
    return struct
