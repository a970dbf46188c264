"""For commands that talk to a running gateway over its HTTP API: where it is, who asks, and what went wrong."""

import http.client
import json
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import click

from mailward.cli import common

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_URL = "http://127.0.0.1:8080"
_TIMEOUT_S = 60.0
_EXIT_CODES = {401: 4, 403: 4, 404: 3, 409: 5, 412: 5, 503: 7}


class Refused(Exception):
    """The gateway answered with an error. `str` is a sentence for people."""

    def __init__(self, status: int, body: Any) -> None:
        """`status`: HTTP; `body`: the decoded problem document or error of the Admin API, or the text."""
        self.status = status
        self.body = body
        known = body if isinstance(body, Mapping) else {}
        super().__init__(str(known.get("detail") or known.get("message") or f"HTTP {status}"))

    @property
    def exit_code(self) -> int:
        return _EXIT_CODES.get(self.status, 1)


class Remote:
    """A gateway (or a ZITADEL) behind a base URL."""

    def __init__(self, url: str, token: str, *, ca_file: str | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            common.fail(f"--url must be http://HOST:PORT or https://HOST:PORT, got {url!r}", code=2)
        self.url = url.rstrip("/")
        self._https = parts.scheme == "https"
        self._host, self._port = parts.hostname, parts.port
        self._prefix = parts.path.rstrip("/")
        self._token = token
        self._ca_file = ca_file

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Return the decoded answer of one call. Raises Refused; ends the command (exit code 7) when nobody answers."""
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        connection = self._connection()
        try:
            connection.request(method, self._prefix + path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException) as error:
            common.fail(f"{self.url} cannot be reached: {error}", code=7)
        finally:
            connection.close()
        try:
            decoded = json.loads(text) if text else {}
        except ValueError:
            decoded = text.decode(errors="replace")
        if answer.status >= 300:
            raise Refused(answer.status, decoded)
        return decoded

    def _connection(self) -> http.client.HTTPConnection:
        if self._https:
            context = ssl.create_default_context(cafile=self._ca_file)
            return http.client.HTTPSConnection(self._host, self._port, timeout=_TIMEOUT_S, context=context)
        return http.client.HTTPConnection(self._host, self._port, timeout=_TIMEOUT_S)


def remote_options(command: F) -> F:
    """Add --url, --token-file and --ca-file; the command takes `remote: Remote`. A refusal ends it."""

    def run(*args: Any, url: str, token_file: str, ca_file: str | None, **values: Any) -> Any:
        remote = Remote(url, read_token(token_file), ca_file=ca_file)
        try:
            return command(*args, remote=remote, **values)
        except Refused as error:
            common.fail(str(error), code=error.exit_code)

    run.__name__, run.__doc__ = command.__name__, command.__doc__
    run.__click_params__ = getattr(command, "__click_params__", [])  # type: ignore[attr-defined]
    decorated: Any = run
    for option in (
        click.option("--ca-file", metavar="FILE", help="PEM file that the server's certificate is checked against."),
        click.option(
            "--token-file", default="mailward-data/owner.token", show_default=True, metavar="FILE", help="Its token."
        ),
        click.option("--url", default=DEFAULT_URL, show_default=True, help="Where the gateway listens."),
    ):
        decorated = option(decorated)
    return decorated  # type: ignore[no-any-return]


def read_token(file: str) -> str:
    """Return the token in `file`; ends the command when it cannot be read."""
    try:
        return Path(file).read_text().strip()
    except OSError as error:
        common.fail(f"cannot read {file} (--token-file): {error.strerror}", code=2)
