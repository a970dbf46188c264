"""`mailward provider`: look at the providers of a running gateway, test them, and rotate their passwords."""

from collections.abc import Mapping
from typing import Any, NoReturn, TextIO
from urllib.parse import quote

import click

from mailward.cli import common
from mailward.cli.remote import Refused, Remote, remote_options

_LIST = ("id", "kind", "state", "host", "tls_mode", "auth", "description")
_PRESETS = ("id", "host", "tls_mode", "auth", "name")
_TEST_FAILED = 6
_LOGIN_FAILED = "login_failed"


@click.group()
def command() -> None:
    """Look at the providers of a running gateway, test them, and rotate their passwords."""


def _json_option(command: Any) -> Any:
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


@command.command(name="list")
@_json_option
@remote_options
def list_(remote: Remote, as_json: bool) -> None:
    """List the providers, oldest first."""
    rows, token = [], ""
    while True:
        page = remote.call("GET", f"/mailward/v1/providers?page_size=200&page_token={token}")
        rows += page.get("providers", [])
        token = page.get("next_page_token", "")
        if not token:
            break
    if as_json:
        common.print_json(rows)
    else:
        common.print_table([{**row, "host": row.get("host") or row.get("endpoint")} for row in rows], _LIST)


@command.command()
@click.argument("id")
@_json_option
@remote_options
def show(remote: Remote, id: str, as_json: bool) -> None:
    """Show the provider ID: everything but secrets."""
    provider = remote.call("GET", f"/mailward/v1/providers/{quote(id, safe='')}")
    if as_json:
        common.print_json(provider)
    else:
        for name, value in _flat(provider):
            click.echo(f"{name}: {value}")


@command.command()
@click.argument("id")
@click.option("--to", required=True, metavar="ADDRESS", help="Who gets the test mail.")
@click.option("--deadline", "deadline_s", type=float, default=0.0, help="Longest wait at each stage, seconds.")
@_json_option
@remote_options
def test(remote: Remote, id: str, to: str, deadline_s: float, as_json: bool) -> None:
    """Send a test mail through the provider ID and show what happened at every stage. Exits 6 when it fails.

    The gateway sends it by the code that delivers mail; the provider need not be active.
    """
    body = {"to": to, "deadline_s": deadline_s}
    report = remote.call("POST", f"/mailward/v1/providers/{quote(id, safe='')}:test", body)
    if as_json:
        common.print_json(report)
    else:
        _print_report(report)
    if not report.get("ok"):
        _end_as_failed()


@command.command()
@click.argument("id")
@click.option(
    "--password-file", type=click.File(), metavar="FILE", help="The new one; - is stdin. Else it is asked for."
)
@click.option("--without-login", is_flag=True, help="Do not try it first: the server does not know it yet.")
@_json_option
@remote_options
def rotate(remote: Remote, id: str, password_file: TextIO | None, without_login: bool, as_json: bool) -> None:
    """Replace the password of the provider ID by a new one that has proved to work.

    The gateway logs in with it first; when that fails nothing is changed, and the command exits 6. Afterwards the old
    one still serves for a while where the server refuses the new one.
    """
    if password_file is None:
        password = click.prompt("New password", hide_input=True, confirmation_prompt=True, err=True)
    else:
        password = password_file.read().rstrip("\r\n")
    body = {"password": password, "without_login": without_login}
    try:
        done = remote.call("POST", f"/mailward/v1/providers/{quote(id, safe='')}:rotate", body)
    except Refused as error:
        if isinstance(error.body, Mapping) and error.body.get("code") == _LOGIN_FAILED:
            common.fail(str(error), code=_TEST_FAILED)
        raise
    if as_json:
        common.print_json(done)
        return
    if "login" in done:
        _print_steps(done["login"])
    until = done.get("old_password_until")
    click.echo(
        "\nThe new password is in use" + (f"; the old one is a fall-back until {until}." if until else "."), err=True
    )


@command.command()
@_json_option
@remote_options
def presets(remote: Remote, as_json: bool) -> None:
    """List hosts, ports and logins of well-known providers."""
    found = remote.call("GET", "/mailward/v1/provider-presets").get("presets", [])
    if as_json:
        common.print_json(found)
    else:
        common.print_table([{**one, "auth": ",".join(one.get("auth", []))} for one in found], _PRESETS)


def _print_steps(report: Mapping[str, Any]) -> None:
    rows = [
        {
            "": "ok" if step.get("ok") else "FAILED",
            "stage": step.get("stage"),
            "ms": f"{step.get('elapsed_ms', 0.0):.1f}",
            "words": step.get("words"),
        }
        for step in report.get("steps", [])
    ]
    if rows:
        common.print_table(rows, ("", "stage", "ms", "words"))


def _print_report(report: Mapping[str, Any]) -> None:
    _print_steps(report)
    failure = report.get("failure")
    if failure is None:
        click.echo(f"\nThe server took the mail ({report.get('elapsed_ms', 0.0):.0f} ms).", err=True)
        return
    for name in ("code", "words", "cause", "fix"):
        click.echo(f"{name + ':':7}{failure.get(name, '')}", err=True)


def _flat(value: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    lines: list[tuple[str, Any]] = []
    for name, part in value.items():
        if isinstance(part, Mapping):
            lines += _flat(part, f"{prefix}{name}.")
        else:
            lines.append((prefix + name, ", ".join(map(str, part)) if isinstance(part, list) else part))
    return lines


def _end_as_failed() -> NoReturn:
    raise SystemExit(_TEST_FAILED)
