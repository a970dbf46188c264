"""What can be set for one SMTP provider beyond ZITADEL's wire, and how it is stored (pure)."""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from mailward.errors import InvalidArgument
from mailward.transport.endpoint import parse_endpoint

TLS_MODES = ("none", "starttls", "implicit", "auto")
CLIENT_AUTH_METHODS = ("client_secret_post", "client_secret_basic")  #: RFC 7591 2
GRANTS = ("client_credentials", "refresh_token", "private_key_jwt", "jwt_bearer")

#: Names under which secrets beside the password are kept.
CLIENT_KEY = "client_key"
CLIENT_SECRET = "oauth_client_secret"
REFRESH_TOKEN = "oauth_refresh_token"
PRIVATE_KEY = "oauth_private_key"
OAUTH_SECRETS = (CLIENT_SECRET, REFRESH_TOKEN, PRIVATE_KEY)

#: Which secret a grant cannot do without.
NEEDED = {
    "client_credentials": CLIENT_SECRET,
    "refresh_token": REFRESH_TOKEN,
    "private_key_jwt": PRIVATE_KEY,
    "jwt_bearer": PRIVATE_KEY,
}
_EHLO_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.IPv]+\]")
_THUMBPRINT = re.compile(r"[0-9A-Fa-f]{40}|[0-9A-Fa-f]{64}")
_LIMITS_S = {"connect_s": 600, "command_s": 600, "data_s": 3600, "final_s": 3600}


@dataclass(frozen=True, slots=True, kw_only=True)
class OAuthOptions:
    """How a token is fetched (RFC 6749, 7523), its secrets apart."""

    grant: str  #: one of GRANTS
    token_endpoint: str
    client_id: str = ""
    scopes: tuple[str, ...] = ()
    key_id: str = ""
    certificate_thumbprint: str = ""  #: SHA-1 or SHA-256, in hex
    subject: str = ""
    client_auth_method: str = ""  #: one of CLIENT_AUTH_METHODS; "": the first

    @property
    def audience(self) -> tuple[str, str]:
        """For whom its secrets are: they go to this token endpoint, as this client's, and nowhere else."""
        return self.token_endpoint, self.client_id


def meant_on_wire(given: OAuthOptions, stored: OAuthOptions | None) -> OAuthOptions:
    """Return what a client of ZITADEL's means by `given` where `stored` is set: its wire has not all the words."""
    if stored is None or stored.audience != given.audience:
        return given
    return replace(given, client_auth_method=stored.client_auth_method)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Zero values follow the server's settings."""

    tls_mode: str = ""  #: one of TLS_MODES; "": as the wire's `tls` says
    ehlo_name: str = ""
    ca_bundle: str = ""  #: PEM
    certificate_pins: tuple[str, ...] = ()  #: SHA-256 of the SubjectPublicKeyInfo, 64 hex digits each
    client_certificate: str = ""  #: PEM
    allow_cleartext_auth: bool | None = None
    connect_s: float = 0.0
    command_s: float = 0.0
    data_s: float = 0.0
    final_s: float = 0.0
    max_connections: int = 0
    messages_per_connection: int | None = None  #: 0: no limit
    notes: str = ""
    oauth: OAuthOptions | None = field(default=None)


NOTHING_SET = Options()


def tls_of(tls: bool, mode: str) -> str:
    """Return the mode in use: what was set, as long as it agrees with the wire's `tls`, which anyone may change."""
    if mode and (mode != "none") == tls:
        return mode
    return "auto" if tls else "none"


def to_plain(options: Options) -> dict[str, Any]:
    """Return `options` as JSON-able data without what was not set."""
    plain = {name: value for name, value in asdict(options).items() if value != getattr(NOTHING_SET, name)}
    if options.oauth is not None:
        plain["oauth"] = {name: value for name, value in asdict(options.oauth).items() if value}
        plain["oauth"]["scopes"] = list(options.oauth.scopes)
    if options.certificate_pins:
        plain["certificate_pins"] = list(options.certificate_pins)
    return plain


def from_plain(plain: Mapping[str, Any]) -> Options:
    """Return the options that `to_plain` made `plain` of. Names of a later version are ignored."""
    known = {name: value for name, value in plain.items() if name in Options.__dataclass_fields__}
    if "certificate_pins" in known:
        known["certificate_pins"] = tuple(known["certificate_pins"])
    if known.get("oauth") is not None:
        oauth = {name: value for name, value in known["oauth"].items() if name in OAuthOptions.__dataclass_fields__}
        known["oauth"] = OAuthOptions(**oauth | {"scopes": tuple(oauth.get("scopes", ()))})
    return Options(**known)


def check(options: Options, secrets: Mapping[str, object]) -> None:
    """Refuse options that could never work. `secrets`: by name, those that are there. Raises InvalidArgument."""
    if options.tls_mode and options.tls_mode not in TLS_MODES:
        raise InvalidArgument(
            "PROVIDER-tls", f"a TLS mode is one of {', '.join(TLS_MODES)}", pointer="/settings/tls_mode"
        )
    if options.ehlo_name and not _EHLO_NAME.fullmatch(options.ehlo_name):
        raise InvalidArgument("PROVIDER-ehlo", "this is no host name or address literal", pointer="/settings/ehlo_name")
    for name, limit in _LIMITS_S.items():
        if not 0 <= getattr(options, name) <= limit:
            raise InvalidArgument(
                "PROVIDER-deadline", f"a deadline is 0 to {limit} seconds", pointer=f"/settings/deadlines/{name}"
            )
    if bool(options.client_certificate) != (CLIENT_KEY in secrets):
        raise InvalidArgument(
            "PROVIDER-pair", "a client certificate and its key go together", pointer="/settings/client_certificate"
        )
    if options.oauth is not None:
        _check_oauth(options.oauth, secrets)


def _check_oauth(oauth: OAuthOptions, secrets: Mapping[str, object]) -> None:
    if oauth.grant not in GRANTS:
        raise InvalidArgument("PROVIDER-grant", f"a grant is one of {', '.join(GRANTS)}", pointer="/settings/oauth")
    try:
        endpoint = parse_endpoint(oauth.token_endpoint)
    except ValueError as error:
        raise InvalidArgument("PROVIDER-endpoint", str(error), pointer="/settings/oauth/token_endpoint") from None
    if not endpoint.is_https and not _is_loopback(endpoint.host):
        raise InvalidArgument(
            "PROVIDER-clear",
            "a token endpoint has an https URL, but on loopback",
            pointer="/settings/oauth/token_endpoint",
        )
    if not oauth.client_id:
        raise InvalidArgument("PROVIDER-client", "a client id is needed", pointer="/settings/oauth/client_id")
    if oauth.certificate_thumbprint and not _THUMBPRINT.fullmatch(oauth.certificate_thumbprint):
        raise InvalidArgument(
            "PROVIDER-thumb",
            "a thumbprint is a SHA-1 or SHA-256 in hex",
            pointer="/settings/oauth/certificate_thumbprint",
        )
    if oauth.client_auth_method and oauth.client_auth_method not in CLIENT_AUTH_METHODS:
        raise InvalidArgument(
            "PROVIDER-method",
            f"a client secret is shown by one of {', '.join(CLIENT_AUTH_METHODS)}",
            pointer="/settings/oauth/client_auth_method",
        )
    needed = NEEDED[oauth.grant]
    if needed not in secrets:
        raise InvalidArgument(
            "PROVIDER-secret",
            f"the grant {oauth.grant} needs {needed}, also once more when token endpoint, client id or host change",
            pointer=f"/{needed}",
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
