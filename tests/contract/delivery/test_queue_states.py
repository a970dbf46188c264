"""Whatever nodes and operators do to the queue, and whenever a life ends: nothing is lost, nothing is sent twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from mailward.db.connect import connector
from mailward.db.transaction import Connection, Row, Transaction
from mailward.db.writer import Batch, Failed, Write, perform
from mailward.delivery import nodes, operators, queue
from mailward.delivery.lease import CloseAttempt, GivenBack, Mark, OpenAttempt, Owner
from mailward.delivery.operators import Act, Treatment
from mailward.delivery.queue import ClaimRequest, LeaseLost
from mailward.delivery.retry import RetryPolicy
from mailward.errors import Conflict
from mailward.ids import InstanceId, MessageId, UserId
from tests.support.queued import HOUR, NOW, SECOND, mark, new_message

NODES = ("a", "b")
POLICY = RetryPolicy(uncertain_retries=0)
#: What the provider does with an envelope: whether it has the mail then, and what the node learns.
FATES = {"accepted": (True, "accepted"), "silent": (True, "uncertain"), "cut": (False, "uncertain")}
FATES |= {"busy": (False, "deferred"), "refused": (False, "bounced")}

_STATES = "SELECT n, state FROM recipients WHERE message_id = :id"


def states(tx: Transaction, id: MessageId) -> list[Row]:
    return tx.fetch(_STATES, id=id)


@dataclass(eq=False)
class Held:
    """A lease in the memory of a node, which may have died since."""

    message_id: MessageId
    owner: Owner
    ns: tuple[int, ...]
    mark: Mark | None = None  #: of the attempt that is open
    fate: str = ""


class Queue(RuleBasedStateMachine):
    """Two nodes and an operator; the provider counts what it has got."""

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self.connection = connection
        self.now_us = NOW
        self.copies: Counter[tuple[MessageId, int]] = Counter()
        self.messages: dict[MessageId, int] = {}  #: how many recipients each has
        self.held: list[Held] = []
        self.owners = {name: self._live(name) for name in NODES}

    def _write(self, function: Callable[..., Any], *args: Any) -> Any:
        return _result(perform(self.connection, [Write(function, args)])[0])

    def _batch(self, function: Callable[..., list[Any]], item: Any) -> Any:
        return _result(perform(self.connection, [Batch(function, [item])])[0][0])

    def _live(self, name: str) -> Owner:
        owner: Owner = self._write(nodes.register, name, self.now_us)
        self._write(queue.recover, owner, POLICY, self.now_us)
        return owner

    def _hand_over(self, held: Held, attempt: Mark, fate: str) -> None:
        held.mark, held.fate = attempt, fate
        self.copies.update((held.message_id, n) for n in held.ns if FATES[fate][0])

    @rule(count=st.integers(1, 3), name=st.sampled_from((None, *NODES)), fate=st.sampled_from(("", *FATES)))
    def submit(self, count: int, name: str | None, fate: str) -> None:
        """To the queue, to a node, or with the attempt that is about to begin."""
        owner = self.owners[name] if name else None
        attempt = mark() if owner and fate else None
        addresses = [f"r{n}@example.net" for n in range(count)]
        message = new_message(*addresses, owner=owner, mark=attempt, created_at_us=self.now_us, uncertain_retries=0)
        leased = self._batch(queue.submit, message)
        assert leased is (owner is not None)
        self.messages[message.id] = count
        if owner is not None:
            self.held.append(held := Held(message.id, owner, tuple(range(count))))
            if attempt is not None:
                self._hand_over(held, attempt, fate)

    @rule(name=st.sampled_from(NODES), most=st.integers(1, 5))
    def claim(self, name: str, most: int) -> None:
        """Nobody gets what a living node holds."""
        owner = self.owners[name]
        claimed = self._write(
            queue.claim, ClaimRequest(owner=owner, now_us=self.now_us, messages=most, content_bytes=1 << 20)
        )
        living = {(held.message_id, n) for held in self.held if held.owner in self.owners.values() for n in held.ns}
        for lease, _ in claimed.leases():
            held = Held(lease.message_id, owner, tuple(due.n for due in lease.due))
            assert not living & {(held.message_id, n) for n in held.ns}
            self.held.append(held)

    @precondition(lambda self: any(not held.mark for held in self.held))
    @rule(data=st.data(), fate=st.sampled_from(tuple(FATES)))
    def open(self, data: st.DataObject, fate: str) -> None:
        """Only a living node may hand over, and only what nobody canceled."""
        held = data.draw(st.sampled_from([held for held in self.held if not held.mark]))
        attempt = mark()
        opening = OpenAttempt(held.message_id, *attempt, *held.owner, held.ns, self.now_us)
        opened = self._batch(queue.open_attempts, opening)
        if opened:
            assert held.owner in self.owners.values()
            self._hand_over(held, attempt, fate)
            return
        self.held.remove(held)
        if opened is None:
            self._write(queue.give_back, [GivenBack(held.message_id, held.owner, held.ns, None, self.now_us)])

    @precondition(lambda self: any(held.mark for held in self.held))
    @rule(data=st.data())
    def close(self, data: st.DataObject) -> None:
        """What a former life learned is not written."""
        held = data.draw(st.sampled_from([held for held in self.held if held.mark]))
        assert held.mark is not None
        self.held.remove(held)
        _, state = FATES[held.fate]
        at_us = self.now_us + 60 * SECOND if state == "deferred" else None
        ended = tuple((n, state, at_us, int(state == "uncertain")) for n in held.ns)
        attempt = CloseAttempt(held.message_id, *held.mark, *held.owner, self.now_us, "[]", ended)
        assert self._batch(queue.close_attempts, attempt) is (held.owner in self.owners.values())

    @precondition(lambda self: any(not held.mark for held in self.held))
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        held = data.draw(st.sampled_from([held for held in self.held if not held.mark]))
        self.held.remove(held)
        self._write(queue.give_back, [GivenBack(held.message_id, held.owner, held.ns, None, self.now_us)])

    @rule(name=st.sampled_from(NODES))
    def die(self, name: str) -> None:
        """The next life begins; what the last one had in memory may still try to go on."""
        before = self.owners[name]
        self.owners[name] = self._live(name)
        request = ClaimRequest(owner=before, now_us=self.now_us, messages=1, content_bytes=1)
        try:
            self._write(queue.claim, request)
        except LeaseLost:
            return
        raise AssertionError("a former life has claimed")

    @precondition(lambda self: self.messages)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        id = data.draw(st.sampled_from(list(self.messages)))
        act = Act(instance=InstanceId("100000000000000001"), editor=UserId("1"), at_us=self.now_us)
        try:
            self._write(operators.treat_message, act, Treatment.CANCEL, id)
        except Conflict:
            pass

    @rule()
    def wait(self) -> None:
        self.now_us += 61 * SECOND

    def teardown(self) -> None:
        """Let both lives end and all drain: then every recipient's state tells the truth."""
        self.now_us += HOUR
        self.owners = {name: self._live(name) for name in NODES}
        self.held.clear()
        while True:
            self.claim("a", 1_000)
            if not self.held:
                break
            for held in [*self.held]:
                attempt = mark()
                opening = OpenAttempt(held.message_id, *attempt, *held.owner, held.ns, self.now_us)
                assert self._batch(queue.open_attempts, opening) is True
                self._hand_over(held, attempt, "accepted")
                ended = tuple((n, "accepted", None, 0) for n in held.ns)
                closing = CloseAttempt(held.message_id, *attempt, *held.owner, self.now_us, "[]", ended)
                assert self._batch(queue.close_attempts, closing) is True
                self.held.remove(held)
        for id, count in self.messages.items():
            found = dict(self._write(states, id))
            assert found.keys() == set(range(count))
            for n, state in found.items():
                assert self.copies[id, n] in {"accepted": (1,), "uncertain": (0, 1)}.get(state, (0,)), (state, n)
                assert state in ("accepted", "uncertain", "bounced", "canceled")


def _result(result: Any) -> Any:
    if isinstance(result, Failed):
        raise result.error
    return result


def test_no_order_of_events_loses_mail_or_doubles_it(database_url: str) -> None:
    with closing(connector(database_url)(read_only=False)) as connection:
        machine: Any = partial(Queue, connection)
        run_state_machine_as_test(machine, settings=settings(max_examples=30, stateful_step_count=30, deadline=None))
