"""What the log and the metrics are told about attempts."""

from collections.abc import Iterable, Sequence

from mailward import log, metrics
from mailward.delivery.lease import LANE_NAMES, CloseAttempt, Lease
from mailward.delivery.queue import Expiry
from mailward.delivery.status import Status, is_final, status_after
from mailward.transport.outcome import Accepted, Fault, Outcome, Uncertain

_MOVED = "moved"  #: stands for the state of a recipient that goes to another provider
_FINAL = frozenset(str(status) for status in Status if is_final(status))


def report(lease: Lease, outcomes: Sequence[Outcome], close: CloseAttempt, started_us: int) -> bool:
    """Log and count an attempt; return whether the provider did its part."""
    provider_id = close.provider_id
    lane = LANE_NAMES[lease.lane]
    age_s = (close.at_us - lease.created_at_us) / 1e6
    well = True
    states = [state for _, state, _, _ in close.ended]
    if len(states) < len(outcomes):
        by_n = {n: state for n, state, _, _ in close.ended}
        states = [by_n.get(due.n, _MOVED) for due in lease.due]
    rows = zip(lease.envelope.recipients, lease.due, outcomes, states, strict=True)
    for address, due, outcome, state in rows:
        log.recipient_attempted(
            lease.message_id,
            address,
            provider_id=provider_id,
            state=state,
            outcome=str(status_after(outcome)),
            stage=str(outcome.stage),
            code=outcome.reply.code,
            enhanced=outcome.reply.enhanced,
            attempt=due.attempts + 1,
            lane=lane,
            final=state in _FINAL,
            age_s=age_s,
        )
        if outcome.fault is Fault.PROVIDER and well:
            well = False
            reply = outcome.reply
            log.provider_failed(
                provider_id, stage=str(outcome.stage), code=f"{reply.code} {reply.enhanced}", text=reply.text
            )
        elif isinstance(outcome, Uncertain):
            well = False
    metrics.attempt_duration_seconds.labels(provider_id).observe((close.at_us - started_us) / 1e6)
    if well:
        metrics.provider_up.labels(provider_id).set(1)
    if any(isinstance(outcome, Accepted) for outcome in outcomes):
        metrics.provider_last_success.labels(provider_id).set(close.at_us / 1e6)
    return well


def report_expired(expired: Iterable[Expiry]) -> None:
    """Log and count those whose lifetime has passed; not those that are held in doubt."""
    for expiry in expired:
        if expiry.status is Status.EXPIRED:
            log.message_expired(expiry.message_id, expiry.address, lane=LANE_NAMES[expiry.lane])
