"""How an attempt ends: outcomes per recipient in, the record of them and the recipients' next states out."""

from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import replace

import orjson

from mailward.delivery.lease import CloseAttempt, Due, Ended, Lease, Mark
from mailward.delivery.retry import RetryPolicy, judge
from mailward.delivery.status import Status, status_after
from mailward.smtp.reply import Reply
from mailward.transport.outcome import Fault, Outcome, Stage, Uncertain

#: One element of attempts.results: n, state, stage, fault, reply code, enhanced code, text.
Result = tuple[int, str, str, str, int, str, str]


def result(n: int, status: Status, stage: Stage, fault: str, reply: Reply) -> Result:
    """Return one element of attempts.results; `status` is what the attempt alone says, not what policy made of it."""
    return (n, str(status), str(stage), fault, reply.code, reply.enhanced, reply.text)


def encode(results: Sequence[Result], route: str = "") -> str:
    """Return attempts.results for `results`. `route`: why another than the active provider was asked, or ""."""
    return orjson.dumps([*results, {"route": route}] if route else results).decode()


def deferred_by_provider(results: str) -> Iterator[int]:
    """Yield the n of those whom the provider's fault has deferred. `results`: what `encode` has made."""
    for one in orjson.loads(results):
        if isinstance(one, list) and one[1] == Status.DEFERRED and one[3] == Fault.PROVIDER:
            yield one[0]


def fault_of(outcome: Outcome) -> str:
    """Return whose fault it was that a recipient was not accepted, "" when nobody's."""
    return "" if outcome.fault is None else str(outcome.fault)


def conclude(
    lease: Lease,
    mark: Mark,
    outcomes: Sequence[Outcome],
    policy: RetryPolicy,
    now_us: int,
    jitter: Callable[[], float],
    *,
    uncertain_retries: int | None = None,
    moved: Container[Due] = (),
    is_outdated: bool = False,
) -> CloseAttempt:
    """Return what to record of `lease` after `outcomes`, one for each of its recipients.

    `uncertain_retries`: the provider's, for a message that has none of its own. `moved`: those that go on to another
    provider; the attempt is recorded, and their state stays as it is. `is_outdated`: the provider was changed
    meanwhile, so what its fault has deferred is due at once.
    """
    results: list[Result] = []
    ended: list[Ended] = []
    wait = jitter()  # One for all: recipients deferred together are tried together.
    for due, outcome in zip(lease.due, outcomes, strict=True):
        results.append(result(due.n, status_after(outcome), outcome.stage, fault_of(outcome), outcome.reply))
        if due in moved:
            continue
        verdict = judge(
            outcome,
            replace(policy, schedule_s=(0,)) if is_outdated and outcome.fault is Fault.PROVIDER else policy,
            attempt=due.attempts + 1,
            doubts=due.doubts,
            uncertain_retries=uncertain_retries if lease.uncertain_retries is None else lease.uncertain_retries,
            now_us=now_us,
            expires_at_us=lease.expires_at_us,
            jitter=wait,
        )
        doubt = 1 if isinstance(outcome, Uncertain) else 0
        ended.append((due.n, str(verdict.status), verdict.next_attempt_at_us, doubt))
    return CloseAttempt(lease.message_id, *mark, *lease.owner, now_us, encode(results, lease.route), tuple(ended))
