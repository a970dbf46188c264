"""The SQLite database, copied at random moments under load as a power cut would leave it, opens and recovers."""

import asyncio
import os
import random
import shutil
import signal
import sqlite3
import struct
from contextlib import closing
from pathlib import Path

from mailward.ids import MessageId, parse_message_id
from tests.e2e.crash import load
from tests.support.program import Program
from tests.support.waiting import until

COPIES = 8
_PAGE_BYTES = 8192
_BACKFILL_ATTEMPTED = 128  # where the index of the WAL has it: sqlite.org/walformat.html


def stored(database: Path) -> set[MessageId]:
    """Check the copy `database` and return the messages that are complete in it."""
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'messages'").fetchone():
            return set()  # The log lost even the migration, which nobody had checkpointed yet.
        whole = """SELECT m.id FROM messages AS m WHERE EXISTS (SELECT 1 FROM contents AS c WHERE c.id = m.id)
                      AND EXISTS (SELECT 1 FROM recipients AS r WHERE r.message_id = m.id)"""
        messages = {id for (id,) in connection.execute(whole)}
        assert len(messages) == connection.execute("SELECT count(*) FROM messages").fetchone()[0]
        return messages


def copy(program: Program, to: Path) -> tuple[Path, int]:
    """Copy database and WAL as they are at one moment: what a power cut leaves behind, if the disk kept all of it.

    Return the copy, and how much of its WAL was synced because its pages were about to go into the database.
    """
    to.mkdir()
    pids = (program.process.pid, program.store_pid)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        for file in program.data_dir.glob("mailward.db*"):
            if not file.name.endswith("-shm"):  # It lives in memory; a power cut takes it.
                shutil.copyfile(file, to / file.name)
        index = program.data_dir.joinpath("mailward.db-shm").read_bytes()
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    (attempted,) = struct.unpack_from("=I", index, _BACKFILL_ATTEMPTED)
    return to / "mailward.db", 32 + attempted * (24 + _PAGE_BYTES) if attempted else 0


def written(folder: Path, database: bytes, log: bytes) -> Path:
    """Put a database with its WAL into `folder` and return its path."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "mailward.db").write_bytes(database)
    (folder / "mailward.db-wal").write_bytes(log)
    return folder / "mailward.db"


async def test_a_copy_at_any_moment_opens_and_has_all_that_was_acknowledged(tmp_path: Path) -> None:
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    chance = random.Random(seed)
    sent = load.Sent()
    with Program(tmp_path / "data") as program:
        program.add_relay("127.0.0.1:9")
        clients = load.Load.of(program, sent, seed=seed, pause_s=0.0)
        clients.start()
        await until(lambda: sent.acknowledged)
        copies: list[tuple[tuple[Path, int], set[MessageId | None]]] = []
        for number in range(COPIES):
            await asyncio.sleep(chance.uniform(0.05, 0.25))
            acknowledged = {parse_message_id(id) for id in sent.acknowledged.values()}
            copies.append((copy(program, tmp_path / f"copy{number}"), acknowledged))
        await clients.stop()

    for (database, synced), acknowledged in copies:
        body, log = database.read_bytes(), database.with_name("mailward.db-wal").read_bytes()
        # Half a frame after the last one that was synced, as the power went.
        torn = written(tmp_path / "torn", body, log + chance.randbytes(chance.randrange(1, 8192)))
        assert acknowledged <= stored(torn)
        # A log that lost its end holds less, and is as sound.
        cut = written(tmp_path / "cut", body, log[: chance.randrange(min(synced, len(log)), len(log) + 1)])
        assert stored(cut) <= stored(torn)

    assert any(acknowledged for _, acknowledged in copies)
    shutil.copytree(tmp_path / "data", tmp_path / "again", ignore=shutil.ignore_patterns("mailward.db*", "serve.lock"))
    for file in copies[-1][0][0].parent.glob("mailward.db*"):
        shutil.copyfile(file, tmp_path / "again" / file.name)
    with Program(tmp_path / "again") as revived:
        assert revived.request("GET", "/v1/messages").json["messages"]
