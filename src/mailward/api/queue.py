"""Mailward's own QueueService: the operator's hand in the queue."""

from collections.abc import Callable

from mailward.access.tokens import Caller
from mailward.api import convert_messages as convert
from mailward.api.convert import timestamp
from mailward.db.database import Database
from mailward.delivery import queries
from mailward.delivery.census import Census
from mailward.delivery.control import Control
from mailward.delivery.lanes import lane_of
from mailward.delivery.lease import LANE_NAMES
from mailward.delivery.operators import QueueFilter, Treatment
from mailward.delivery.status import Status
from mailward.errors import InvalidArgument, NotFound
from mailward.ids import MessageId, UserId, format_message_id, parse_message_id
from mailward.message.address import domain_to_ascii
from mailward.proto.mailward.v1 import messages_pb2
from mailward.proto.mailward.v1 import queue_pb2 as proto
from mailward.rpc.service import Call

_DECISIONS = {
    "accepted": Treatment.RESOLVE_ACCEPTED,
    "retry": Treatment.RESOLVE_RETRY,
    "cancel": Treatment.RESOLVE_CANCEL,
}


class Queue:
    """The implementation that is registered for mailward.v1.QueueService. The guard has checked the permissions."""

    def __init__(self, database: Database, control: Control, census: Census, *, waits_for: Callable[[], str]) -> None:
        """`waits_for`: as of Messages."""
        self._database = database
        self._control = control
        self._census = census
        self._waits_for = waits_for

    async def get_queue(self, request: proto.GetQueueRequest, call: Call) -> proto.Queue:
        """Return what waits."""
        counted = await self._census.recent()
        lanes = []
        for lane, name in enumerate(LANE_NAMES):
            shown = proto.QueueLane(lane=name, recipients=counted.recipients[lane])
            oldest = counted.oldest_at_us[lane]
            if oldest is not None:
                shown.oldest_at.CopyFrom(timestamp(oldest))
            lanes.append(shown)
        return proto.Queue(lanes=lanes, held=counted.held, counted_at=timestamp(counted.at_us))

    async def cancel_message(self, request: proto.CancelMessageRequest, call: Call) -> messages_pb2.Message:
        """Stop a message before it is handed over."""
        return await self._treat(Treatment.CANCEL, request.id, request.recipient, call)

    async def retry_message(self, request: proto.RetryMessageRequest, call: Call) -> messages_pb2.Message:
        """Make the next attempt due now."""
        return await self._treat(Treatment.RETRY, request.id, request.recipient, call)

    async def resolve_message(self, request: proto.ResolveMessageRequest, call: Call) -> messages_pb2.Message:
        """Say what became of a message in doubt."""
        return await self._treat(_decision(request.decision), request.id, request.recipient, call)

    async def replay_message(self, request: proto.ReplayMessageRequest, call: Call) -> messages_pb2.SendMessageResponse:
        """Send a message again."""
        id = await self._control.replay(_id(request.id), _editor(call), tuple(request.recipients))
        return messages_pb2.SendMessageResponse(id=format_message_id(id), state=Status.QUEUED.value)

    async def _treat(self, treatment: Treatment, id: str, recipient: str, call: Call) -> messages_pb2.Message:
        number = _id(id)
        await self._control.treat(treatment, number, _editor(call), recipient)
        view = await self._database.read(queries.get_message, number, None)
        return convert.message(view, self._waits_for())

    async def cancel_messages(self, request: proto.BulkRequest, call: Call) -> proto.BulkResponse:
        """Stop all that match."""
        return await self._treat_all(Treatment.CANCEL, request.filter, call, dry_run=request.dry_run)

    async def retry_messages(self, request: proto.BulkRequest, call: Call) -> proto.BulkResponse:
        """Make the next attempts of all that match due now."""
        return await self._treat_all(Treatment.RETRY, request.filter, call, dry_run=request.dry_run)

    async def resolve_messages(self, request: proto.ResolveMessagesRequest, call: Call) -> proto.BulkResponse:
        """Say what became of all in doubt that match."""
        return await self._treat_all(_decision(request.decision), request.filter, call, dry_run=request.dry_run)

    async def replay_messages(self, request: proto.BulkRequest, call: Call) -> proto.BulkResponse:
        """Send all that match again."""
        count = await self._control.replay_all(_filter(request.filter), _editor(call), dry_run=request.dry_run)
        return proto.BulkResponse(count=count)

    async def _treat_all(
        self, treatment: Treatment, filter: proto.QueueFilter, call: Call, *, dry_run: bool
    ) -> proto.BulkResponse:
        count = await self._control.treat_all(treatment, _filter(filter), _editor(call), dry_run=dry_run)
        return proto.BulkResponse(count=count)


def _editor(call: Call) -> UserId:
    caller: Caller = call.caller
    return caller.user_id


def _id(text: str) -> MessageId:
    id = parse_message_id(text)
    if id is None:
        raise NotFound("QUEUE-form", "no such message")
    return id


def _decision(text: str) -> Treatment:
    if text not in _DECISIONS:
        raise InvalidArgument("QUEUE-decision", f"a decision is one of {', '.join(_DECISIONS)}", pointer="/decision")
    return _DECISIONS[text]


def _filter(given: proto.QueueFilter) -> QueueFilter:
    try:
        status = Status(given.state) if given.state else None
    except ValueError:
        raise InvalidArgument(
            "QUEUE-which", f"a state is one of {', '.join(Status)}", pointer="/filter/state"
        ) from None
    filter = QueueFilter(
        status=status,
        tag=given.tag,
        domain=domain_to_ascii(given.domain, pointer="/filter/domain") if given.domain else "",
        provider_id=given.provider_id,
        lane=lane_of(given.lane) if given.lane else None,
        since_us=convert.us(given.created_after) if given.HasField("created_after") else None,
        until_us=convert.us(given.created_before) if given.HasField("created_before") else None,
    )
    if filter.is_empty and not given.all:
        raise InvalidArgument(
            "QUEUE-everything", "an empty filter means everything: say so with all", pointer="/filter"
        )
    return filter
