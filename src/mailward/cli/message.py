"""`mailward message`: one message of a running gateway, told as a story, and what may be done with it."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import click

from mailward.cli import common
from mailward.cli.remote import Remote, remote_options


@click.group()
def command() -> None:
    """Follow one message of a running gateway, and change its course."""


@command.command()
@click.argument("id")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@remote_options
def show(remote: Remote, id: str, as_json: bool) -> None:
    """Tell what happened to message ID, and what happens next. Exits 3 when there is none."""
    message = remote.call("GET", f"/v1/messages/{quote(id, safe='')}")
    if as_json:
        common.print_json(message)
    else:
        click.echo("\n".join(story(message)))


def story(message: Mapping[str, Any]) -> list[str]:
    """Return a message as lines for people: what it is, its timeline, what happens next."""
    lines = [
        f"{message['id']}  {message['state']}  {message.get('subject', '')}".rstrip(),
        f"  from {message.get('from') or '<>'}, {message.get('size_bytes', 0)} bytes, lane {message.get('lane', '?')}",
    ]
    if message.get("replay_of"):
        lines.append(f"  sends {message['replay_of']} again")
    if message.get("tags"):
        lines.append(f"  tags {', '.join(message['tags'])}")
    lines += ["", f"  {_time(message['created_at'])}  accepted from the sender"]
    for attempt in message.get("attempts", []):
        lines += _attempt(attempt)
    lines.append("")
    for one in message["recipients"]:
        lines.append(f"  {one['address']}: {'held' if one.get('held') else one['state']}")
    lines += ["", f"Next: {what_next(message)}"]
    return lines


def _attempt(attempt: Mapping[str, Any]) -> list[str]:
    lines = [f"  {_time(attempt['started_at'])}  attempt through provider {attempt['provider_id']}"]
    if not attempt.get("outcome"):
        return [*lines, " " * 24 + "under way, or its end was not recorded"]
    for one in attempt.get("recipients", []):
        reply = one.get("reply", {})
        words = " ".join(str(reply[name]) for name in ("code", "enhanced", "text") if reply.get(name))
        where = f" at {one['stage']}" if one.get("stage") and one["outcome"] != "accepted" else ""
        lines.append(f"{' ' * 24}{one['address']}: {one['outcome']}{where}: {words}")
    return lines


def what_next(message: Mapping[str, Any]) -> str:
    """Return in one sentence what will happen to `message`."""
    recipients = message["recipients"]
    if any(one.get("held") for one in recipients):
        return (
            "an operator decides: nobody knows whether the provider took it "
            f"(mailward message resolve {message['id']} --as accepted|retry|cancel)."
        )
    due = sorted(one["next_attempt_at"] for one in recipients if one.get("next_attempt_at"))
    if any(one["state"] == "sending" for one in recipients):
        return "it is being handed over, or is the next to be."
    if due and message.get("waiting_for"):
        return f"it waits for {message['waiting_for']}; it expires at {_time(message['expires_at'])}."
    if due:
        return f"the next attempt is due at {_time(due[0])}; it expires at {_time(message['expires_at'])}."
    if all(one["state"] in ("accepted", "delivered") for one in recipients):
        return "nothing; the provider took it for everybody."
    return f"nothing by itself; it can be sent again (mailward message replay {message['id']})."


def _time(text: str) -> str:
    """Return "2026-11-25T09:30:00.123Z" as "2026-11-25 09:30:00Z"."""
    return text[:19].replace("T", " ") + "Z"


def _act(remote: Remote, id: str, verb: str, body: dict[str, Any], *, as_json: bool) -> None:
    message = remote.call("POST", f"/v1/messages/{quote(id, safe='')}/{verb}", body)
    if as_json:
        common.print_json(message)
    elif verb == "replay":
        click.echo(message["id"])
    else:
        click.echo(f"{message['id']}  {message['state']}\nNext: {what_next(message)}")


_RECIPIENT = click.option("--recipient", metavar="ADDRESS", default="", help="Only this one. [default: all]")
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_YES = click.option("--yes", is_flag=True, help="Do not ask.")


@command.command()
@click.argument("id")
@_RECIPIENT
@_JSON
@_YES
@remote_options
def cancel(remote: Remote, id: str, recipient: str, as_json: bool, yes: bool) -> None:
    """Stop message ID before it is handed over. Exits 5 when that is too late."""
    if not yes:
        click.confirm(f"cancel {id}?", abort=True, err=True)
    _act(remote, id, "cancel", {"recipient": recipient}, as_json=as_json)


@command.command()
@click.argument("id")
@_RECIPIENT
@_JSON
@remote_options
def retry(remote: Remote, id: str, recipient: str, as_json: bool) -> None:
    """Make the next attempt of message ID due now. Exits 5 when it does not wait."""
    _act(remote, id, "retry", {"recipient": recipient}, as_json=as_json)


@command.command()
@click.argument("id")
@click.option("--recipient", "recipients", metavar="ADDRESS", multiple=True, help="Only these. [default: all]")
@_JSON
@_YES
@remote_options
def replay(remote: Remote, id: str, recipients: tuple[str, ...], as_json: bool, yes: bool) -> None:
    """Send message ID again as a new message with the same content; print the new id."""
    if not yes:
        click.confirm(f"send {id} again?", abort=True, err=True)
    _act(remote, id, "replay", {"recipients": list(recipients)}, as_json=as_json)


@command.command()
@click.argument("id")
@click.option(
    "--as", "decision", type=click.Choice(["accepted", "retry", "cancel"]), required=True, help="What became."
)
@_RECIPIENT
@_JSON
@remote_options
def resolve(remote: Remote, id: str, decision: str, recipient: str, as_json: bool) -> None:
    """Say what became of message ID, of which nobody knows whether the provider took it.

    accepted: it did. retry: try again now, perhaps with a copy too many. cancel: leave it at that.
    """
    _act(remote, id, "resolve", {"decision": decision, "recipient": recipient}, as_json=as_json)
