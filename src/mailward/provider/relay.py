"""From a stored provider to what the transport needs, its secrets opened at the last moment."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace

from mailward.ids import ProviderId
from mailward.provider import hostport
from mailward.provider import options as opt
from mailward.provider.options import OAuthOptions, Options, tls_of
from mailward.provider.queries import StoredRelay
from mailward.provider.routing import Hop
from mailward.secretbox import SecretError, SecretText
from mailward.transport.base import Deadlines, HTTPRelay, OAuthSettings, RelaySettings, TlsMode
from mailward.transport.endpoint import parse_endpoint

#: The names of the secrets before the last change, among opened ones.
OLD_PASSWORD = "old_password"
OLD_SIGNING_KEY = "old_signing_key"


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayDefaults:
    """What the wire cannot say about a provider and the operator says for all of them."""

    ehlo_name: str
    cleartext_auth: bool = False  #: a password may travel unencrypted to others than loopback
    ca_file: str = ""  #: PEM file of further trusted roots
    max_connections: int = 20  #: to the relay at a time
    deadlines: Deadlines = field(default_factory=Deadlines)
    #: How long a change made by another process may stay unseen, microseconds. Those of this process are seen at once.
    ttl_us: int = 1_000_000


@dataclass(frozen=True, slots=True)
class UnusableRelay:
    """The active provider cannot be used as it is stored: mail waits, and says why."""

    provider_id: ProviderId
    reason: str  #: a sentence with the fix in it


Relay = RelaySettings | HTTPRelay | UnusableRelay


def hop_of(relay: Relay, stored: StoredRelay) -> Hop | None:
    """Return `relay` with what it may get, or None when it cannot be used."""
    if isinstance(relay, UnusableRelay):
        return None
    limits = stored.limits
    return Hop(
        settings=relay,
        revision=stored.sequence,
        limits=limits.send,
        uncertain_retries=limits.uncertain_retries,
    )


class NoPort(ValueError):
    """The host is not of the form host:port."""


class BadPort(ValueError):
    """The port is neither a number from 1 to 65535 nor a known service."""


def moved(stored: StoredRelay, host: str, *, tls: bool, user: str) -> list[str]:
    """Return the names of what differs from what the secret of `stored` was entered for: it is not to be used then.

    So whoever may change a provider, but does not know its password, cannot have it sent to a server of their own.
    """
    bound_to = stored.bound_to
    if stored.options.oauth is not None:  # Its secrets do not outlive a change of the host: see configuring.log_in_by.
        bound_to = (stored.host, stored.tls, stored.user)
    if bound_to is None:
        return []
    here = {"host or port": host, "the TLS mode": tls, "the user": user}
    return [name for (name, value), bound in zip(here.items(), bound_to, strict=True) if value != bound]


def moved_since(stored: StoredRelay) -> list[str]:
    """Return what `moved` does of `stored` as it stands; nothing when it logs in with no secret."""
    if not stored.user:
        return []
    return moved(stored, stored.host, tls=stored.tls, user=stored.user)


def open_relay(
    stored: StoredRelay,
    defaults: RelayDefaults,
    open_password: Callable[[StoredRelay], SecretText | None],
    open_signing_key: Callable[[StoredRelay], SecretText | None],
    open_secrets: Callable[[StoredRelay], Mapping[str, SecretText]],
) -> Relay:
    """Return what the worker needs to send through `stored`. Never raises for what is stored there.

    `open_secrets`: those beside the password, and during their grace time the old ones by their names.
    """
    try:
        if stored.kind == "http":
            parse_endpoint(stored.endpoint)
            return HTTPRelay(
                provider_id=stored.id,
                endpoint=stored.endpoint,
                signing_key=open_signing_key(stored) or SecretText(""),
                old_signing_key=open_secrets(stored).get(OLD_SIGNING_KEY),
                description=stored.description,
                ca_file=defaults.ca_file,
                max_connections=defaults.max_connections,
                deadlines=defaults.deadlines,
            )
        if different := moved_since(stored):
            was = f"the password was entered before {' and '.join(different)} changed"
            return UnusableRelay(stored.id, f"{was}, and is used for nothing else; set the password again")
        plain = settings(
            stored.host,
            tls=stored.tls,
            user=stored.user,
            password=open_password(stored),
            id=stored.id,
            defaults=defaults,
        )
        return with_options(plain, stored, open_secrets(stored))
    except (NoPort, BadPort) as error:
        return UnusableRelay(stored.id, f"{error}; change the provider's host")
    except SecretError as error:
        return UnusableRelay(stored.id, f"{error.message}; or set the password again")
    except ValueError as error:
        return UnusableRelay(stored.id, f"{error}; change the provider's endpoint")


def settings(
    host: str,
    *,
    tls: bool,
    user: str,
    password: SecretText | None,
    id: ProviderId,
    defaults: RelayDefaults,
    deadlines: Deadlines | None = None,
) -> RelaySettings:
    """Return the settings for "host:port" (no host: this machine, as the original dials). Raises NoPort, BadPort.

    AUTH needs both a user and a password; one alone is not used.
    """
    try:
        name, port_text = hostport.split(host)
    except ValueError as error:
        raise NoPort(str(error)) from None
    port = hostport.port_number(port_text)
    if port is None:
        raise BadPort(f"the port {port_text!r} of {host!r} is neither a number from 1 to 65535 nor a known service")
    authenticates = bool(user and password)
    return RelaySettings(
        provider_id=id,
        host=name or "localhost",
        port=port,
        tls=TlsMode.AUTO if tls else TlsMode.NONE,
        user=user if authenticates else "",
        password=password if authenticates else None,
        ehlo_name=defaults.ehlo_name,
        cleartext_auth=defaults.cleartext_auth,
        ca_file=defaults.ca_file,
        max_connections=defaults.max_connections,
        deadlines=deadlines or defaults.deadlines,
    )


def with_options(settings: RelaySettings, stored: StoredRelay, secrets: Mapping[str, SecretText]) -> RelaySettings:
    """Return `settings` with what was set for `stored` beyond the wire. `secrets`: see open_relay."""
    options, old = stored.options, secrets.get(OLD_PASSWORD)
    result = replace(
        settings,
        tls=TlsMode(tls_of(stored.tls, options.tls_mode)),
        old_password=old if settings.password not in (None, old) else None,
        ehlo_name=options.ehlo_name or settings.ehlo_name,
        ca_bundle=options.ca_bundle,
        pins=options.certificate_pins,
        client_certificate=options.client_certificate,
        client_key=secrets.get(opt.CLIENT_KEY),
        max_connections=options.max_connections or settings.max_connections,
        deadlines=_deadlines(options, settings.deadlines),
    )
    if options.allow_cleartext_auth is not None:
        result = replace(result, cleartext_auth=options.allow_cleartext_auth)
    if options.messages_per_connection is not None:
        result = replace(result, messages_per_connection=options.messages_per_connection)
    if options.oauth is None:
        return result
    return by_token(result, stored.user, options.oauth, secrets, revision=stored.sequence)


def by_token(
    settings: RelaySettings, user: str, oauth: OAuthOptions, secrets: Mapping[str, SecretText], *, revision: int
) -> RelaySettings:
    """Return `settings` with a login of `user` by token instead of a password. `secrets`: by the names in `options`."""
    return replace(
        settings,
        user=user,
        password=None,
        old_password=None,
        oauth=OAuthSettings(
            **asdict(oauth),
            client_secret=secrets.get(opt.CLIENT_SECRET),
            private_key=secrets.get(opt.PRIVATE_KEY),
            revision=revision,
        ),
    )


def _deadlines(options: Options, given: Deadlines) -> Deadlines:
    return replace(
        given,
        connect_s=options.connect_s or given.connect_s,
        command_s=options.command_s or given.command_s,
        data_s=options.data_s or given.data_s,
        final_s=options.final_s or given.final_s,
    )
