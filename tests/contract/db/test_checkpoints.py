"""What SQLite's writer commits gets into the file while it goes on."""

import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path

from mailward.db.sqlite import SqliteConnection
from tests.support.waiting import PATIENCE_S


def _commit(connection: SqliteConnection, size_bytes: int) -> None:
    connection.begin()
    connection.execute("INSERT INTO t (body) VALUES (zeroblob(:size))", size=size_bytes)
    connection.commit()


def _copiers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "mailward-checkpoints"]


def test_a_busy_writers_pages_are_copied_beside_it(tmp_path: Path) -> None:
    """Or every commit that fills the WAL would wait for all of it to be copied."""
    path = tmp_path / "mailward.db"
    with closing(SqliteConnection(path)) as writer:
        writer.begin()
        writer.execute("CREATE TABLE t (body BLOB)")
        writer.commit()
        deadline = time.monotonic() + PATIENCE_S
        while path.stat().st_size < 1 << 20:
            assert time.monotonic() < deadline
            _commit(writer, 65_536)

    assert _copiers() == []
    with closing(sqlite3.connect(path)) as reader:
        assert reader.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_a_few_commits_are_not_worth_a_thread(tmp_path: Path) -> None:
    """A command writes once or twice, and readers never."""
    path = tmp_path / "mailward.db"
    with closing(SqliteConnection(path)) as writer:
        writer.begin()
        writer.execute("CREATE TABLE t (body BLOB)")
        writer.commit()
        with closing(SqliteConnection(path, read_only=True)) as reader:
            for _ in range(50):
                reader.begin()
                reader.commit()

        assert _copiers() == []
