"""The quick way at POST /v1/messages answers as the ordinary one does, or leaves the request to it."""

import asyncio
import json
from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailward.access.tokens import Caller
from mailward.api.access import Guard
from mailward.api.admin import Admin
from mailward.api.hosts import Hosts
from mailward.api.messages import MessageLimits, Messages
from mailward.api.quick import PATH, Quick
from mailward.api.services import registry
from mailward.delivery.submission import Submission
from mailward.errors import Unavailable
from mailward.ids import MessageId, UserId
from mailward.rpc.app import App
from mailward.rpc.http import Headers, Request, Response
from mailward.rpc.rest import RestGateway

NOW = 1_790_000_000_000_000
TOKEN = "mw_" + "a" * 43
ORDINARY = {"from": "Shop <shop@example.com>", "to": ["ada@example.net"], "subject": "Hi", "text": "Hello\n"}
FIELDS = [
    ("host", "x"),
    ("content-type", "application/json"),
    ("authorization", f"Bearer {TOKEN}"),
    ("x-request-id", "1"),
]


class Tokens:
    """Access, as far as guard and quick way ask it: one token, which may always be remembered."""

    instance = "1"

    def __init__(self, *permissions: str) -> None:
        self._caller = Caller(
            user_id=UserId("2"), token_id="3", name="app", roles=frozenset(), permissions=frozenset(permissions),
            is_member=False,
        )  # fmt: skip

    def remembered(self, token: str) -> Caller | None:
        return self._caller if token == TOKEN else None

    async def admit(self, token: str, door: str, peer: str) -> Caller | None:
        return self.remembered(token)


class Recorder:
    """Submissions that only remember, or fail with `error`."""

    def __init__(self, error: Exception | None) -> None:
        self.seen: list[Submission] = []
        self._error = error

    def submit(self, submission: Submission) -> asyncio.Future[MessageId]:
        self.seen.append(submission)
        future: asyncio.Future[MessageId] = asyncio.get_running_loop().create_future()
        if self._error is None:
            future.set_result(submission.id)
        else:
            future.set_exception(self._error)
        return future


class Outcome:
    """What came of a request: the answer, what was submitted, and whether the quick way took it."""

    def __init__(self, response: Response, seen: list[Submission], quickly: bool) -> None:
        self.response, self.seen, self.quickly = response, seen, quickly

    def told(self) -> tuple[Any, ...]:
        return self.response.status, sorted(self.response.headers), self.response.body, self.seen


def ask(
    body: bytes,
    *,
    quick: bool,
    fields: list[tuple[str, str]] = FIELDS,
    method: str = "POST",
    query: str = "",
    error: Exception | None = None,
    permissions: tuple[str, ...] = ("message.send",),
) -> Outcome:
    """Send `body` through an App with or without the quick way."""

    async def answer() -> Outcome:
        access, recorder, ids = Tokens(*permissions), Recorder(error), count(1)
        limits = MessageLimits(message_bytes=100_000, recipients=5)
        common: Any = {"draw_id": lambda: next(ids), "now_us": lambda: NOW, "limits": limits}
        nothing: Any = None
        messages = Messages(nothing, recorder, hostname="h", waits_for=str, **common)  # type: ignore[arg-type]
        admin = Admin(nothing, nothing, nothing, nothing, nothing, nothing)
        services = registry(
            Guard(access),  # type: ignore[arg-type]
            admin,
            messages,
            nothing,
            nothing,
            nothing,
            max_message_bytes=100_000,
        )
        rest = RestGateway(services, now=lambda: NOW / 1e6)
        short = Quick(access, recorder, rest, hosts=Hosts(()), **common)  # type: ignore[arg-type]
        app = App(services, rest, {}, rest_limit=rest.max_body, shortcuts={PATH: short} if quick else {})
        target = f"{PATH}?{query}" if query else PATH
        request = Request(method, target.encode(), PATH, query, Headers.of(fields), body)
        early = short(request) if quick else None
        assert early is not None or not recorder.seen
        result = early if early is not None else app(request)
        return Outcome(result if isinstance(result, Response) else await result, recorder.seen, early is not None)

    return asyncio.run(answer())


def same(body: bytes, **how: Any) -> bool:
    """Check that both ways lead to the same; return whether the quick one took it."""
    quick = ask(body, quick=True, **how)
    if quick.quickly:
        assert quick.told() == ask(body, quick=False, **how).told()
    return quick.quickly


def test_an_ordinary_message_is_taken_quickly_and_answered_the_same() -> None:
    assert same(json.dumps(ORDINARY).encode())
    assert ask(json.dumps(ORDINARY).encode(), quick=True).response.status == 202


_texts = st.text(max_size=30) | st.sampled_from(
    ['say "hi"', "C:\\temp", 'a\\"b', "\n.\n", "né 😀", "\0", "x" * 1200, ""]
)
_addresses = st.sampled_from(
    ["ada@example.net", "Ada <ada@example.net>", '"A, B" <b@example.net>', "bob", "", "é@exämple.net", "a@b\r\nc"]
)
_lists = st.lists(_addresses, max_size=6)
_bodies = st.fixed_dictionaries(
    {},
    optional={
        "from": _addresses, "to": _lists, "cc": _lists, "bcc": _lists, "reply_to": _lists, "subject": _texts,
        "text": _texts, "html": _texts | st.just("<p>Hi</p>"), "tags": st.lists(_texts, max_size=3),
        "headers": st.dictionaries(_texts, _texts, max_size=2), "replyTo": _lists, "unknown": _texts,
        "raw": st.just("QQ=="),
    },
)  # fmt: skip


@settings(max_examples=250)
@given(_bodies, st.booleans(), st.sampled_from([None, 1, "\t"]))
def test_whatever_the_fields_hold_both_ways_agree(body: dict[str, Any], ascii: bool, indent: int | str | None) -> None:
    if "from" in body or "to" in body:
        body = ORDINARY | body
    same(json.dumps(body, ensure_ascii=ascii, indent=indent).encode("utf-8", "surrogatepass"))


_PIECES = [b"", b'"', b"\\", b":", b",", b" ", b"{", b"}", b"null", b'"to":["eve@example.net"],', b"\xff"]


@settings(max_examples=250)
@given(st.data())
def test_however_the_text_is_damaged_both_ways_agree(data: st.DataObject) -> None:
    body = json.dumps(ORDINARY | {"text": 'a "b" \\ c'}).encode()
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(body)))
        piece = data.draw(
            st.sampled_from(
                [b"", b'"', b"\\", b":", b",", b" ", b"{", b"}", b"null", b'"to":["eve@example.net"],', b"\xff"]
            )
        )
        body = body[:at] + piece + body[at + data.draw(st.integers(0, 2)) :]
    same(body)


@pytest.mark.parametrize(
    "body",
    [
        b'{"from":"a@example.net","to":["b@example.net"],"text":"1","text":"2"}',
        b'{"from":"a@example.net","to":["b@example.net"],"text":"1","text" : "2"}',
        b'{"from":"a@example.net","to":["b@example.net"],"text":"1","te\\u0078t":"2"}',
        b'{"from":"a@example.net","to":["b@example.net"],"text":"\\\\","text":"\\\\"}',
        b'{"from":"a@example.net","to":["b@example.net"],"text":"\\"","text":"2"}',
    ],
)
def test_a_field_given_twice_is_refused(body: bytes) -> None:
    assert not same(body)
    assert ask(body, quick=True).response.status == 400


@pytest.mark.parametrize(
    "how",
    [
        {"fields": [*FIELDS, ("idempotency-key", "1")]},
        {"fields": [*FIELDS, ("grpc-timeout", "1n")]},
        {"fields": [("content-type", "application/x-www-form-urlencoded"), *FIELDS[2:]]},
        {"fields": FIELDS[:2]},
        {"fields": [*FIELDS[:2], ("authorization", "Bearer mw_x")]},
        {"fields": [*FIELDS[:2], ("authorization", "Basic x")]},
        {"permissions": ("message.read",)},
        {"method": "GET"},
        {"query": "text=1"},
    ],
)
def test_what_is_out_of_the_ordinary_is_left_to_the_ordinary_way(how: dict[str, Any]) -> None:
    assert not same(json.dumps(ORDINARY).encode(), **how)


def test_a_failing_store_is_told_the_same() -> None:
    assert same(json.dumps(ORDINARY).encode(), error=Unavailable("DB-x", "later"))
    assert ask(json.dumps(ORDINARY).encode(), quick=True, error=Unavailable("DB-x", "later")).response.status == 503


def test_a_message_beyond_the_limits_is_left_to_the_ordinary_way() -> None:
    assert not same(json.dumps(ORDINARY | {"to": ["a@example.net"] * 6}).encode())
    assert not same(json.dumps(ORDINARY | {"text": "x" * 70_000}).encode())
    assert not same(json.dumps(ORDINARY | {"reply_to": ["a@example.net"] * 101}).encode())
