"""Mail through an HTTP provider, by the built program."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.hook import Hook
from tests.support.program import Program

FIVE = [f"r{n}@example.org" for n in range(5)]


@pytest.fixture
def hook() -> Iterator[Hook]:
    with Hook() as hook:
        yield hook


def add_hook(program: Program, hook: Hook) -> Any:
    """Add and activate an HTTP provider; return the answer to the first call."""
    added = program.request("POST", "/admin/v1/email/http", {"endpoint": hook.url, "description": "hook"}).json
    assert program.request("POST", f"/admin/v1/email/{added['id']}/_activate", {}).status == 200
    return added


def mail(*to: str) -> dict[str, Any]:
    return {"from": "noreply@example.com", "to": to or ["ada@example.org"], "subject": "Hello", "html": "<p>Hi</p>"}


def test_a_mail_arrives_as_a_post_signed_with_the_key_that_the_api_gave(program_on: Program, hook: Hook) -> None:
    added = add_hook(program_on, hook)

    id = program_on.request("POST", "/v1/messages", mail()).json["id"]

    [post] = hook.wait()
    assert post.path == "/mail"
    assert post.is_signed_with(added["signingKey"])
    assert post.json["contextInfo"]["provider"] == {"id": added["id"], "description": "hook"}
    assert (post.recipient, post.json["templateData"]["subject"]) == ("ada@example.org", "Hello")
    assert post.json["templateData"]["html"].startswith("<p>Hi</p>")
    message = program_on.wait_for_state(id, "accepted")
    assert message["attempts"][0]["provider_id"] == added["id"]


def test_a_receiver_that_does_not_know_the_new_key_yet_loses_nothing(program_on: Program, hook: Hook) -> None:
    added = add_hook(program_on, hook)
    change = {"endpoint": hook.url, "description": "hook", "expirationSigningKey": "0s"}
    changed = program_on.request("PUT", f"/admin/v1/email/http/{added['id']}", change).json

    program_on.request("POST", "/v1/messages", mail())

    [post] = hook.wait()
    keys = added["signingKey"], changed["signingKey"]
    assert keys[0] != keys[1]
    assert [post.is_signed_with(key) for key in (*keys, "another")] == [True, True, False]


def test_one_bad_recipient_of_five_stops_no_other(program_on: Program, hook: Hook) -> None:
    add_hook(program_on, hook)
    hook.answer = lambda post: (422 if post.recipient == FIVE[2] else 200, {})

    id = program_on.request("POST", "/v1/messages", mail(*FIVE)).json["id"]

    assert [post.recipient for post in hook.wait(4)] == [FIVE[0], FIVE[1], FIVE[3], FIVE[4]]
    message = program_on.wait_for_state(id, "bounced")
    assert [one["state"] for one in message["recipients"]] == ["accepted"] * 2 + ["bounced"] + ["accepted"] * 2
