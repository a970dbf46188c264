"""What travels between us and PostgreSQL: statements prepared once, and as many as there are in one round trip.

psycopg connects, converts values and loads rows. Its cursors are left out: a statement costs half of their Python this
way, and more than either costs being put to sleep and woken up by a server that answers one statement at a time.
"""

import contextlib
import itertools
import select
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import psycopg
from psycopg import pq
from psycopg.adapt import PyFormat, Transformer

from mailward.db.transaction import Row

_PREPARED = 500  #: statements that a session keeps
DONE = (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK)


class Statement(NamedTuple):
    """A statement with its values as they travel."""

    sql: str  #: with "%s" parameters
    types: tuple[int, ...]
    values: Sequence[Any]
    formats: Sequence[pq.Format]


#: What makes a statement one of its own: SQL and the types of its values.
_Key = tuple[str, tuple[int, ...]]
_Made = tuple[_Key, bytes] | None

#: A command without values, e.g. b"BEGIN", or a statement.
Step = bytes | Statement


class Wire:
    """One connection's. The thread that uses it may change; two may not use it at once."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._pgconn = connection.pgconn
        self._transformer = Transformer(connection)
        self._prepared: dict[_Key, bytes] = {}
        self._numbers = itertools.count()
        self._readable = select.poll()
        self._readable.register(self._pgconn.socket, select.POLLIN)
        self._either = select.poll()
        self._either.register(self._pgconn.socket, select.POLLIN | select.POLLOUT)

    def statement(self, sql: str, values: Sequence[Any]) -> Statement:
        """Return what can be sent. Raises psycopg.DataError and the like for a value that cannot be stored."""
        dumped = self._transformer.dump_sequence(values, [PyFormat.AUTO] * len(values))
        return Statement(sql, self._transformer.types or (), dumped, self._transformer.formats or ())

    def rows(self, result: pq.abc.PGresult) -> list[Row]:
        """Return the rows of a result, [] when it has none."""
        if result.status != pq.ExecStatus.TUPLES_OK:
            return []
        self._transformer.set_pgresult(result)
        return self._transformer.load_rows(0, result.ntuples, tuple)

    def run(self, steps: Sequence[Step]) -> list[pq.abc.PGresult]:
        """Run `steps` in one round trip, and return their results up to the first failure, which is the last then.

        Raises psycopg.Error when the connection is lost.
        """
        self._forget()
        if len(steps) == 1:
            step = steps[0]
            if isinstance(step, bytes):
                return [self._pgconn.exec_(step)]
            if name := self._prepared.get((step.sql, step.types)):
                return [self._pgconn.exec_prepared(name, step.values, step.formats, pq.Format.BINARY)]
        self._pgconn.enter_pipeline_mode()
        try:
            made = self._send(steps)
            results = [self._result(one) for one in made]
            self._result(None)  # the synchronization
        finally:
            with contextlib.suppress(psycopg.Error):  # A lost connection cannot leave it, and has said so.
                self._pgconn.exit_pipeline_mode()
        asked = [result for result, one in zip(results, made, strict=True) if one is None or result.status not in DONE]
        failed = next((n for n, result in enumerate(asked, 1) if result.status not in DONE), len(asked))
        return asked[:failed]

    def _send(self, steps: Sequence[Step]) -> list[_Made]:
        """Send `steps`, and say of each result that will come whether it is of a statement's preparation."""
        pgconn = self._pgconn
        made: list[_Made] = []
        names: dict[_Key, bytes] = {}
        for step in steps:
            if isinstance(step, bytes):
                pgconn.send_query_params(step, None)
            else:
                key = step.sql, step.types
                name = self._prepared.get(key) or names.get(key)
                if name is None:
                    name = names[key] = b"m%d" % next(self._numbers)
                    pgconn.send_prepare(name, _numbered(step.sql), step.types)
                    made.append((key, name))
                pgconn.send_query_prepared(name, step.values, step.formats, pq.Format.BINARY)
            made.append(None)
        pgconn.pipeline_sync()
        while pgconn.flush():
            self._either.poll()
            pgconn.consume_input()
        return made

    def _forget(self) -> None:
        """Keep few enough statements. Not while the server refuses everything until a rollback."""
        while len(self._prepared) > _PREPARED and self._pgconn.transaction_status != pq.TransactionStatus.INERROR:
            self._pgconn.exec_(b"DEALLOCATE " + self._prepared.pop(next(iter(self._prepared))))

    def _result(self, made: _Made) -> pq.abc.PGresult:
        """Return the next result of the pipeline."""
        self._wait()
        result = self._pgconn.get_result()
        if result is None:
            raise psycopg.OperationalError(f"the connection is lost: {self._pgconn.get_error_message()}")
        if result.status != pq.ExecStatus.PIPELINE_SYNC:
            self._wait()
            self._pgconn.get_result()  # Says that there is no more of it.
        if made is not None and result.status in DONE:
            key, name = made
            self._prepared[key] = name
        return result

    def _wait(self) -> None:
        """Wait for what comes, without the interpreter's lock: `get_result` would keep it."""
        while self._pgconn.is_busy():
            self._readable.poll()
            self._pgconn.consume_input()


@lru_cache(maxsize=1_024)
def _numbered(sql: str) -> bytes:
    """Return `sql` with "$1", "$2", ... for each "%s", and "%" for each "%%"."""
    first, *others = sql.split("%s")
    numbered = first + "".join(f"${number}{part}" for number, part in enumerate(others, 1))
    return numbered.replace("%%", "%").encode()
