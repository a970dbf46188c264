"""What every process of ours opens first: the data dir, the database, who may call."""

import asyncio
import fcntl
import os
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from mailward.access.access import Access, open_access
from mailward.access.accounts import Accounts
from mailward.access.projection import AccessProjection
from mailward.config import Settings
from mailward.db import migrate as migrations
from mailward.db.connect import connector
from mailward.db.database import Database, open_database
from mailward.db.migrate import Step
from mailward.db.transaction import Connection
from mailward.errors import FailedPrecondition, InvalidArgument, Unavailable
from mailward.eventstore import projection
from mailward.ids import COMMAND_NODES, MAX_NODE, IdSource
from mailward.provider.projection import EmailProvidersProjection
from mailward.provider.sms_projection import SMSProvidersProjection
from mailward.secretbox import MasterKeyError, SecretBox, load_or_create_master_key, parse_master_key
from mailward.settings.projection import SettingsProjection

DATABASE_FILE = "mailward.db"
MASTER_KEY_FILE = "master.key"
LOCK_FILE = "serve.lock"
NODE_FILE = "node.name"

#: Every read table that follows the events.
PROJECTIONS = (AccessProjection(), EmailProvidersProjection(), SMSProvidersProjection(), SettingsProjection())


def now_us() -> int:
    """Return the time in microseconds since the Unix epoch."""
    return time.time_ns() // 1000


def now_ms() -> int:
    """Return the time in milliseconds since the Unix epoch."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class Store:
    """An open database with what every user of it needs."""

    database: Database
    ids: IdSource  #: for a command; a gateway draws from its own node's number
    access: Access


def data_dir(settings: Settings) -> Path:
    """Return the data dir, made if need be (mode 0700). Raises Unavailable when it cannot be made or written."""
    path = Path(settings.data_dir)
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise Unavailable("STORE-datadir", f"cannot make the data dir {path} (--data-dir): {error.strerror}") from None
    if not os.access(path, os.W_OK | os.X_OK):
        raise Unavailable("STORE-readonly", f"cannot write to the data dir {path} (--data-dir)")
    return path


def database_url(settings: Settings) -> str | Path:
    """Return what `open_database` opens: the URL that was set, or the file in the data dir."""
    return settings.database or data_dir(settings) / DATABASE_FILE


@asynccontextmanager
async def open_store(settings: Settings, *, writer: Literal["thread", "process"] = "thread") -> AsyncIterator[Store]:
    """Open the database, migrated; close it on the way out. `writer`: see open_database."""
    # A node that froze inside a transaction must have lost its locks by the time it is taken for dead.
    database = await open_database(
        database_url(settings), writer=writer, idle_transaction_s=settings.node_dead_after_s / 2
    )
    try:
        ids = IdSource(COMMAND_NODES + os.getpid() % (MAX_NODE + 1 - COMMAND_NODES), now_ms)
        yield Store(database, ids, await open_access(database, ids, now_us))
    finally:
        await database.aclose()


@asynccontextmanager
async def open_accounts(settings: Settings) -> AsyncIterator[Accounts]:
    """Open the database for a command about service accounts."""
    async with open_store(settings) as store:
        yield Accounts(store.database, secret_box(settings), store.access, store.ids, now_us)


async def migrate(settings: Settings) -> list[str]:
    """Apply pending migrations; return their names, e.g. "0001_events"."""
    return [_step_name(step) for step in await asyncio.to_thread(_with_connection, settings, migrations.apply)]


async def migration_status(settings: Settings) -> list[dict[str, Any]]:
    """Return {"name", "state": "applied" | "pending", "applied_at"} of every migration, in order."""
    steps = await asyncio.to_thread(_with_connection, settings, migrations.status)
    return [
        {
            "name": _step_name(step),
            "state": "pending" if step.applied_at_us is None else "applied",
            "applied_at": None
            if step.applied_at_us is None
            else datetime.fromtimestamp(step.applied_at_us // 1_000_000, UTC).isoformat(),
        }
        for step in steps
    ]


async def rebuild(settings: Settings) -> int:
    """Fill the read tables of the control plane anew from the event log, in one transaction; return its length."""
    async with open_store(settings) as store:
        return await store.database.write(projection.rebuild, PROJECTIONS)


def _with_connection(settings: Settings, work: Callable[[Connection], list[Step]]) -> list[Step]:
    with closing(connector(database_url(settings))(read_only=False)) as connection:
        return work(connection)


def _step_name(step: Step) -> str:
    return f"{step.version:04}_{step.name}"


def secret_box(settings: Settings) -> SecretBox:
    """Return the box of the master key that was set, or of the one in the data dir, made at the first start."""
    try:
        if settings.master_key:
            return SecretBox([parse_master_key(settings.master_key)])
        return SecretBox([load_or_create_master_key(data_dir(settings) / MASTER_KEY_FILE)])
    except MasterKeyError as error:
        raise InvalidArgument("STORE-masterkey", str(error)) from None


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the data dir `path` for this process. Raises FailedPrecondition when another one serves it.

    Raises Unavailable on a disk that the kernel has made read-only: whether it has, only a write tells.
    """
    try:
        fd = os.open(path / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Unavailable("STORE-disk", f"cannot write to the data dir {path} (--data-dir): {error.strerror}") from None
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.pread(fd, 20, 0).decode(errors="replace").strip() or "unknown"
            raise FailedPrecondition(
                "STORE-locked",
                f"another mailward serve (process {holder}) is using {path}; stop it, or choose another --data-dir",
            ) from None
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(fd)


def node_name(path: Path) -> str:
    """Return the name of the node that lives in data dir `path`: the same after a restart, nobody else's."""
    file = path / NODE_FILE
    if not file.exists():
        write_private(file, secrets.token_hex(8))
    return file.read_text().strip()


def write_private(path: Path, text: str) -> None:
    """Write `text` to a new file of mode 0600, durably, and never seen half-written."""
    part = path.with_name(f"{path.name}.part")
    part.unlink(missing_ok=True)
    fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "w") as file:
        file.write(f"{text}\n")
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
