"""A disk that the kernel makes read-only under a running program, as it does after an error."""

from __future__ import annotations

import resource
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.program import Program

_SIZE_BYTES = 128 << 20


class Disk:
    """A file system of its own for a data dir; where we may mount none, a folder whose program may write no file."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "disk"
        self.path.mkdir()
        self._image = folder / "disk.img"
        self.is_mounted = False  #: False from beginning to end: we may not

    def make(self) -> None:
        """Make it and mount it."""
        with self._image.open("wb") as image:
            image.truncate(_SIZE_BYTES)
        made = shutil.which("mkfs.ext4") is not None and _run("mkfs.ext4", "-q", "-F", str(self._image))
        if made:
            self.mount()

    def mount(self) -> None:
        """Make it writable again, which takes an unmount after an error."""
        self.unmount()
        self.is_mounted = _run("mount", "-o", "loop", str(self._image), str(self.path))

    def unmount(self) -> None:
        if self.is_mounted:
            assert _run("umount", str(self.path))
            self.is_mounted = False

    def fail(self, program: Program) -> None:
        """Let nothing be written to it any more, by the running `program`."""
        if self.is_mounted:
            assert _run("mount", "-o", "remount,abort", str(self.path))
        else:
            for pid in (program.store_pid, program.process.pid):
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))


def _run(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=60).returncode == 0
    except FileNotFoundError:
        return False


@contextmanager
def disk(folder: Path) -> Iterator[Disk]:
    """A disk for the block."""
    made = Disk(folder)
    made.make()
    try:
        yield made
    finally:
        made.unmount()
