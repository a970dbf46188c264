"""What is asked about messages: one with its timeline, or a page of many (SQL).

No index serves the filters: it would cost every accepted message, a quarter of the rate with a million stored. A page
is a scan of messages, newest first, that ends after `_SCANNED` of them and hands out a cursor to go on.
"""

import base64
import binascii
from collections import defaultdict
from typing import Any

import orjson

from mailward.db.database import Row, Transaction
from mailward.delivery.lease import LANE_NAMES
from mailward.delivery.status import Status
from mailward.delivery.views import AttemptView, MessageFilter, MessagePage, MessageView, RecipientView, ResultView
from mailward.errors import InvalidArgument, NotFound
from mailward.ids import EPOCH_MS, MessageId, UserId

_SCANNED = 20_000
_MAX_ID = (1 << 63) - 1
_CLOCK_SLACK_MS = (
    3_600_000  # An id is an order, not a date: it may be ahead of the clock by as much as that was set back.
)

_MESSAGE = """
    SELECT id, sender, reverse_path, subject, size_bytes, smtputf8, ingress, tags, metadata,
           created_at_us, expires_at_us, (SELECT replay_of FROM replays WHERE message_id = messages.id)
      FROM messages WHERE id = :id
"""


def get_message(tx: Transaction, id: MessageId, sender: UserId | None) -> MessageView:
    """Return message `id`; with a `sender`, only if that user submitted it. Raises NotFound."""
    row = tx.fetch_one(_MESSAGE, id=id)
    if row is None or (sender is not None and row[1] != sender):
        raise NotFound("MESSAGE-absent", "no such message")
    return _views(tx, [row])[0]


_REPLAY = "SELECT 1 FROM replays WHERE replay_of = :id LIMIT 1"


def was_replayed(tx: Transaction, id: MessageId) -> bool:
    """Tell whether message `id` was sent again as another one."""
    return tx.fetch_one(_REPLAY, id=id) is not None


# The inner query bounds the scan, the outer one filters. LIKE only narrows by tag: the exact comparison is `_has_tag`.
_PAGE = """
    SELECT id, sender, reverse_path, subject, size_bytes, smtputf8, ingress, tags, metadata,
           created_at_us, expires_at_us, (SELECT replay_of FROM replays WHERE message_id = m.id)
      FROM (SELECT id, sender, reverse_path, subject, size_bytes, smtputf8, ingress, tags, metadata,
                   created_at_us, expires_at_us
              FROM messages WHERE id < :before AND id > :after ORDER BY id DESC LIMIT :scanned) AS m
     WHERE (:sender = '' OR sender = :sender)
       AND created_at_us >= :since_us AND created_at_us < :until_us
       AND (:tag = '' OR tags LIKE :tag ESCAPE '!')
       AND (:state = '' OR EXISTS (
             SELECT 1 FROM recipients AS r WHERE r.message_id = m.id AND r.state = :state))
       AND (:address = '' OR EXISTS (
             SELECT 1 FROM recipients AS r WHERE r.message_id = m.id AND lower(r.address) = :address))
     ORDER BY id DESC LIMIT :page_size
"""

# Doubts are few and have an index, so that an operator finds them among any number of messages.
_IN_DOUBT = "FROM messages WHERE id IN (SELECT message_id FROM recipients WHERE state = 'uncertain') AND"
_PAGE_OF_DOUBTS = _PAGE.replace("FROM messages WHERE", _IN_DOUBT)

_LAST_SCANNED = """
    SELECT min(id), count(*) FROM (
        SELECT id FROM messages WHERE id < :before AND id > :after ORDER BY id DESC LIMIT :scanned) AS m
"""

_LAST_DOUBT = _LAST_SCANNED.replace("FROM messages WHERE", _IN_DOUBT)


def list_messages(tx: Transaction, filter: MessageFilter, page_size: int, cursor: str = "") -> MessagePage:
    """Return up to `page_size` messages, newest first, from where `cursor` left off.

    Raises InvalidArgument for a cursor that is none of ours.
    """
    before = _parse(cursor) if cursor else _MAX_ID
    if filter.until_us is not None:
        before = min(before, _id_at(filter.until_us, _CLOCK_SLACK_MS))
    bounds = {
        "before": before,
        "after": -1 if filter.since_us is None else _id_at(filter.since_us, -_CLOCK_SLACK_MS),
        "scanned": _SCANNED,
    }
    in_doubt = filter.status is Status.UNCERTAIN
    rows = tx.fetch(
        _PAGE_OF_DOUBTS if in_doubt else _PAGE,
        **bounds,
        sender=filter.sender or "",
        since_us=0 if filter.since_us is None else filter.since_us,
        until_us=_MAX_ID if filter.until_us is None else filter.until_us,
        tag=f"%{_like(_json(filter.tag))}%" if filter.tag else "",
        state=filter.status.value if filter.status else "",
        address=filter.recipient.lower(),
        page_size=page_size,
    )
    if len(rows) == page_size:
        next_cursor = _format(rows[-1][0])
    else:
        last, count = tx.fetch_one(_LAST_DOUBT if in_doubt else _LAST_SCANNED, **bounds) or (None, 0)
        next_cursor = _format(last) if count == _SCANNED else ""
    return MessagePage(tuple(_views(tx, [row for row in rows if _has_tag(row, filter.tag)])), next_cursor)


def _has_tag(row: Row, tag: str) -> bool:
    return not tag or tag in orjson.loads(row[7])


def _json(text: str) -> str:
    return orjson.dumps(text).decode()


def _like(text: str) -> str:
    return text.replace("!", "!!").replace("%", "!%").replace("_", "!_")


def _id_at(at_us: int, slack_ms: int) -> int:
    """Return an id that none drawn at `at_us` reaches (slack above 0) or falls short of (below 0)."""
    return min(max((at_us // 1_000 - EPOCH_MS + slack_ms) << 20, -1), _MAX_ID)


def _format(id: int) -> str:
    return base64.urlsafe_b64encode(id.to_bytes(8, "big")).decode().rstrip("=")


def _parse(cursor: str) -> int:
    try:
        data = base64.b64decode(cursor + "=", altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        data = b""
    if len(data) != 8 or data[0] > 0x7F:
        raise InvalidArgument("MESSAGE-cursor", "not a page token of this list", pointer="/page_token")
    return int.from_bytes(data, "big")


_RECIPIENTS = """
    SELECT message_id, n, address, lane, state, state_at_us, attempts, next_attempt_at_us
      FROM recipients WHERE message_id = :id ORDER BY n
"""

_ATTEMPTS = """
    SELECT id, provider_id, opened_at_us, closed_at_us, recipients, results
      FROM attempts WHERE message_id = :id ORDER BY id
"""


def _views(tx: Transaction, rows: list[Row]) -> list[MessageView]:
    return [_view(row, tx.fetch(_RECIPIENTS, id=row[0]), tx.fetch(_ATTEMPTS, id=row[0])) for row in rows]


def _view(row: Row, recipients: list[Row], attempts: list[Row]) -> MessageView:
    addresses = {n: address for _, n, address, *_ in recipients}
    timeline = tuple(_attempt(attempt, addresses) for attempt in attempts)
    last: defaultdict[str, ResultView | None] = defaultdict(lambda: None)
    for attempt in timeline:
        for result in attempt.results:
            last[result.address] = result
    id, sender, reverse_path, subject, size_bytes, smtputf8, ingress, tags, metadata = row[:9]
    created_at_us, expires_at_us, replay_of = row[9:]
    return MessageView(
        id=id,
        sender=sender,
        reverse_path=reverse_path,
        subject=subject,
        size_bytes=size_bytes,
        smtputf8=bool(smtputf8),
        ingress=ingress,
        lane=LANE_NAMES[recipients[0][3]],
        tags=tuple(orjson.loads(tags)),
        metadata=orjson.loads(metadata),
        created_at_us=created_at_us,
        expires_at_us=expires_at_us,
        recipients=tuple(
            RecipientView(address, Status(state), since_us, ended, next_at_us, last[address])
            for _, _, address, _, state, since_us, ended, next_at_us in recipients
        ),
        attempts=timeline,
        replay_of=replay_of,
    )


def _attempt(row: Row, addresses: dict[int, str]) -> AttemptView:
    id, provider_id, opened_at_us, closed_at_us, ns, results = row
    stored: list[Any] = orjson.loads(results) if results else []
    parsed = [one for one in stored if isinstance(one, list)]
    route = next((one["route"] for one in stored if isinstance(one, dict)), "")
    return AttemptView(
        id=id,
        provider_id=provider_id,
        opened_at_us=opened_at_us,
        closed_at_us=closed_at_us,
        addresses=tuple(addresses[n] for n in orjson.loads(ns)),
        route=route,
        results=tuple(
            ResultView(addresses[n], Status(status), stage, fault, code, enhanced, text)
            for n, status, stage, fault, code, enhanced, text in parsed
        ),
    )
