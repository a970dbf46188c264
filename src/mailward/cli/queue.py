"""`mailward queue`: look into the queue of a running gateway, and change its course for many messages at once."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import urlencode

import click

from mailward.cli import common
from mailward.cli.remote import Remote, remote_options

F = TypeVar("F", bound=Callable[..., Any])

_COLUMNS = ("id", "state", "lane", "from", "to", "next_attempt", "subject")
_LIST_STATES = "queued, sending, deferred, uncertain, accepted, delivered, bounced, expired, suppressed or canceled"


@click.group()
def command() -> None:
    """Look into the queue of a running gateway, and change its course."""


@command.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@remote_options
def stats(remote: Remote, as_json: bool) -> None:
    """Show how much waits, by lane and state."""
    queue = remote.call("GET", "/v1/queue")
    if as_json:
        common.print_json(queue)
        return
    rows = [
        {
            "lane": lane["lane"],
            **{state: lane.get("recipients", {}).get(state, "0") for state in _WAITING},
            "oldest": lane.get("oldest_at"),
        }
        for lane in queue["lanes"]
    ]
    common.print_table(rows, ("lane", *_WAITING, "oldest"))
    if int(queue.get("held", 0)):
        click.echo(f"\n{queue['held']} held: nobody knows whether the provider took them. See them with")
        click.echo("  mailward queue list --state uncertain")


_WAITING = ("queued", "sending", "deferred", "uncertain")


@command.command(name="list")
@click.option("--state", metavar="STATE", help=f"Only messages with a recipient that is {_LIST_STATES}.")
@click.option("--recipient", metavar="ADDRESS", help="Only messages to this address.")
@click.option("--tag", help="Only messages with this tag.")
@click.option("--created-after", metavar="TIME", help="Accepted at this moment or later (RFC 3339).")
@click.option("--created-before", metavar="TIME", help="Accepted before this moment (RFC 3339).")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="Most messages to show.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@remote_options
def list_(remote: Remote, limit: int, as_json: bool, **filters: str | None) -> None:
    """List messages, newest first."""
    query = {name: value for name, value in filters.items() if value}
    messages: list[dict[str, Any]] = []
    token = ""
    while len(messages) < limit:
        asked = query | {"page_size": str(min(200, limit - len(messages)))} | ({"page_token": token} if token else {})
        page = remote.call("GET", f"/v1/messages?{urlencode(asked)}")
        messages += page.get("messages", [])
        token = page.get("next_page_token", "")
        if not token:
            break
    if as_json:
        common.print_json(messages)
    else:
        common.print_table([_row(message) for message in messages], _COLUMNS)


def _row(message: Mapping[str, Any]) -> dict[str, Any]:
    recipients = message["recipients"]
    more = f" +{len(recipients) - 1}" if len(recipients) > 1 else ""
    due = sorted(one["next_attempt_at"] for one in recipients if one.get("next_attempt_at"))
    return {
        "id": message["id"],
        "state": "held" if any(one.get("held") for one in recipients) else message["state"],
        "lane": message.get("lane"),
        "from": message.get("from") or "<>",
        "to": recipients[0]["address"] + more,
        "next_attempt": due[0] if due else None,
        "subject": message.get("subject"),
    }


def _filtered(command: F) -> F:
    """Add the options of a filter, and --dry-run, --yes and --json."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print JSON."),
        click.option("--yes", is_flag=True, help="Do not ask."),
        click.option("--dry-run", is_flag=True, help="Only count."),
        click.option("--all", "everything", is_flag=True, help="Everything, when nothing else is chosen."),
        click.option("--created-before", metavar="TIME", help="Accepted before this moment (RFC 3339)."),
        click.option("--created-after", metavar="TIME", help="Accepted at this moment or later (RFC 3339)."),
        click.option("--lane", type=click.Choice(["otp", "transactional", "bulk"]), help="In this lane."),
        click.option("--provider", "provider_id", metavar="ID", help="Tried through this provider."),
        click.option("--domain", help="Recipients in this domain."),
        click.option("--tag", help="Of messages with this tag."),
        click.option("--state", metavar="STATE", help="Recipients in this state."),
    ):
        command = option(command)
    return command


def _act(
    remote: Remote,
    path: str,
    words: tuple[str, str],
    *,
    everything: bool,
    dry_run: bool,
    yes: bool,
    as_json: bool,
    more: Mapping[str, Any] | None = None,
    **filters: str | None,
) -> None:
    """Count, ask, do. `words`: what to do and what was done, e.g. ("cancel", "canceled")."""
    filter: dict[str, Any] = {name: value for name, value in filters.items() if value}
    if not filter:
        if not everything:
            common.fail(f"say what to {words[0]}: choose with options, or everything with --all", code=2)
        filter["all"] = True
    body = {"filter": filter, **(more or {})}
    if dry_run or not yes:
        count = int(remote.call("POST", path, body | {"dry_run": True}).get("count", 0))
        if dry_run:
            _tell({"count": count, "dry_run": True}, f"would {words[0]} {count} recipients", as_json=as_json)
            return
        if not count:
            _tell({"count": 0}, "nothing matches", as_json=as_json)
            return
        click.confirm(f"{words[0]} {count} recipients?", abort=True, err=True)
    count = int(remote.call("POST", path, body).get("count", 0))
    _tell({"count": count}, f"{words[1]} {count} recipients", as_json=as_json)


def _tell(value: Any, sentence: str, *, as_json: bool) -> None:
    if as_json:
        common.print_json(value)
    else:
        click.echo(sentence)


@command.command()
@_filtered
@remote_options
def cancel(remote: Remote, **options: Any) -> None:
    """Stop what waits and matches. What is being handed over at this moment goes on."""
    _act(remote, "/v1/queue/cancel", ("cancel", "canceled"), **options)


@command.command()
@_filtered
@remote_options
def retry(remote: Remote, **options: Any) -> None:
    """Make the next attempt of what waits and matches due now."""
    _act(remote, "/v1/queue/retry", ("try now", "due now:"), **options)


@command.command()
@_filtered
@remote_options
def replay(remote: Remote, **options: Any) -> None:
    """Send again what matches; --state must name a final state, e.g. bounced. What was replayed before is left out."""
    _act(remote, "/v1/queue/replay", ("send again to", "sent again to"), **options)


@command.command()
@click.option(
    "--as", "decision", type=click.Choice(["accepted", "retry", "cancel"]), required=True, help="What became."
)
@_filtered
@remote_options
def resolve(remote: Remote, decision: str, **options: Any) -> None:
    """Say what became of recipients of whom nobody knows whether the provider took them.

    accepted: it did. retry: try again now, perhaps with a copy too many. cancel: leave it at that.
    """
    _act(remote, "/v1/queue/resolve", ("resolve", "resolved"), more={"decision": decision}, **options)
