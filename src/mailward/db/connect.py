"""From a URL to connections of its engine."""

from functools import partial
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from mailward.db.transaction import Connection
from mailward.errors import InvalidArgument


class Connect(Protocol):
    """Opens a connection. Raises StoreFailed."""

    def __call__(self, *, read_only: bool) -> Connection: ...


def connector(
    url: str | Path,
    *,
    application_name: str = "mailward",
    busy_timeout_s: float = 5.0,
    connect_timeout_s: float = 5.0,
    statement_timeout_s: float = 30.0,
    idle_transaction_s: float = 5.0,
) -> Connect:
    """Return what opens connections to `url` (forms and options: see open_database). Raises InvalidArgument."""
    if isinstance(url, str) and urlsplit(url).scheme in ("postgresql", "postgres"):
        from mailward.db.postgres import PostgresConnection  # Late: half of all installations never need psycopg.

        return partial(
            PostgresConnection,
            url,
            application_name=application_name,
            connect_timeout_s=connect_timeout_s,
            statement_timeout_s=statement_timeout_s,
            idle_transaction_s=idle_transaction_s,
        )
    from mailward.db.sqlite import SqliteConnection

    return partial(SqliteConnection, _sqlite_path(url), busy_timeout_s=busy_timeout_s)


def _sqlite_path(url: str | Path) -> Path:
    """Return the file that `url` names: "sqlite:///relative", "sqlite:////absolute", or the path itself."""
    if isinstance(url, Path):
        return url
    scheme, separator, rest = url.partition("://")
    if not separator:
        path = url
    elif scheme == "sqlite" and rest.startswith("/"):
        path = unquote(rest[1:])
    else:
        raise InvalidArgument(
            "DB-Gv8r", "a database URL is sqlite:///path, postgresql://... or the path of a SQLite file"
        )
    if not path or path == ":memory:":
        raise InvalidArgument("DB-3jXs", "a SQLite database is a file: memory does not outlive a crash")
    return Path(path)
