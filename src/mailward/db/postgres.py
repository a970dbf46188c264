"""PostgreSQL by psycopg 3: prepared at once, generic plans, binary results, and a deadline on every wait."""

import contextlib
import os
import socket
import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.types.array import ListBinaryDumper
from psycopg.types.numeric import Int8BinaryDumper, Int8Dumper

from mailward.db.named import compile_named
from mailward.db.postgres_wire import DONE, Step, Wire
from mailward.db.transaction import ConstraintViolated, Contended, Row, StoreFailed
from mailward.errors import DeadlineExceeded, InvalidArgument, MailwardError

_BACK_OFF_FIRST_S = 0.1
_BACK_OFF_LIMIT_S = 1.0

# Plans made for the values at hand are made again and again, and those made on empty tables scan when the tables have
# grown. synchronous_commit is raised to "on", never lowered: a cluster may ask for more ("remote_apply").
_SESSION = """
    SELECT set_config('plan_cache_mode', 'force_generic_plan', false),
           set_config('synchronous_commit', CASE WHEN current_setting('synchronous_commit') IN ('off', 'local')
                                                 THEN 'on' ELSE current_setting('synchronous_commit') END, false),
           set_config('statement_timeout', %s, false),
           set_config('lock_timeout', %s, false),
           set_config('idle_in_transaction_session_timeout', %s, false),
           set_config('TimeZone', 'UTC', false)
"""

_AHEAD = 500  #: steps that wait at the most
_CONTENDED = frozenset({"40P01", "40001", "55P03"})  # deadlock, serialization failure, lock timeout
#: Classes of SQLSTATE that speak of the server, not of the statement: connection, resources, operator, system, damage.
_STORAGE_CLASSES = frozenset({"08", "53", "57", "58", "XX", "28", "3D"})
_READ_ONLY = "25006"  # a standby


class PostgresConnection:
    """A transaction.Connection. The thread that uses it may change; two may not use it at once.

    BEGIN, SAVEPOINT, RELEASE, locks and whatever was `put` wait for the next statement that somebody waits for and
    travel with it: a transaction that touches nothing costs nothing, and one that only writes costs a round trip.
    """

    dialect: Literal["postgresql"] = "postgresql"

    def __init__(
        self,
        url: str,
        *,
        read_only: bool = False,
        application_name: str = "mailward",
        connect_timeout_s: float = 5.0,
        statement_timeout_s: float = 30.0,
        idle_transaction_s: float = 5.0,
    ) -> None:
        """Connect. Raises StoreFailed; InvalidArgument when `url` cannot be understood.

        `statement_timeout_s`: the longest that one statement may run (0 = no limit); half of it may pass waiting for a
        lock.

        `idle_transaction_s`: how long it may rest inside a transaction; a frozen process must not hold locks for ever.
        """
        self.memo: dict[object, Any] = {}
        self.held: dict[object, Any] = {}
        self._begin = b"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY" if read_only else b"BEGIN"
        self._timeout_ms = int(statement_timeout_s * 1000)
        self._idle_ms = int(idle_transaction_s * 1000)
        # What the operator wrote in the URL wins.
        defaults: dict[str, str | int] = {
            "application_name": application_name,
            "connect_timeout": max(2, round(connect_timeout_s)),
            "keepalives": 1,
            "keepalives_idle": 15,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 20_000,
        }
        try:
            self._conninfo = make_conninfo(url, **{k: v for k, v in defaults.items() if k not in conninfo_to_dict(url)})
        except psycopg.Error as error:
            raise InvalidArgument("DB-Hq5n", "the database URL cannot be understood") from error
        self._ahead: list[Step] = []  # what goes before the next statement
        self._open = False  # whether BEGIN has been sent
        self._shared = False  # whether several calls share the transaction, each in a savepoint
        self._back_off_s = 0.0
        self._retry_at = 0.0
        self._connect()

    def _connect(self) -> None:
        """Replace the connection. Raises StoreFailed, without trying while the last failure is fresh."""
        self.memo.clear()
        self.held.clear()
        now = time.monotonic()
        if now < self._retry_at:
            raise StoreFailed("DB-Lx3o", "the database cannot be reached; trying again in a moment")
        connection = None
        try:
            connection = psycopg.connect(self._conninfo, autocommit=True, prepare_threshold=0)
            # One type for every integer: psycopg's own choice by size would prepare one statement for each mix of
            # sizes. A bool is 0 or 1, as in SQLite.
            for type in (int, bool):
                connection.adapters.register_dumper(type, Int8Dumper)
                connection.adapters.register_dumper(type, Int8BinaryDumper)
            connection.adapters.register_dumper(list, ListBinaryDumper)
            limit = str(self._timeout_ms)
            connection.execute(_SESSION, (limit, str(self._timeout_ms // 2), str(self._idle_ms))).close()
            self._wire = Wire(connection)
        except psycopg.Error as error:
            if connection is not None:
                connection.close()
            self._back_off_s = min(self._back_off_s * 2 or _BACK_OFF_FIRST_S, _BACK_OFF_LIMIT_S)
            self._retry_at = time.monotonic() + self._back_off_s
            raise StoreFailed("DB-9fCe", f"the database cannot be reached: {_first_line(error)}") from error
        self._back_off_s = self._retry_at = 0.0
        self._connection = connection

    # Transaction

    def lock(self, name: str, /) -> None:
        self._ahead.append(b"SELECT pg_advisory_xact_lock(hashtext('%b'))" % name.encode())

    def put(self, sql: str, /, **values: Any) -> None:
        native, names = compile_named(sql)
        try:
            self._ahead.append(self._wire.statement(native, [values[name] for name in names]))
            if len(self._ahead) > _AHEAD:
                self._send()
        except Exception as error:
            raise self._translate(error) from error

    def execute(self, sql: str, /, **values: Any) -> int:
        native, names = compile_named(sql)
        try:
            statement = self._wire.statement(native, [values[name] for name in names])
            return self._send(statement)[-1].command_tuples or 0
        except Exception as error:
            raise self._translate(error) from error

    def executemany(self, sql: str, rows: Sequence[Mapping[str, Any] | Sequence[Any]], /) -> int:
        if not rows:
            return 0
        try:
            if isinstance(rows[0], Mapping):
                sql, names = compile_named(sql)
                rows = [[row[name] for name in names] for row in rows]  # type: ignore[call-overload]
            results = self._send(*(self._wire.statement(sql, row) for row in rows))  # type: ignore[arg-type]
            return sum(result.command_tuples or 0 for result in results[-len(rows) :])
        except Exception as error:
            raise self._translate(error) from error

    def fetch(self, sql: str, /, **values: Any) -> list[Row]:
        native, names = compile_named(sql)
        return self.run(native, [values[name] for name in names])

    def fetch_one(self, sql: str, /, **values: Any) -> Row | None:
        rows = self.fetch(sql, **values)
        return rows[0] if rows else None

    def run(self, sql: str, values: Sequence[Any], /) -> list[Row]:
        try:
            return self._wire.rows(self._send(self._wire.statement(sql, values))[-1])
        except Exception as error:
            raise self._translate(error) from error

    # Connection

    def begin(self) -> None:
        if self._connection.closed:
            self._connect()
        self._ahead = [self._begin]
        self._open = self._shared = False
        self.held.clear()

    def commit(self) -> None:
        if not self._open and self._ahead == [self._begin]:  # Nothing was sent, so there is nothing to keep.
            return
        self._require_sound()
        steps, self._ahead, self._open = [*self._ahead, b"COMMIT"], [], True
        try:
            if self._run(steps)[-1].command_status != b"COMMIT":
                raise ConstraintViolated("the server rolled the transaction back")
        except Exception as error:
            raise self._translate(error) from error
        self._open = False

    def rollback(self) -> None:
        self.memo.clear()
        self.held.clear()
        self._ahead = []
        if not self._open:
            return
        self._open = False
        try:
            self._run([b"ROLLBACK"])
        except psycopg.Error:
            self._connection.close()

    def savepoint(self) -> None:
        self._shared = True
        self._ahead.append(b"SAVEPOINT call")

    def release(self) -> None:
        self._require_sound()
        if self._ahead and self._ahead[-1] == b"SAVEPOINT call":
            self._ahead.pop()
        else:
            self._ahead.append(b"RELEASE call")

    def rollback_to_savepoint(self) -> None:
        self.memo.clear()
        self.held.clear()
        if b"SAVEPOINT call" in self._ahead:
            del self._ahead[self._ahead.index(b"SAVEPOINT call") :]
        else:
            self._ahead += [b"ROLLBACK TO call", b"RELEASE call"]

    def idle(self) -> None:
        pass

    def abort(self) -> None:
        # A cancel request would need the server's help, which is what is missing when a statement outlives its timeout.
        with (
            contextlib.suppress(OSError, psycopg.Error),
            socket.socket(fileno=os.dup(self._connection.fileno())) as own,
        ):
            own.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._connection.close()

    # Inside

    def _send(self, *steps: Step) -> list[pq.abc.PGresult]:
        """Send what waits, and `steps`, in one round trip, and return the results."""
        steps, self._ahead = (*self._ahead, *steps), []
        fresh, self._open = not self._open, True
        try:
            return self._run(steps)
        except psycopg.Error as error:
            if not fresh or not self._lost(error):
                raise
            # The connection died, most likely while it was idle. Nothing was committed: begin the transaction anew.
            self._connect()
            return self._run(steps)

    def _run(self, steps: Sequence[Step]) -> list[pq.abc.PGresult]:
        results = self._wire.run(steps)
        if results[-1].status in DONE:
            return results
        error = psycopg.errors.error_from_result(results[-1])
        if self._shared and len(results) < len(steps) and not self._lost(error):
            # It may be an earlier call's that was put: who shares the transaction is to try it in one of its own.
            raise Contended("DB-vU8p", f"a statement failed: {_first_line(error)}") from error
        raise error

    def _lost(self, error: psycopg.Error) -> bool:
        """Return whether `error` means the end of the connection, and close it then."""
        state = error.sqlstate or ""
        by_client = not state and (isinstance(error, psycopg.OperationalError) or type(error) is psycopg.DatabaseError)
        # 57P: shutdown and the like; 25P03, 25P04: a timeout that ends the session. libpq may notice only later.
        if self._connection.closed or by_client or state.startswith("57P") or state in ("25P03", "25P04"):
            self._connection.close()
            self.memo.clear()
            self.held.clear()
            return True
        return False

    def _require_sound(self) -> None:
        """Raise when the function caught an error of a statement: in PostgreSQL nothing after it was stored."""
        failed = self._connection.pgconn.transaction_status == pq.TransactionStatus.INERROR
        if failed and b"ROLLBACK TO call" not in self._ahead:
            raise ConstraintViolated("a statement failed, and the function went on")

    def _translate(self, error: Exception) -> Exception:
        """Return what to raise for `error`; the error itself when it is a mistake in our SQL."""
        if isinstance(error, MailwardError | ConstraintViolated):
            return error
        if isinstance(error, UnicodeEncodeError | OverflowError):
            return InvalidArgument("DB-Bm8s", f"a value cannot be stored: {error}")
        if not isinstance(error, psycopg.Error):
            return error
        state = error.sqlstate or ""
        words = _first_line(error)
        if self._lost(error):
            return StoreFailed("DB-tW4j", f"the connection to the database was lost: {words}")
        if state in _CONTENDED:
            return Contended("DB-6aFq", f"another node holds what this needs: {words}")
        if state == "57014":
            return DeadlineExceeded("DB-xN7b", "a statement took too long")
        if state[:2] in _STORAGE_CLASSES or state == _READ_ONLY:
            return StoreFailed("DB-Ke2u", f"the database cannot do it now: {words}")
        if isinstance(error, psycopg.IntegrityError):
            return ConstraintViolated(words)
        if isinstance(error, psycopg.DataError):
            return InvalidArgument("DB-Zs1v", f"a value cannot be stored: {words}")
        return error


def _first_line(error: Exception) -> str:
    """Return the error's first line: the others may quote the row, and so mail or secrets."""
    return str(error).partition("\n")[0]
