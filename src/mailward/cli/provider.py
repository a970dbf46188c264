"""`mailward provider`: look at the providers of a running gateway, test them, and set and rotate how they log in."""

import json
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TextIO
from urllib.parse import quote

import click

from mailward.cli import common
from mailward.cli.remote import Refused, Remote, remote_options
from mailward.provider.options import NEEDED

_LIST = ("id", "kind", "state", "host", "tls_mode", "auth", "description")
_PRESETS = ("id", "host", "tls_mode", "auth", "name")
_TEST_FAILED = 6
_LOGIN_FAILED = "login_failed"
#: Secret → its name for people, and whether it can be typed.
_SECRETS = {
    "password": ("password", True),
    "oauth_client_secret": ("client secret", True),
    "oauth_refresh_token": ("refresh token", True),
    "oauth_private_key": ("private key", False),
}


@click.group()
def command() -> None:
    """Look at the providers of a running gateway, test them, and set and rotate how they log in."""


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


def _secret_files(*names: str, new: bool = False) -> Callable[[Any], Any]:
    """Add --NAME-file for each of the secrets `names`; the command takes them as `files`, by name."""

    def decorate(command: Any) -> Any:
        for name in reversed(names):
            words, _ = _SECRETS[name]
            flag = f"--{words.replace(' ', '-')}-file"
            help = f"Holds the {'new ' if new else ''}{words}; - is stdin."
            command = click.option(flag, name, type=click.File(), metavar="FILE", help=help)(command)
        return command

    return decorate


def _read(files: Mapping[str, TextIO | None]) -> dict[str, str]:
    return {name: file.read().rstrip("\r\n") for name, file in files.items() if file is not None}


def _asked(name: str, *, new: bool) -> str:
    """Ask for the secret `name`; ends the command when nobody can type it."""
    words, is_typed = _SECRETS[name]
    if not is_typed:
        common.fail(f"the {words} comes from a file: --{words.replace(' ', '-')}-file", code=2)
    prompt = f"New {words}" if new else words.capitalize()
    return str(click.prompt(prompt, hide_input=True, confirmation_prompt=True, err=True))


_key_id = click.option("--key-id", help='"kid" of the assertion that the private key signs.')
_thumbprint = click.option("--certificate-thumbprint", metavar="HEX", help="Of the private key's certificate.")


@command.command(name="set-oauth")
@click.argument("id")
@click.option("--grant", type=click.Choice(list(NEEDED)), help="How tokens are fetched.")
@click.option("--token-endpoint", metavar="URL", help="Where.")
@click.option("--client-id", help="By whom; of jwt_bearer: the issuer.")
@click.option("--scope", "scopes", multiple=True, help="Of the tokens; may be given several times.")
@click.option("--subject", help="Of jwt_bearer: on whose behalf, e.g. the mailbox.")
@click.option("--client-auth-method", help="client_secret_post, the default, or client_secret_basic.")
@_key_id
@_thumbprint
@_secret_files("oauth_client_secret", "oauth_refresh_token", "oauth_private_key")
@click.option(
    "--service-account-file", type=click.File(), metavar="FILE",
    help="Key file of a Google service account: grant, endpoint, client, key id and private key are those in it.",
)  # fmt: skip
@_json_option
@remote_options
def set_oauth(
    remote: Remote,
    id: str,
    scopes: tuple[str, ...],
    oauth_client_secret: TextIO | None,
    oauth_refresh_token: TextIO | None,
    oauth_private_key: TextIO | None,
    service_account_file: TextIO | None,
    as_json: bool,
    **oauth: str | None,
) -> None:
    """Have the provider ID log in by tokens instead of a password.

    The secret that the grant needs is asked for, unless a file holds it. Try it with `mailward provider test`.
    """
    secrets = _read(
        {
            "oauth_client_secret": oauth_client_secret,
            "oauth_refresh_token": oauth_refresh_token,
            "oauth_private_key": oauth_private_key,
        }
    )
    settings: dict[str, Any] = {"scopes": list(scopes)}
    if service_account_file is not None:
        more, secrets["oauth_private_key"] = _service_account(service_account_file)
        settings |= more
    settings |= {name: value for name, value in oauth.items() if value is not None}
    if "grant" not in settings:
        common.fail("--grant is needed, or --service-account-file", code=2)
    needed = NEEDED[settings["grant"]]
    if needed not in secrets:
        secrets[needed] = _asked(needed, new=False)
    shown = remote.call(
        "PATCH", f"/mailward/v1/providers/{quote(id, safe='')}", {"settings": {"oauth": settings}} | secrets
    )
    if as_json:
        common.print_json(shown)
    else:
        click.echo(f"The provider logs in by token now. Try it: mailward provider test {id} --to ADDRESS", err=True)


def _service_account(file: TextIO) -> tuple[dict[str, Any], str]:
    """Return the login that Google's key file stands for, and its private key; ends the command when it is another."""
    try:
        key = json.load(file)
        settings = {"grant": "jwt_bearer", "token_endpoint": key["token_uri"], "client_id": key["client_email"]}
        return settings | {"key_id": key["private_key_id"]}, str(key["private_key"])
    except (ValueError, KeyError, TypeError):
        common.fail("--service-account-file: this is no key file of a Google service account", code=2)


@command.command()
@click.argument("id")
@_secret_files("password", "oauth_client_secret", "oauth_refresh_token", "oauth_private_key", new=True)
@_key_id
@_thumbprint
@click.option("--without-login", is_flag=True, help="Do not try it first: the server does not know it yet.")
@_json_option
@remote_options
def rotate(
    remote: Remote,
    id: str,
    key_id: str | None,
    certificate_thumbprint: str | None,
    without_login: bool,
    as_json: bool,
    **files: TextIO | None,
) -> None:
    """Replace the password of the provider ID, or a secret of its login by token, by one that has proved to work.

    Without a file the secret is asked for. The gateway logs in with it first; when that fails nothing is changed, and
    the command exits 6. Afterwards an old password still serves for a while where the server refuses the new one.
    """
    body: dict[str, Any] = {**_read(files)} or {(name := _rotated(remote, id)): _asked(name, new=True)}
    names = {"key_id": key_id, "certificate_thumbprint": certificate_thumbprint}
    body |= {name: value for name, value in names.items() if value is not None} | {"without_login": without_login}
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
    click.echo("\nThe new one is in use" + (f"; the old one is a fall-back until {until}." if until else "."), err=True)


def _rotated(remote: Remote, id: str) -> str:
    """Return the name of the secret that the provider logs in with."""
    provider = remote.call("GET", f"/mailward/v1/providers/{quote(id, safe='')}")
    grant = provider.get("settings", {}).get("oauth", {}).get("grant")
    return "password" if grant is None else NEEDED[grant]


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
