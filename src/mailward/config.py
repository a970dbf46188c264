"""Settings: defaults < TOML file < environment < flags, read once into one frozen value.

Every setting has one name and three spellings: `max_message_bytes` in TOML, `MAILWARD_MAX_MESSAGE_BYTES` in the
environment, `--max-message-bytes` as a flag. Lists are TOML arrays, or separated by commas. A secret may also be given
as a file that holds it: `master_key_file`, in all three spellings. An unknown name is an error that names the nearest
known one.
"""

import difflib
import os
import socket
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import msgspec
from msgspec import Meta

from mailward.errors import InvalidArgument
from mailward.peer import networks

PREFIX = "MAILWARD_"
SECRETS = frozenset({"master_key", "database"})  # a database URL may hold a password
MIN_PORT, MAX_PORT = 0, 65535


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that can be set for one process. The description of a field is its documentation."""

    data_dir: Annotated[
        str, Meta(description="Folder of the embedded database, the master key, the owner token and certificates.")
    ] = "mailward-data"
    database: Annotated[str, Meta(description="postgresql://… to use PostgreSQL. Empty: SQLite in the data dir.")] = ""
    role: Annotated[
        Literal["all", "api", "smtp", "worker"],
        Meta(
            description="What this process does of it: all, the API, the submission door, or the delivery. "
            "Others than all need PostgreSQL."
        ),
    ] = "all"
    heartbeat_s: Annotated[
        float, Meta(ge=0.05, le=60, description="Seconds between the signs of life that nodes give each other.")
    ] = 2.0
    node_dead_after_s: Annotated[
        float, Meta(gt=0, le=600, description="Seconds without one after which others recover what a node held.")
    ] = 10.0
    http: Annotated[str, Meta(description="HOST:PORT for REST, gRPC and gRPC-Web. Port 0 takes a free one.")] = (
        "127.0.0.1:8080"
    )
    smtp: Annotated[str, Meta(description="HOST:PORT of the submission door. Empty: none.")] = "127.0.0.1:2525"
    tls_cert: Annotated[
        str, Meta(description="PEM certificate chain, for TLS on the HTTP port and STARTTLS on the SMTP port.")
    ] = ""
    tls_key: Annotated[str, Meta(description="PEM private key of the certificate.")] = ""
    master_key: Annotated[
        str, Meta(description="32 bytes in base64 that seal stored secrets. Empty: master.key in the data dir.")
    ] = ""
    hostname: Annotated[
        str, Meta(description="Name used in EHLO, greetings and Received lines. Empty: the machine's name.")
    ] = ""
    external_domain: Annotated[
        tuple[str, ...],
        Meta(description="Host names that are this instance; requests under any other are 404. Empty: every host is."),
    ] = ()
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="The least level that is logged.")
    ] = "info"
    log_format: Annotated[
        Literal["auto", "json", "console"], Meta(description="auto: console on a terminal, otherwise JSON lines.")
    ] = "auto"
    max_message_bytes: Annotated[
        int, Meta(ge=1024, le=1 << 30, description="Largest message taken in, as RFC 5322 bytes.")
    ] = 25 << 20
    max_recipients: Annotated[int, Meta(ge=1, le=50_000, description="Most recipients of one message.")] = 1000
    max_connections: Annotated[int, Meta(ge=1, le=1_000_000, description="Most open connections on each port.")] = (
        20_000
    )
    smtp_open_from: Annotated[
        tuple[str, ...], Meta(description="Networks (CIDR) whose hosts may submit by SMTP without AUTH.")
    ] = ()
    auth_failures_per_minute: Annotated[
        int,
        Meta(
            ge=0,
            le=100_000,
            description="Failed sign-ins of one address (IPv6: /64) a minute after which further ones are refused "
            "unseen. 0: no limit.",
        ),
    ] = 30
    auth_unlimited_from: Annotated[
        tuple[str, ...], Meta(description="Networks (CIDR) whose failed sign-ins are not limited.")
    ] = ("127.0.0.0/8", "::1/128")
    trusted_proxies: Annotated[
        tuple[str, ...],
        Meta(description="Networks (CIDR) of reverse proxies that are believed about the address of their clients."),
    ] = ()
    trusted_proxy_header: Annotated[
        Literal["x-forwarded-for", "forwarded"],
        Meta(description="The header field in which they name it. The other one is not looked at."),
    ] = "x-forwarded-for"
    relay_connections: Annotated[
        int, Meta(ge=1, le=10_000, description="Most connections to the provider at a time.")
    ] = 20
    retry_schedule_s: Annotated[
        tuple[Annotated[int, Meta(ge=1)], ...],
        Meta(min_length=1, description="Seconds to wait after each failed attempt; the last one repeats."),
    ] = (60, 300, 900, 3600, 14_400)
    lifetime_s: Annotated[
        int, Meta(ge=60, le=30 * 86_400, description="Age in seconds after which a recipient expires.")
    ] = 72 * 3600
    uncertain_retries: Annotated[
        int,
        Meta(
            ge=0, le=100, description="How often to try again when it is unknown whether the provider took it. 0: hold."
        ),
    ] = 1
    content_days: Annotated[
        int,
        Meta(ge=0, le=36_500, description="Days after which the content of a finished message is removed. 0: never."),
    ] = 7
    message_days: Annotated[
        int, Meta(ge=0, le=36_500, description="Days after which a finished message is removed. 0: never.")
    ] = 30
    allow_cleartext_auth: Annotated[
        bool, Meta(description="Let provider passwords travel unencrypted to hosts other than loopback.")
    ] = False
    ca_file: Annotated[
        str, Meta(description="PEM file of certificate authorities trusted beside the system's, for providers.")
    ] = ""
    egress_deny: Annotated[
        tuple[str, ...],
        Meta(
            description='Networks (CIDR, "private", "loopback") where no provider may be. '
            "Link-local, metadata and multicast addresses are denied always."
        ),
    ] = ()
    final_reply_s: Annotated[
        float, Meta(gt=0, le=3600, description="Longest wait for the answer to the final dot, in seconds.")
    ] = 600.0
    command_s: Annotated[
        float, Meta(gt=0, le=600, description="Longest wait for any other answer of a provider, in seconds.")
    ] = 30.0
    probe_s: Annotated[
        float,
        Meta(
            ge=0,
            le=86_400,
            description="Seconds between two logins without mail to each SMTP provider in use, unless it logs in by "
            "token. 0: none.",
        ),
    ] = 300.0
    shutdown_s: Annotated[
        float, Meta(ge=0, le=3600, description="Seconds that calls and attempts in flight get to finish.")
    ] = 30.0

    @property
    def http_address(self) -> tuple[str, int]:
        return _address("http", self.http)

    @property
    def smtp_address(self) -> tuple[str, int] | None:
        return _address("smtp", self.smtp) if self.smtp else None

    @property
    def host(self) -> str:
        """The name that others see, never empty."""
        return self.hostname or socket.getfqdn()


Origin = Literal["default", "file", "environment", "flag"]


@dataclass(frozen=True)
class Loaded:
    """Settings and where each came from."""

    settings: Settings
    origins: Mapping[str, Origin]


def names() -> tuple[str, ...]:
    """Return the settings' names, in the order in which they are documented."""
    return Settings.__struct_fields__


def description(name: str) -> str:
    """Return the documentation of setting `name`."""
    hint = get_type_hints(Settings, include_extras=True)[name]
    return next(meta.description for meta in hint.__metadata__ if isinstance(meta, Meta) and meta.description)


def default(name: str) -> Any:
    """Return the default of setting `name`."""
    return getattr(_DEFAULTS, name)


def load(file: str | None, flags: Mapping[str, Any], environ: Mapping[str, str] | None = None) -> Loaded:
    """Read the settings. `flags` holds those given on the command line; `file` is a TOML file, or None.

    Raises InvalidArgument naming the setting and its source.
    """
    values: dict[str, Any] = {}
    origins: dict[str, Origin] = dict.fromkeys(names(), "default")
    sources: list[tuple[Origin, str, Mapping[str, Any]]] = [
        ("file", file or "", _from_file(file) if file else {}),
        ("environment", "the environment", _from_environment(os.environ if environ is None else environ)),
        ("flag", "the command line", flags),
    ]
    for origin, place, found in sources:
        for name, value in found.items():
            secret = name.removesuffix("_file")
            if name != secret and secret in SECRETS:
                name, value = secret, _read_secret(name, value, place)
            if name not in names():
                raise InvalidArgument("CONFIG-unknown", f"unknown setting {name!r} in {place}{_nearest(name)}")
            values[name], origins[name] = _checked(name, value, place), origin
    settings = Settings(**values)
    _check_together(settings)
    return Loaded(settings, origins)


def shown(settings: Settings) -> dict[str, Any]:
    """Return the settings as plain data, secrets replaced by "***"."""
    plain = {name: getattr(settings, name) for name in names()}
    return {name: "***" if name in SECRETS and value else value for name, value in plain.items()}


def _from_file(file: str) -> Mapping[str, Any]:
    try:
        return tomllib.loads(Path(file).read_text())
    except OSError as error:
        raise InvalidArgument("CONFIG-file", f"cannot read {file}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidArgument("CONFIG-toml", f"{file} is not TOML: {error}") from None


def _from_environment(environ: Mapping[str, str]) -> Mapping[str, Any]:
    found = {key.removeprefix(PREFIX).lower(): value for key, value in environ.items() if key.startswith(PREFIX)}
    found.pop("config", None)  # names the file itself; the command line reads it
    return found


def _read_secret(name: str, file: Any, place: str) -> str:
    try:
        return Path(str(file)).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArgument("CONFIG-secret", f"{name} in {place}: cannot read {file}: {error}") from None


def _checked(name: str, value: Any, place: str) -> Any:
    hint = get_type_hints(Settings, include_extras=True)[name]
    if isinstance(value, str) and isinstance(default(name), tuple):
        value = [item.strip() for item in value.split(",") if item.strip()]
    try:
        return msgspec.convert(value, hint, strict=isinstance(value, bool))
    except msgspec.ValidationError as error:
        raise InvalidArgument("CONFIG-value", f"{name} in {place}: {error}") from None


def _check_together(settings: Settings) -> None:
    """Refuse what only a look at several settings shows to be wrong."""
    _address("http", settings.http)
    if settings.smtp:
        _address("smtp", settings.smtp)
    if bool(settings.tls_cert) != bool(settings.tls_key):
        raise InvalidArgument("CONFIG-tls", "tls_cert and tls_key go together: give both or neither")
    if settings.database and not settings.database.startswith(("postgresql://", "postgres://")):
        raise InvalidArgument("CONFIG-database", "database must be a postgresql:// URL, or empty for SQLite")
    if settings.role != "all" and not settings.database:
        raise InvalidArgument("CONFIG-role", f"role {settings.role} needs a database that other nodes share")
    if settings.role == "smtp" and not settings.smtp:
        raise InvalidArgument("CONFIG-door", "role smtp needs an address for the door: smtp is empty")
    if settings.node_dead_after_s < 3 * settings.heartbeat_s:
        raise InvalidArgument("CONFIG-dead", "node_dead_after_s must be at least three times heartbeat_s")
    for network in settings.egress_deny:
        if network in ("private", "loopback"):
            continue
        try:
            ip_network(network)
        except ValueError as error:
            raise InvalidArgument("CONFIG-egress", f"egress_deny: {error}") from None
    for name in ("smtp_open_from", "auth_unlimited_from", "trusted_proxies"):
        try:
            networks(getattr(settings, name))
        except ValueError as error:
            raise InvalidArgument("CONFIG-network", f"{name}: {error}") from None


def _address(name: str, text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or not MIN_PORT <= int(port) <= MAX_PORT:
        raise InvalidArgument("CONFIG-address", f"{name} must be HOST:PORT, got {text!r}")
    return host.strip("[]") or "0.0.0.0", int(port)


def _nearest(name: str) -> str:
    close = difflib.get_close_matches(name, names(), n=1, cutoff=0.5)
    return f": did you mean {close[0]!r}?" if close else ""


_DEFAULTS = Settings()
