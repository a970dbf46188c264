"""The log: one JSON object a line, one function per event, so that each has one spelling in the log and in the metrics.

Lines gather in memory and are written together, at most 0.1 s later while an event loop runs; a line costs about a
microsecond. Secrets and whole addresses never get here: callers pass what `masked` leaves of an address.
"""

import asyncio
import logging
import os
import sys
import time
from datetime import UTC, datetime
from typing import Any, Literal

import orjson

from mailward import metrics

Level = Literal["debug", "info", "warning", "error"]
_RANK: dict[str, int] = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_FLUSH_AFTER_S = 0.1
_FLUSH_AT_LINES = 256


class _Sink:
    """Where lines go. One for the process, set up by `configure`."""

    def __init__(self) -> None:
        self.rank = _RANK["warning"]
        self.console = False
        self.fd = 2
        self.lines: list[bytes] = []
        self.timer: asyncio.TimerHandle | None = None

    def add(self, line: bytes) -> None:
        self.lines.append(line)
        if len(self.lines) >= _FLUSH_AT_LINES:
            self.flush()
        elif self.timer is None:
            try:
                self.timer = asyncio.get_running_loop().call_later(_FLUSH_AFTER_S, self.flush)
            except RuntimeError:  # no loop in this thread: a command, or a writer thread
                self.flush()

    def flush(self) -> None:
        self.timer = None
        lines, self.lines = self.lines, []
        data = b"".join(lines)
        while data:
            try:
                data = data[os.write(self.fd, data) :]
            except BlockingIOError:
                time.sleep(0.001)  # the reader of the pipe is slow; log lines may slow us, they are not lost
            except OSError:
                return  # nobody reads the log any more; mail goes on


_sink = _Sink()


def configure(level: Level, *, console: bool, fd: int = 2) -> None:
    """Write lines of `level` and above to `fd`; `console` chooses plain text for people instead of JSON."""
    _sink.rank, _sink.console, _sink.fd = _RANK[level], console, fd
    # At debug level libraries show what passes through them: hpack prints every Authorization field.
    logging.basicConfig(handlers=[_Bridge()], level=max(_sink.rank, logging.INFO), force=True)


def flush() -> None:
    """Write what has gathered. Call it before the process ends."""
    _sink.flush()


def masked(address: str) -> str:
    """Return what a log may show of an address: "a…@example.com"."""
    local, at, domain = address.rpartition("@")
    return f"{local[:1]}…{at}{domain}"


def write(level: Level, event: str, **fields: Any) -> None:
    """Write one line. Mail events have functions of their own below."""
    if _RANK[level] < _sink.rank:
        return
    at = datetime.now(UTC)
    if _sink.console:
        words = " ".join(f"{key}={value}" for key, value in fields.items() if value is not None)
        _sink.add(f"{at:%H:%M:%S} {level:7} {event:22} {words}\n".encode(errors="replace"))
    else:
        _sink.add(
            orjson.dumps({"ts": at, "level": level, "event": event, **fields}, _lenient, orjson.OPT_APPEND_NEWLINE)
        )


def _lenient(value: object) -> str:
    return str(value)


class _Bridge(logging.Handler):
    """Brings what libraries log through the standard module into the same stream."""

    def emit(self, record: logging.LogRecord) -> None:
        level: Level = "error" if record.levelno >= 40 else "warning" if record.levelno >= 30 else "info"
        fields: dict[str, Any] = {"logger": record.name, "msg": record.getMessage()}
        if record.exc_info and record.exc_info[0]:
            fields["exception"] = logging.Formatter().formatException(record.exc_info)
        write(level, "library", **fields)


# -- mail events ------------------------------------------------------------------------------------------------------


def message_accepted(
    message_id: int, *, ingress: str, lane: str, recipients: int, size_bytes: int, sender: str, seconds: float
) -> None:
    """A message is on disk and about to be acknowledged. `seconds`: from its last byte to the commit."""
    metrics.messages_accepted.labels(ingress, lane).inc()
    metrics.accept_duration_seconds.labels(ingress).observe(seconds)
    if _sink.rank <= 20:
        write(
            "info", "message.accepted", message_id=message_id, ingress=ingress, lane=lane, recipients=recipients,
            size_bytes=size_bytes, sender=sender,
        )  # fmt: skip


def message_refused(*, ingress: str, reason: str, detail: str = "") -> None:
    """A door refused a message. `reason`: a stable word, e.g. "size" or "syntax"."""
    metrics.messages_refused.labels(ingress, reason).inc()
    write("info", "message.refused", ingress=ingress, reason=reason, detail=detail)


def recipient_attempted(
    message_id: int,
    recipient: str,
    *,
    provider_id: str,
    state: str,
    outcome: str,
    stage: str,
    code: int,
    enhanced: str,
    attempt: int,
    lane: str,
    final: bool,
    age_s: float,
) -> None:
    """One recipient's attempt ended. `state`: what it is now; `outcome`: what the provider made of it."""
    metrics.attempts.labels(provider_id, outcome, stage).inc()
    if final:
        metrics.recipients_finished.labels(lane, state).inc()
    if outcome == "accepted":
        metrics.time_to_sent_seconds.labels(lane).observe(age_s)
    if _sink.rank <= 20:
        write(
            "info" if outcome == "accepted" else "warning", f"message.{state}", message_id=message_id,
            recipient=masked(recipient), provider_id=provider_id, stage=stage, code=code, enhanced=enhanced,
            attempt=attempt, age_s=round(age_s, 3),
        )  # fmt: skip


def message_expired(message_id: int, recipient: str, *, lane: str) -> None:
    """A recipient's lifetime ended without success."""
    metrics.recipients_finished.labels(lane, "expired").inc()
    write("warning", "message.expired", message_id=message_id, recipient=masked(recipient))


def recipients_held(count: int) -> None:
    """There are more recipients than before of whom nobody knows whether the provider took them: decide."""
    write("error", "recipients.held", count=count, see="GET /v1/messages?state=uncertain")


def queue_changed(action: str, *, editor: str, count: int, message_id: int | None = None) -> None:
    """An operator did `action` to `count` recipients."""
    metrics.queue_changes.labels(action).inc(count)
    write("info", "queue.changed", action=action, editor=editor, count=count, message_id=message_id)


def provider_changed(provider_id: str, command: str, *, editor: str) -> None:
    """An operator did `command`, e.g. "Activate", to a provider; `provider_id` "": to their order."""
    write("info", "provider.changed", provider_id=provider_id, change=command, editor=editor)


def provider_failed(provider_id: str, *, stage: str, code: str, text: str) -> None:
    """A conversation with a provider failed through its own fault (connection, TLS, login)."""
    metrics.provider_up.labels(provider_id).set(0)
    write("warning", "provider.failed", provider_id=provider_id, stage=stage, code=code, text=text)


def provider_probed(provider_id: str, *, again: bool) -> None:
    """A login without mail worked. `again`: the one before it had failed."""
    metrics.provider_up.labels(provider_id).set(1)
    if again:
        write("info", "provider.works", provider_id=provider_id)


def old_password_used(provider_id: str) -> None:
    """Note that a provider refuses its new password and takes the one before, which serves only for a while."""
    write("warning", "provider.old_password_used", provider_id=provider_id)


def mail_hastened(recipients: int) -> None:
    """A provider was changed, so what its trouble had deferred need not wait for its schedule."""
    write("info", "queue.hastened", recipients=recipients)


def token_fetched(provider_id: str, *, expires_at: float) -> None:
    """A token endpoint issued a token. `expires_at`: Unix seconds."""
    metrics.oauth_token_expiry.labels(provider_id).set(expires_at)
    metrics.oauth_token_fetches.labels(provider_id, "issued").inc()
    write("info", "token.fetched", provider_id=provider_id, expires=datetime.fromtimestamp(int(expires_at), UTC))


def token_failed(provider_id: str, *, code: str, text: str, advice: tuple[str, str] | None) -> None:
    """A token endpoint issued none. `advice`: likely cause and what to do."""
    metrics.oauth_token_fetches.labels(provider_id, "failed").inc()
    cause, fix = advice or (None, None)
    write("warning", "token.failed", provider_id=provider_id, code=code, text=text, cause=cause, fix=fix)


def refresh_token_unsaved(provider_id: str, *, reason: str) -> None:
    """A new refresh token could not be stored yet; were this process to end now, it would be lost. It tries again."""
    write("error", "refresh_token.unsaved", provider_id=provider_id, reason=reason)


def connection_refused(*, door: str) -> None:
    """A connection too many is told 421 or 503. Not logged: a flood would fill the disk."""
    metrics.connections_refused.labels(door).inc()


def connections_limited(most: int, *, files: int) -> None:
    """The limit on open files allows fewer connections on each port than `max_connections`."""
    write("warning", "server.connections_limited", most=most, open_files=files)


def authentication_failed(*, door: str, peer: str, reason: str) -> None:
    """Credentials were refused. `door`: "http", "grpc" or "smtp"."""
    metrics.authentications_failed.labels(door).inc()
    write("warning", "authentication.failed", door=door, peer=peer, reason=reason)


def sign_in_limited(*, door: str) -> None:
    """Credentials were refused because too many from there had been wrong. Not logged: that is what a flood is."""
    metrics.authentications_limited.labels(door).inc()


def address_limited(network: str, *, door: str) -> None:
    """Too many sign-ins from `network` failed: for a while only who is known to be right is let in from there."""
    write("warning", "authentication.limited", network=network, door=door)


def account_limited(account: str, *, door: str) -> None:
    """Too many sign-ins for `account` failed, from wherever: only from where it was right before it is let in now."""
    write("warning", "authentication.account_limited", account=account, door=door)


def node_buried(node: int, epoch: int, *, queued: int, uncertain: int) -> None:
    """Another node stood still for too long: its life is over, and what it held is recovered."""
    metrics.nodes_buried.inc()
    write("warning", "node.buried", node=node, epoch=epoch, queued=queued, uncertain=uncertain)


def node_lost(node: int, epoch: int) -> None:
    """The store refused a write of this node's life: another node has taken over what it held."""
    write("error", "node.lost", node=node, epoch=epoch)


def node_reborn(former_node: int, former_epoch: int, node: int, epoch: int) -> None:
    """This node was thought dead and begins another life."""
    metrics.node_rebirths.inc()
    write("warning", "node.reborn", former_node=former_node, former_epoch=former_epoch, node=node, epoch=epoch)


def stderr_is_terminal() -> bool:
    """Whether people, not a collector, read the log."""
    return sys.stderr.isatty()
