"""The event log as ZITADEL's clients read it: who changed what, when (spec 7)."""

from mailward.access.audit import Audit
from mailward.api import convert_events, event_names
from mailward.api.errors import language_of
from mailward.proto.zitadel import admin_pb2 as admin
from mailward.rpc.service import Call, Code, RpcError
from mailward.settings.commands import InstanceSettings

MAX_REST_BYTES = 4 << 20  #: ZITADEL's gateway takes no larger answer from its own gRPC server


class EventMethods:
    """Three methods of the AdminService."""

    audit: Audit
    settings: InstanceSettings

    async def list_events(self, request: admin.ListEventsRequest, call: Call) -> admin.ListEventsResponse:
        """Return the events that match everything that is asked, the newest first unless `asc`."""
        instance = self.settings.instance
        wanted = convert_events.search_of(request, instance)
        if wanted is None:
            return admin.ListEventsResponse()
        language = language_of(call, self.settings.language())
        entries = await self.audit.search(wanted)
        answer = admin.ListEventsResponse(events=[convert_events.shown(one, instance, language) for one in entries])
        if call.protocol == "rest" and (size := answer.ByteSize()) > MAX_REST_BYTES:
            text = f"grpc: received message larger than max ({size} vs. {MAX_REST_BYTES})"
            raise RpcError(Code.RESOURCE_EXHAUSTED, text)
        return answer

    async def list_event_types(self, request: admin.ListEventTypesRequest, call: Call) -> admin.ListEventTypesResponse:
        """Return every kind of event that this server writes."""
        language = language_of(call, self.settings.language())
        types = [event_names.event_type(type, language) for type in event_names.EVENT_TYPES]
        return admin.ListEventTypesResponse(event_types=types)

    async def list_aggregate_types(
        self, request: admin.ListAggregateTypesRequest, call: Call
    ) -> admin.ListAggregateTypesResponse:
        """Return every kind of aggregate that has events."""
        language = language_of(call, self.settings.language())
        types = [event_names.aggregate_type(type, language) for type in event_names.AGGREGATE_TYPES]
        return admin.ListAggregateTypesResponse(aggregate_types=types)
