"""What the commands share: settings from the command line, output, exit codes."""

import asyncio
import sys
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn, TypeVar

import click
import orjson

from mailward import config, errors

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

_EXIT_CODES: dict[type[errors.MailwardError], int] = {
    errors.InvalidArgument: 2,
    errors.NotFound: 3,
    errors.PermissionDenied: 4,
    errors.Unauthenticated: 4,
    errors.AlreadyExists: 5,
    errors.FailedPrecondition: 5,
    errors.Unavailable: 7,
}


def settings_options(names: Sequence[str]) -> Callable[[F], F]:
    """Add --config and a flag for each setting in `names`; the command takes `settings: config.Loaded`."""

    def decorate(command: F) -> F:
        def run(*args: Any, config_file: str | None, **values: Any) -> Any:
            given = {name: values.pop(name) for name in map(_flag, names)}
            # A list is given by one flag with commas, or by a flag for each.
            flags = {
                name: ",".join(value) if isinstance(value, tuple) else value
                for name, value in given.items()
                if value is not None and value != ()
            }
            with reported_errors():
                loaded = config.load(config_file, flags)
            return command(*args, settings=loaded, **values)

        run.__name__, run.__doc__ = command.__name__, command.__doc__
        run.__click_params__ = getattr(command, "__click_params__", [])  # type: ignore[attr-defined]
        decorated: Any = run
        for name in reversed(names):
            flag = _flag(name)
            decorated = click.option(f"--{flag.replace('_', '-')}", flag, **_option(name))(decorated)
        file = click.option("--config", "config_file", metavar="FILE", envvar="MAILWARD_CONFIG", help="TOML file.")
        return file(decorated)  # type: ignore[no-any-return]

    return decorate


def _flag(name: str) -> str:
    """Return the flag's name: a key never stands on a command line, where every user of the machine could read it."""
    return "master_key_file" if name == "master_key" else name


def _option(name: str) -> dict[str, Any]:
    """Return click's description of the flag of setting `name`. Values are checked by config, in one place."""
    default = config.default(name)
    text = ",".join(map(str, default)) if isinstance(default, tuple) else str(default)
    help = config.description(name) + (f" [default: {text}]" if text else "")
    if name == "master_key":
        return {"metavar": "FILE", "help": help}
    if isinstance(default, bool):
        return {"is_flag": True, "flag_value": "true", "default": None, "help": help}
    if isinstance(default, tuple):
        return {"metavar": "TEXT", "multiple": True, "help": help}
    return {"metavar": "TEXT" if isinstance(default, str) else "N", "help": help}


#: The settings that say which database a command works on.
STORE = ("data_dir", "database", "master_key")


@contextmanager
def reported_errors() -> Iterator[None]:
    """Turn a MailwardError into one line on stderr and the exit code of its kind."""
    try:
        yield
    except errors.MailwardError as error:
        fail(error.message, code=next((code for kind, code in _EXIT_CODES.items() if isinstance(error, kind)), 1))


def fail(message: str, *, code: int = 1) -> NoReturn:
    """End the command: `message` on stderr, `code` for the shell."""
    click.echo(f"mailward: {message}", err=True)
    sys.exit(code)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` to its end; errors become exit codes."""
    with reported_errors():
        return asyncio.run(work)


def print_json(value: Any) -> None:
    """Print `value` as JSON for programs."""
    click.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())


def print_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Print `rows` for people: one line each, columns aligned, "-" for what is absent."""
    table = [[str(row.get(column) or "-") for column in columns] for row in rows]
    widths = [max(map(len, cells)) for cells in zip([c.upper() for c in columns], *table, strict=True)]
    for cells in [[column.upper() for column in columns], *table]:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip())
