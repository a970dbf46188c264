"""ZITADEL's views and their failures: ours are written with the events, so there is nothing to show."""

from mailward.proto.zitadel import admin_pb2 as admin
from mailward.rpc.service import Call


class ViewMethods:
    """Three methods of the AdminService."""

    async def list_views(self, request: admin.ListViewsRequest, call: Call) -> admin.ListViewsResponse:
        """Return no view: a read table is never behind (decision 3)."""
        return admin.ListViewsResponse()

    async def list_failed_events(
        self, request: admin.ListFailedEventsRequest, call: Call
    ) -> admin.ListFailedEventsResponse:
        """Return no failure: an event that a read table cannot take is not stored."""
        return admin.ListFailedEventsResponse()

    async def remove_failed_event(
        self, request: admin.RemoveFailedEventRequest, call: Call
    ) -> admin.RemoveFailedEventResponse:
        """Do nothing: there is none to remove."""
        return admin.RemoveFailedEventResponse()
