"""Canary secrets: planted where a real secret goes, then looked for, in every spelling, in all that was written."""

import base64
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from uuid import uuid4

import psycopg


def canary(what: str) -> str:
    """Return a new secret of letters and digits, so that JSON, URLs and SQL spell it as it is."""
    return f"canary{what}{uuid4().hex}"


def spellings(secret: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield (name, bytes) of each spelling of `secret` that would betray it."""
    yield "clear", secret
    yield "hex", secret.hex().encode()
    yield "HEX", secret.hex().upper().encode()
    # Base64 of a longer text spells the same bytes in one of three ways; what the neighbours reach into is cut off.
    for shift in range(3):
        text = base64.b64encode(b"\0" * shift + secret)
        middle = text[(0, 2, 3)[shift] : len(text) // 4 * 4 - 4]
        yield f"base64 at {shift}", middle
        yield f"base64url at {shift}", middle.replace(b"+", b"-").replace(b"/", b"_")


def betrayed(data: bytes, secrets: Mapping[str, bytes]) -> list[str]:
    """Return "name (spelling)" of every secret in `data`."""
    return [
        f"{name} ({how})" for name, secret in secrets.items() for how, spelling in spellings(secret) if spelling in data
    ]


def rows_of(database: str, data_dir: Path) -> dict[str, bytes]:
    """Return table → every value of every row, sorted. `database`: a PostgreSQL URL, or "" for SQLite."""
    if not database:
        with sqlite3.connect(data_dir / "mailward.db") as connection:
            names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            found = {name: _flat(connection.execute(f'SELECT * FROM "{name}"')) for name in names}
        connection.close()
        return found
    with psycopg.connect(database) as postgres:
        listed = postgres.execute("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'")
        return {name: _flat(postgres.execute(f'SELECT * FROM "{name}"'.encode())) for (name,) in listed.fetchall()}


def _flat(rows: object) -> bytes:
    return b"\n".join(
        value if isinstance(value, bytes) else str(value).encode()
        for row in sorted(rows, key=repr)  # type: ignore[call-overload]
        for value in row
    )
