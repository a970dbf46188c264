"""Processes of the test."""

from pathlib import Path


def children_of(pid: int) -> list[int]:
    """Return the process ids of the children of `pid`."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
