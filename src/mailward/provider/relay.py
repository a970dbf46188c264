"""From a stored provider to what the transport needs, its secrets opened at the last moment."""

from collections.abc import Callable
from dataclasses import dataclass, field

from mailward.ids import ProviderId
from mailward.provider import hostport
from mailward.provider.queries import StoredRelay
from mailward.provider.routing import Hop
from mailward.secretbox import SecretError, SecretText
from mailward.transport.base import Deadlines, HTTPRelay, RelaySettings, TlsMode
from mailward.transport.endpoint import parse_endpoint


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


def open_relay(
    stored: StoredRelay,
    defaults: RelayDefaults,
    open_password: Callable[[StoredRelay], SecretText | None],
    open_signing_key: Callable[[StoredRelay], SecretText | None],
) -> Relay:
    """Return what the worker needs to send through `stored`. Never raises for what is stored there."""
    try:
        if stored.kind == "http":
            parse_endpoint(stored.endpoint)
            return HTTPRelay(
                provider_id=stored.id,
                endpoint=stored.endpoint,
                signing_key=open_signing_key(stored) or SecretText(""),
                description=stored.description,
                ca_file=defaults.ca_file,
                max_connections=defaults.max_connections,
                deadlines=defaults.deadlines,
            )
        return settings(
            stored.host,
            tls=stored.tls,
            user=stored.user,
            password=open_password(stored),
            id=stored.id,
            defaults=defaults,
        )
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
