"""Nodes of the built program on one PostgreSQL."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from tests.support.program import Program

DEAD_AFTER_S = 1.2
#: Where nobody is to die: a busy machine may keep a node waiting for longer than that.
LONG_S = 30.0


class Cluster:
    """Nodes on one database, and one key for all of them. They end with `stack`."""

    def __init__(self, folder: Path, database: str, dead_after_s: float | None = DEAD_AFTER_S) -> None:
        """`dead_after_s`: None: what is set unless somebody sets it, and heartbeats as often as then."""
        self.folder = folder
        self.database = database
        self.dead_after_s = dead_after_s
        self.stack = ExitStack()

    def node(self, name: str, *, role: str = "all", database: str = "") -> Program:
        key = self.folder / "master.key"
        if not key.exists():
            key.write_text("MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=\n")
        pace = (
            [] if self.dead_after_s is None else ["--heartbeat-s", "0.2", "--node-dead-after-s", str(self.dead_after_s)]
        )
        program = Program(
            self.folder / name, "--database", database or self.database, "--role", role,
            "--master-key-file", str(key), *pace,
            "--retry-schedule-s", "1", "--uncertain-retries", "0", "--shutdown-s", "4",
        )  # fmt: skip
        return self.stack.enter_context(program)
