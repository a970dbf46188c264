"""Builders for messages in the queue."""

from itertools import count
from typing import Any

from mailward.delivery.lease import CloseAttempt, Ended, Lane, Mark, NewMessage, OpenAttempt, Owner
from mailward.ids import AttemptId, MessageId, ProviderId

SECOND = 1_000_000
HOUR = 3600 * SECOND
NOW = 1_790_000_000 * SECOND
PROVIDER = ProviderId("227654321098765432")
CONTENT = b"From: shop@example.com\r\nSubject: Your order\r\n\r\nThank you.\r\n"

_numbers = count(1)


def new_message(*addresses: str, id: int | None = None, **changes: Any) -> NewMessage:
    """Return a message to submit, to `addresses` or one made-up address, at NOW."""
    number = next(_numbers)
    values: dict[str, Any] = {
        "id": MessageId(id or 220_000_000_000_000_000 + number),
        "sender": "300000000000000001",
        "reverse_path": "shop@example.com",
        "subject": "Your order",
        "content": CONTENT,
        "smtputf8": False,
        "ingress": "http",
        "tags": "[]",
        "metadata": "{}",
        "created_at_us": NOW,
        "expires_at_us": NOW + 72 * HOUR,
        "uncertain_retries": None,
        "lane": Lane.TRANSACTIONAL,
        "addresses": addresses or (f"customer{number}@example.net",),
    }
    owner, attempt = changes.pop("owner", None), changes.pop("mark", None)
    values["node"], values["epoch"] = owner or (None, None)
    values["attempt_id"], values["provider_id"] = attempt or (None, None)
    return NewMessage(**(values | changes))


def mark(provider_id: ProviderId = PROVIDER) -> Mark:
    """Return an attempt of its own."""
    return Mark(AttemptId(230_000_000_000_000_000 + next(_numbers)), provider_id)


def opening(message: NewMessage, attempt: Mark, owner: Owner, ns: tuple[int, ...] | None = None) -> OpenAttempt:
    """Return the opening of `attempt` for all recipients of `message`, or for `ns`."""
    return OpenAttempt(message.id, *attempt, *owner, ns or tuple(range(len(message.addresses))), NOW)


def closing(message: NewMessage, attempt: Mark, owner: Owner, *ended: Ended, results: str = "[]") -> CloseAttempt:
    """Return the end of `attempt`: `ended`, or accepted for every recipient."""
    ends = ended or tuple((n, "accepted", None, 0) for n in range(len(message.addresses)))
    return CloseAttempt(message.id, *attempt, *owner, NOW + SECOND, results, ends)
