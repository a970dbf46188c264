"""What an operator may do with the queue, as the doors see it: the operators' functions, the worker, replay."""

import asyncio
from collections.abc import Callable

from mailward import log
from mailward.db.database import Database
from mailward.delivery import operators, queries
from mailward.delivery.elsewhere import Elsewhere
from mailward.delivery.idempotency import Idempotency
from mailward.delivery.lease import LANE_NAMES, Lane, Replay
from mailward.delivery.operators import START, Act, QueueFilter, Treatment
from mailward.delivery.status import is_final
from mailward.delivery.submission import Submission, Submissions
from mailward.delivery.views import MessageFilter, MessageView, RecipientView
from mailward.delivery.worker import Worker
from mailward.errors import Conflict, InvalidArgument, NotFound
from mailward.ids import InstanceId, MessageId, UserId
from mailward.message import content
from mailward.message.envelope import Envelope

_PAGE = 100


class Control:
    """One per process. Everything it does is on record in the event log, with who did it."""

    def __init__(
        self,
        database: Database,
        worker: Worker | Elsewhere,
        submissions: Submissions,
        *,
        instance: InstanceId,
        draw_id: Callable[[], MessageId],
        now_us: Callable[[], int],
    ) -> None:
        self._database = database
        self._worker = worker
        self._submissions = submissions
        self._instance = instance
        self._draw_id = draw_id
        self._now_us = now_us

    async def treat(self, treatment: Treatment, id: MessageId, editor: UserId, address: str = "") -> int:
        """Do `treatment` to a message or one of its recipients; return to how many. Raises NotFound, Conflict."""
        count = await self._database.write(operators.treat_message, self._act(editor), treatment, id, address)
        self._worker.wake()
        log.queue_changed(treatment.value, editor=editor, count=count, message_id=id)
        return count

    async def treat_all(self, treatment: Treatment, filter: QueueFilter, editor: UserId, *, dry_run: bool) -> int:
        """Do `treatment` to every recipient that `filter` matches; return to how many. In steps, between other mail."""
        act, operation = self._act(editor), str(self._draw_id())
        if dry_run:
            return await self._walk(treatment, filter, act, operation, dry_run=True)
        count = await self._walk(treatment, filter, act, operation, dry_run=False)
        self._worker.wake()
        log.queue_changed(treatment.value, editor=editor, count=count)
        return count

    async def _walk(self, treatment: Treatment, filter: QueueFilter, act: Act, operation: str, *, dry_run: bool) -> int:
        run = self._database.read if dry_run else self._database.write
        count = 0
        cursor: operators.Cursor | None = START
        while cursor is not None:
            done = await run(operators.step, act, treatment, filter, cursor, operation=operation, dry_run=dry_run)
            count, cursor = count + done.count, done.cursor
        return count

    async def replay(self, id: MessageId, editor: UserId, addresses: tuple[str, ...] = ()) -> MessageId:
        """Send message `id` again, to everybody or to `addresses` alone; return the new message's id.

        It has the same content, Message-ID included, a lifetime of its own, and a link to the old one.
        Raises NotFound; Conflict while the old one may still be sent, and when its content is gone.
        """
        view = await self._database.read(queries.get_message, id, None)
        chosen = tuple(one for one in view.recipients if not addresses or one.address in addresses)
        if not chosen or (addresses and len(chosen) != len(set(addresses))):
            raise NotFound("QUEUE-nobody", "the message has no such recipient")
        if any(not is_final(one.status) and not one.held for one in chosen):
            raise Conflict("QUEUE-early", "it may still be sent by itself: cancel it, or try it now instead")
        return await self._send_again(view, chosen, editor, self._draw_id(), operation="")

    async def replay_all(self, filter: QueueFilter, editor: UserId, *, dry_run: bool) -> int:
        """Send again to all recipients that `filter` matches, which must name a final state; return to how many.

        A message that was replayed before is left out: doing it twice by mistake sends nothing twice.
        """
        if filter.status is None or not is_final(filter.status):
            raise InvalidArgument(
                "QUEUE-final", "replaying many needs a final state, e.g. bounced", pointer="/filter/state"
            )
        operation, count, cursor = str(self._draw_id()), 0, ""
        wanted = MessageFilter(status=filter.status, tag=filter.tag, since_us=filter.since_us, until_us=filter.until_us)
        while True:
            # From the newest down: what the replay itself makes is not met.
            page = await self._database.read(queries.list_messages, wanted, _PAGE, cursor)
            for view in page.messages:
                chosen = _chosen(view, filter)
                if not chosen or await self._database.read(queries.was_replayed, view.id):
                    continue
                if not dry_run:
                    # Two who do this at the same moment, at whatever nodes, are told apart by the store alone.
                    once = Idempotency(f"\1replay {view.id}", "")  # No caller's key has such a character.
                    id = self._draw_id()
                    try:
                        if await self._send_again(view, chosen, editor, id, operation=operation, once=once) != id:
                            continue
                    except Conflict:
                        continue  # Its content is gone.
                count += len(chosen)
            cursor = page.cursor
            if not cursor:
                return count
            await asyncio.sleep(0)

    async def _send_again(
        self,
        view: MessageView,
        recipients: tuple[RecipientView, ...],
        editor: UserId,
        id: MessageId,
        *,
        operation: str,
        once: Idempotency | None = None,
    ) -> MessageId:
        """Submit it as message `id`; return the id of the one that stands for it: under the key `once`, another."""
        body = await self._database.read(content.read, view.id)
        if body is None:
            raise Conflict("QUEUE-gone", "its content is not kept any more")
        stored = await self._submissions.submit(
            Submission(
                id=id,
                envelope=Envelope(view.reverse_path, tuple(one.address for one in recipients), view.smtputf8),
                content=body,
                subject=view.subject,
                sender=view.sender,
                ingress="http",
                tags=view.tags,
                metadata=view.metadata,
                lane=Lane(LANE_NAMES.index(view.lane)),
                idempotency=once,
                replay=Replay(view.id, self._instance, editor, operation),
            )
        )
        if stored == id:
            log.queue_changed("replay", editor=editor, count=len(recipients), message_id=view.id)
        return stored

    def _act(self, editor: UserId) -> Act:
        return Act(instance=self._instance, editor=editor, at_us=self._now_us())


def _chosen(view: MessageView, filter: QueueFilter) -> tuple[RecipientView, ...]:
    if filter.lane is not None and view.lane != LANE_NAMES[filter.lane]:
        return ()
    if filter.provider_id and all(attempt.provider_id != filter.provider_id for attempt in view.attempts):
        return ()
    return tuple(
        one
        for one in view.recipients
        if one.status is filter.status
        and (not filter.domain or one.address.rpartition("@")[2].lower() == filter.domain)
    )
