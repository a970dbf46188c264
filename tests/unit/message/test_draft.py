"""Drafts: every field checked, with a pointer to what is wrong."""

from collections.abc import Callable
from typing import Any

import pytest

from mailward.errors import InvalidArgument
from mailward.message.draft import Attachment, make_draft
from mailward.message.envelope import Envelope

_GOOD: dict[str, Any] = {"from_": "app@example.com", "to": ["ann@example.com"], "text": "hello"}


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"from_": ""}, "/from"),
        ({"from_": "app"}, "/from"),
        ({"to": ["ann@example.com", "bob"]}, "/to/1"),
        ({"cc": ["bob"]}, "/cc/0"),
        ({"bcc": ["bob"]}, "/bcc/0"),
        ({"reply_to": ["bob"]}, "/reply_to/0"),
        ({"to": []}, "/to"),
        ({"to": ["a@example.com"] * 1001}, "/to"),
        ({"reply_to": ["a@example.com"] * 1001}, "/reply_to"),
        ({"subject": "a\r\nBcc: eve@example.com"}, "/subject"),
        ({"subject": "=?utf-8?q?a=0D=0AX:_y?="}, "/subject"),
        ({"subject": "a" * 999}, "/subject"),
        ({"text": ""}, "/text"),
        ({"text": "\ud800"}, "/text"),
        ({"html": "\udfff"}, "/html"),
        ({"headers": {"X-A": "a\nb"}}, "/headers/X-A"),
        ({"headers": {"From": "a@b"}}, "/headers/From"),
        ({"headers": [("X-A", "1"), ("x-a", "2")]}, "/headers"),
        ({"headers": {f"X-{n}": "a " * 400 for n in range(100)}}, "/headers"),
        ({"attachments": [Attachment("a\nb", "text/plain", b"")]}, "/attachments/0/name"),
        ({"attachments": [Attachment("a" * 256, "text/plain", b"")]}, "/attachments/0/name"),
        ({"attachments": [Attachment("a", "text", b"")]}, "/attachments/0/content_type"),
        ({"attachments": [Attachment("a", "text/plain\r\nX: y", b"")]}, "/attachments/0/content_type"),
        ({"attachments": [Attachment("a", "text/plain; x=ü", b"")]}, "/attachments/0/content_type"),
        ({"attachments": [Attachment("a", "multipart/mixed", b"")]}, "/attachments/0/content_type"),
        ({"attachments": [Attachment("a", "image/png", b"", "a>b")]}, "/attachments/0/content_id"),
        ({"attachments": [Attachment("a", "image/png", b"")] * 101}, "/attachments"),
    ],
)
def test_what_is_wrong_with_a_draft_is_pointed_to(change: dict[str, Any], pointer: str) -> None:
    """A caller learns which field to mend."""
    with pytest.raises(InvalidArgument) as refused:
        make_draft(**(_GOOD | change))

    assert refused.value.pointer == pointer


def test_the_envelope_names_everybody_once() -> None:
    """To, Cc and Bcc, in this order, in A-labels, without repetition."""
    draft = make_draft(
        from_="App <app@exämple.com>",
        to=["Ann <ann@example.com>", "bob@bücher.example"],
        cc=["ann@EXAMPLE.com"],
        bcc=["eve@example.com"],
        text="hello",
    )

    assert draft.envelope == Envelope(
        "app@xn--exmple-cua.com", ("ann@example.com", "bob@xn--bcher-kva.example", "eve@example.com"), smtputf8=False
    )


def test_a_local_part_in_utf8_makes_the_envelope_smtputf8() -> None:
    """Wherever it occurs, since it will be in a header field."""
    assert make_draft(**(_GOOD | {"reply_to": ["jürgen@example.com"]})).envelope.smtputf8


def test_a_subject_of_encoded_words_is_understood() -> None:
    """What is shown in lists is what the recipient sees."""
    assert make_draft(**(_GOOD | {"subject": "=?utf-8?q?Gr=C3=BC=C3=9Fe?="})).subject == "Grüße"


def test_a_limit_of_recipients_counts_all_lists() -> None:
    """And may be set by the caller."""
    with pytest.raises(InvalidArgument):
        make_draft(**_GOOD, cc=["b@example.com"], bcc=["c@example.com"], max_recipients=2)


@pytest.mark.parametrize(
    ("change", "is_small"),
    [
        (dict, True),
        (lambda: {"text": "a" * 70_000}, False),
        (lambda: {"text": "", "html": "a" * 5_000}, False),
        (lambda: {"html": "a" * 5_000}, True),
        (lambda: {"attachments": [Attachment("a", "", b"")]}, False),
    ],
)
def test_a_draft_knows_whether_composing_it_is_quick(change: Callable[[], dict[str, Any]], is_small: bool) -> None:
    """Callers move the others off the event loop."""
    assert make_draft(**(_GOOD | change())).is_small == is_small


def test_an_attachment_gets_its_defaults() -> None:
    """Brackets around a content id are taken off."""
    draft = make_draft(**_GOOD, attachments=[Attachment("a", "", b"x", "<logo@app>")])

    assert draft.attachments == (Attachment("a", "application/octet-stream", b"x", "logo@app"),)
