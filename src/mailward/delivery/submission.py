"""The one way in for all doors: store a message and its recipients durably, then hand them to the worker."""

from asyncio import Future, Task, get_running_loop, to_thread
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

import orjson

from mailward import log
from mailward.db.database import Database
from mailward.db.writer import Failed
from mailward.delivery import queue
from mailward.delivery.elsewhere import Elsewhere
from mailward.delivery.idempotency import Earlier, Idempotency, conflict
from mailward.delivery.lease import LANE_NAMES, Lane, Lease, NewMessage, Replay
from mailward.delivery.upload import Upload, discard
from mailward.delivery.worker import Worker
from mailward.errors import InvalidArgument, MailwardError, Unavailable
from mailward.ids import MessageId, UserId
from mailward.message.content import PIECE_BYTES, Content, StoredContent, Uploaded, cut
from mailward.message.envelope import Envelope

Ingress = Literal["http", "grpc", "smtp"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A message as a door hands it over: checked, complete, with its envelope."""

    id: MessageId  #: drawn by the door, because Message-ID and trace carry it
    envelope: Envelope
    content: bytes | Uploaded  #: RFC 5322, CRLF line ends, not dot-stuffed
    subject: str  #: decoded, for lists and logs; "" when there is none
    sender: UserId  #: who submitted it
    ingress: Ingress
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    lane: Lane = Lane.TRANSACTIONAL
    lifetime_s: int | None = None  #: from the submission; None: the default
    expires_at_us: int | None = None  #: instead of `lifetime_s`
    uncertain_retries: int | None = None  #: None: the provider's or the default
    idempotency: Idempotency | None = None  #: None: every submission is a new one
    replay: Replay | None = None  #: the message that it sends again


class Submissions:
    """Takes submissions. Durable before the answer; no task and no thread hop per message of its own."""

    def __init__(
        self, database: Database, worker: Worker | Elsewhere, now_us: Callable[[], int], lifetime_s: int
    ) -> None:
        """`lifetime_s`: of submissions that name none."""
        self._database = database
        self._worker = worker
        self._now_us = now_us
        self._lifetime_s = lifetime_s
        self._in_pieces: set[Task[MessageId]] = set()

    def submit(self, submission: Submission) -> Future[MessageId]:
        """Store `submission`. The future resolves after the commit, with the id of the message that stands for it.

        That is another than its own when the same was submitted before under its idempotency key. It raises
        IdempotencyConflict when something else was; Unavailable when the store cannot be written, InvalidArgument when
        it cannot hold a value (NUL, a lone surrogate). Canceling it does not undo the submission.
        """
        s = submission
        held: Content
        if isinstance(s.content, Uploaded):
            body, stored_bytes = s.content.end, s.content.stored_bytes
            held = StoredContent(self._database, s.id, len(s.content))
        elif len(s.content) <= PIECE_BYTES:
            body, stored_bytes, held = s.content, 0, s.content
        else:
            return self._submit_in_pieces(s, s.content)
        answer: Future[MessageId] = get_running_loop().create_future()
        now_us = self._now_us()
        expires_at_us = s.expires_at_us
        if expires_at_us is None:
            expires_at_us = now_us + (self._lifetime_s if s.lifetime_s is None else s.lifetime_s) * 1_000_000
        lease = self._worker.reserve(s.id, s.lane, s.envelope, held, now_us, expires_at_us, s.uncertain_retries)
        node, epoch = (None, None) if lease is None else lease.owner
        attempt_id, provider_id = (None, None) if lease is None or lease.mark is None else lease.mark
        message = NewMessage(
            s.id,
            s.sender,
            s.envelope.reverse_path,
            s.subject,
            body,
            s.envelope.smtputf8,
            s.ingress,
            orjson.dumps(s.tags).decode() if s.tags else "[]",
            orjson.dumps(s.metadata).decode() if s.metadata else "{}",
            now_us,
            expires_at_us,
            s.uncertain_retries,
            int(s.lane),  # An enum is pickled by its class and a call.
            s.envelope.recipients,
            node,
            epoch,
            attempt_id,
            provider_id,
            "" if s.idempotency is None else s.idempotency.key,
            "" if s.idempotency is None else s.idempotency.fingerprint,
            s.replay,
            stored_bytes,
        )
        try:
            stored = self._database.batch(queue.submit, message)
        except MailwardError as error:  # Too many wait, or it is closed.
            self._worker.drop(s.lane, lease, None)
            answer.set_exception(error)
            return answer
        stored.then(partial(self._stored, submission, now_us, lease, answer))
        return answer

    def upload(self, id: MessageId, on_room: Callable[[], None] = lambda: None) -> Upload:
        """Begin to store the content of message `id`, piece by piece, before it is submitted. See Upload."""
        return Upload(self._database, id, on_room)

    def _submit_in_pieces(self, submission: Submission, whole: bytes) -> Future[MessageId]:
        task = get_running_loop().create_task(self._put_and_submit(submission, whole))
        self._in_pieces.add(task)
        task.add_done_callback(self._in_pieces.discard)
        return task

    async def _put_and_submit(self, submission: Submission, whole: bytes) -> MessageId:
        content = await self.store(submission.id, cut([whole]))
        return await self.submit(replace(submission, content=content))

    async def store(self, id: MessageId, pieces: Iterator[bytes]) -> Uploaded:
        """Store the content of message `id` before it is submitted, as `cut` has made it; a thread makes the pieces.

        Raises what they raise, and Unavailable; then nothing is left of it.
        """
        upload = self.upload(id)
        try:
            last = await to_thread(next, pieces)
            while (piece := await to_thread(next, pieces, None)) is not None:
                await upload.put(last)
                last = piece
            return await upload.finish(last)
        except BaseException:
            upload.discard()
            raise

    def _stored(
        self,
        submission: Submission,
        at_us: int,
        lease: Lease | None,
        answer: Future[MessageId],
        leased: bool | Earlier | Failed,
    ) -> None:
        if isinstance(leased, Failed):
            self._refuse(submission, lease, leased.error, answer)
            return
        if isinstance(leased, Earlier):
            self._worker.forget(lease)
            self._discard(submission)
            if not answer.done() and leased.same:
                answer.set_result(leased.message_id)
            elif not answer.done():
                answer.set_exception(conflict())
            return
        log.message_accepted(
            submission.id,
            ingress=submission.ingress,
            lane=LANE_NAMES[submission.lane],
            recipients=len(submission.envelope.recipients),
            size_bytes=len(submission.content),
            sender=submission.sender,
            seconds=(self._now_us() - at_us) / 1e6,
        )
        if lease is not None and leased:
            self._worker.take(lease)
        else:
            self._worker.drop(submission.lane, lease, None)
        if not answer.done():
            answer.set_result(submission.id)

    def _discard(self, submission: Submission) -> None:
        if isinstance(submission.content, Uploaded):
            discard(self._database, submission.id)

    def _refuse(
        self, submission: Submission, lease: Lease | None, error: BaseException, answer: Future[MessageId]
    ) -> None:
        # Only a failed commit may have been stored all the same; a value that was refused was not.
        if isinstance(error, Unavailable):
            self._worker.drop(submission.lane, lease, error)
        else:
            self._worker.drop(submission.lane, lease, None)
            self._discard(submission)
        if answer.done():
            return
        if not isinstance(error, InvalidArgument):
            cause, error = error, Unavailable("QUEUE-store", "the message could not be stored; try again later")
            error.__cause__ = cause  # It may name files and hosts, so it is for the log only.
        answer.set_exception(error)
