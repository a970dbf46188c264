"""Housekeeping: old content, old messages and old idempotency keys go, in small steps between everything else (SQL).

Only what is finished goes. A message with a recipient that waits, is leased or is in doubt is never touched, however
old. Ids are time-ordered, so a walk by id is a walk by age and needs no index of its own.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from mailward import log, metrics
from mailward.db.database import Database, Row, Transaction
from mailward.delivery.idempotency import KEPT_US, expire_keys
from mailward.errors import MailwardError
from mailward.ids import EPOCH_MS
from mailward.message.content import sweep_orphans

EVERY_S = 3600.0
_FIRST_AFTER_S = 60.0
_DAY_US = 86_400_000_000
_UPLOAD_US = _DAY_US  # no door lets a submission take nearly as long
_AT_ONCE = 200  # messages looked at in one step
_AT_ONCE_BYTES = 16 << 20  # content removed in one step: its pages are freed one by one
_KEYS_AT_ONCE = 1_000
_SHARE = 20  # a step rests this many times as long as it took


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """How long what is finished is kept, in days since its submission; 0: for ever."""

    content_days: int
    message_days: int


@dataclass(frozen=True, slots=True)
class Swept:
    """What one step did."""

    removed: int  #: messages
    cursor: int | None  #: the id to go on behind; None: it was the last step


_OLD_CONTENTS = """
    SELECT c.id, m.size_bytes,
           EXISTS (SELECT 1 FROM recipients AS r WHERE r.message_id = c.id
                      AND (r.next_attempt_at_us IS NOT NULL OR r.node IS NOT NULL OR r.state = 'uncertain'))
      FROM (SELECT id FROM contents WHERE id > :after AND id < :before ORDER BY id LIMIT :limit) AS c
      JOIN messages AS m ON m.id = c.id
     ORDER BY c.id
"""

_OLD_MESSAGES = """
    SELECT m.id, m.size_bytes,
           EXISTS (SELECT 1 FROM recipients AS r WHERE r.message_id = m.id
                      AND (r.next_attempt_at_us IS NOT NULL OR r.node IS NOT NULL OR r.state = 'uncertain'))
      FROM (SELECT id, size_bytes FROM messages WHERE id > :after AND id < :before ORDER BY id LIMIT :limit) AS m
     ORDER BY m.id
"""

_REMOVE_CONTENT = ("DELETE FROM content_pieces WHERE message_id = :id", "DELETE FROM contents WHERE id = :id")
_REMOVE_MESSAGE = (
    *_REMOVE_CONTENT,
    "DELETE FROM attempts WHERE message_id = :id",
    "DELETE FROM recipients WHERE message_id = :id",
    "DELETE FROM replays WHERE message_id = :id",
    "DELETE FROM messages WHERE id = :id",
)


def sweep_contents(tx: Transaction, before_us: int, after: int) -> Swept:
    """Remove the content of the next finished messages behind id `after` that were submitted before `before_us`."""
    return _sweep(tx, _OLD_CONTENTS, _REMOVE_CONTENT, before_us, after)


def sweep_messages(tx: Transaction, before_us: int, after: int) -> Swept:
    """Remove the next finished messages behind id `after` that were submitted before `before_us`, with all of them."""
    return _sweep(tx, _OLD_MESSAGES, _REMOVE_MESSAGE, before_us, after)


def _sweep(tx: Transaction, find: str, remove: Sequence[str], before_us: int, after: int) -> Swept:
    before = _id_at(before_us)
    rows = tx.fetch(find, after=after, before=before, limit=_AT_ONCE)
    seen = _fitting(rows)
    finished = [{"id": id} for id, _, unfinished in seen if not unfinished]
    if finished:
        for sql in remove:
            tx.executemany(sql, finished)
    went_on = len(seen) < len(rows) or len(rows) == _AT_ONCE
    return Swept(len(finished), seen[-1][0] if went_on else None)


def _id_at(at_us: int) -> int:
    """Return the lowest id that may have been drawn at `at_us`."""
    return max(0, at_us // 1_000 - EPOCH_MS) << 20


def _fitting(rows: Sequence[Row]) -> Sequence[Row]:
    """Return the leading rows whose content fits into one step, at least one."""
    size_bytes = 0
    for index, row in enumerate(rows):
        size_bytes += row[1]
        if size_bytes > _AT_ONCE_BYTES and index:
            return rows[:index]
    return rows


class Housekeeper:
    """Belongs to one event loop: `start`, then `stop`. Several nodes may each have one: they do the same."""

    def __init__(
        self, database: Database, keep: Keep, now_us: Callable[[], int], *, rest: Callable[[float], float] | None = None
    ) -> None:
        """`rest`: how many seconds to rest after a step that took so many."""
        self._database = database
        self._keep = keep
        self._now_us = now_us
        self._rest = rest or (lambda took_s: max(0.02, took_s * _SHARE))
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run(), name="mailward-housekeeper")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def tidy(self) -> None:
        """Remove everything whose time has come."""
        now_us = self._now_us()
        keep = self._keep
        if keep.message_days:
            await self._walk("messages", sweep_messages, now_us - keep.message_days * _DAY_US)
        if keep.content_days:
            await self._walk("contents", sweep_contents, now_us - keep.content_days * _DAY_US)
        orphans = await self._database.write(sweep_orphans, _id_at(now_us - _UPLOAD_US))
        metrics.housekeeping_removed.labels("orphans").inc(orphans)
        while True:
            began_s = time.monotonic()
            removed = await self._database.write(expire_keys, now_us - KEPT_US, _KEYS_AT_ONCE)
            metrics.housekeeping_removed.labels("keys").inc(removed)
            if removed < _KEYS_AT_ONCE:
                return
            await asyncio.sleep(self._rest(time.monotonic() - began_s))

    async def _walk(self, kind: str, sweep: Callable[[Transaction, int, int], Swept], before_us: int) -> None:
        cursor: int | None = -1
        while cursor is not None:
            began_s = time.monotonic()
            swept = await self._database.write(sweep, before_us, cursor)
            metrics.housekeeping_removed.labels(kind).inc(swept.removed)
            cursor = swept.cursor
            if cursor is not None:
                await asyncio.sleep(self._rest(time.monotonic() - began_s))

    async def _run(self) -> None:
        await asyncio.sleep(_FIRST_AFTER_S)
        while True:
            try:
                await self.tidy()
            except MailwardError as error:  # The store is away; it can wait.
                log.write("warning", "housekeeping.failed", error=str(error))
            await asyncio.sleep(EVERY_S)
