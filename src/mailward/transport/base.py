"""What every way out to a provider has in common: the settings of a relay and the Transport protocol."""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, Self

from mailward.ids import ProviderId
from mailward.message.content import Content
from mailward.message.envelope import Envelope
from mailward.secretbox import SecretText
from mailward.transport.outcome import Outcome
from mailward.transport.trouble import Trouble

#: Called with None when a message may be handed over, with an error when it must not be.
Go = Callable[[Exception | None], None]


class TlsMode(StrEnum):
    """How a connection to a relay is protected. No mode ever falls back to a weaker one."""

    NONE = "none"
    STARTTLS = "starttls"
    IMPLICIT = "implicit"
    AUTO = "auto"  #: ZITADEL's `tls: true`: implicit on port 465 or where only TLS is spoken, STARTTLS elsewhere


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds to wait at each stage. Only `final_s` must be long: giving up there is what makes duplicates."""

    connect_s: float = 10.0  #: resolving, all addresses together, and the TLS handshake, each
    command_s: float = 10.0  #: banner, and the reply to any command but the final dot
    tls_probe_s: float = 3.0  #: silence instead of a banner after which AUTO tries implicit TLS
    data_s: float = 60.0  #: without any progress while content is written
    final_s: float = 600.0  #: the reply to the final dot (RFC 5321 4.5.3.2.6 asks for ten minutes)


@dataclass(frozen=True, slots=True, kw_only=True)
class OAuthSettings:
    """Where and how to fetch a token for a login (RFC 6749, 7523). Equal settings share one token.

    A refresh token is not among them: the server replaces it as it likes (see tokens.RefreshTokens).
    """

    grant: str  #: "client_credentials", "refresh_token", "private_key_jwt" or "jwt_bearer"
    token_endpoint: str  #: an absolute https URL; http to loopback only
    client_id: str  #: of jwt_bearer: the issuer
    scopes: tuple[str, ...] = ()
    client_auth_method: str = ""  #: "client_secret_basic"; anything else: in the form
    client_secret: SecretText | None = None
    private_key: SecretText | None = None  #: PEM, RSA or P-256
    key_id: str = ""  #: "kid" of an assertion; "" = none
    certificate_thumbprint: str = ""  #: of an assertion: hex of SHA-1 ("x5t") or SHA-256 ("x5t#S256"); "" = none
    subject: str = ""  #: of jwt_bearer: on whose behalf; "" = nobody's
    revision: int = 0  #: of the provider: after a change nothing of before is used


@dataclass(frozen=True, slots=True, kw_only=True)
class RelaySettings:
    """Where and how to reach one relay."""

    provider_id: ProviderId
    host: str  #: name or address literal without brackets
    port: int  #: 1-65535
    tls: TlsMode
    user: str = ""  #: "" = no AUTH
    password: SecretText | None = None  #: None = no AUTH, whatever `user` says
    ehlo_name: str  #: our name in EHLO; never "localhost" towards the world
    cleartext_auth: bool = False  #: True: the password may travel unencrypted (to loopback it always may)
    #: The password before the last change: tried where `password` is refused, as servers learn of it at their pace.
    old_password: SecretText | None = None
    oauth: OAuthSettings | None = None  #: log in as `user` by a token from here instead of `password`
    ca_file: str = ""  #: PEM file of further trusted roots; "" = the system's only
    ca_bundle: str = ""  #: more of them, as PEM text
    #: SHA-256 of the server's SubjectPublicKeyInfo in hex, one of these; then nothing else of its certificate matters.
    pins: tuple[str, ...] = ()
    client_certificate: str = ""  #: PEM; "" = none
    client_key: SecretText | None = None
    max_connections: int = 20
    messages_per_connection: int = 100  #: 0 = no limit
    idle_s: float = 30.0  #: a connection unused for longer is closed
    max_age_s: float = 600.0  #: a connection older than this takes no further message
    deadlines: Deadlines = field(default_factory=Deadlines)


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPRelay:
    """A provider that takes mail by HTTP POST, signed."""

    provider_id: ProviderId
    endpoint: str  #: an absolute http or https URL
    signing_key: SecretText
    old_signing_key: SecretText | None = None  #: the one before, for a receiver that does not know the new one yet
    description: str = ""  #: shown to the receiver
    ca_file: str = ""  #: as in RelaySettings, like all that follow
    max_connections: int = 20
    messages_per_connection: int = 0
    idle_s: float = 3.0  #: shorter than servers keep them: one that hangs up under a request leaves a doubt
    deadlines: Deadlines = field(default_factory=Deadlines)


ProviderSettings = RelaySettings | HTTPRelay


class NotNow(Exception):
    """The gate is closed: nothing was begun, and nobody is at fault."""


class Gate(Protocol):
    """Asked before a connection is opened, and told how that went: so logins to a provider in trouble stay few."""

    async def enter(self) -> None:
        """Wait for leave to open a connection. Raises NotNow. Otherwise `left` must follow."""
        ...

    def left(self, trouble: Trouble | None, *, opened: bool) -> None:
        """The connection is `opened`, or failed with `trouble`, or neither, when the opening was cancelled."""
        ...


class Handover(Protocol):
    """A message that is to be handed over once, as a conversation sees it."""

    envelope: Envelope
    content: Content  #: an RFC 5322 message with CRLF line ends, not dot-stuffed

    def before_handover(self, go: Go) -> None:
        """Called once before the point of no return, which waits for `go`: called at once or later."""
        ...

    def follow(self) -> "Self | None":
        """Return what may be begun on the same connection behind the final dot of this one; None: nothing.

        Once this one has ended that takes its place, or it is told `not_now`.
        """
        ...

    def not_now(self) -> None:
        """Nothing was begun, and nobody is at fault: a gate is closed, or what it followed takes too long."""
        ...


class Delivery(Handover, Protocol):
    """The same, as a transport sees it: exactly one of `ended`, `not_now` and `broke` follows."""

    def ended(self, outcomes: list[Outcome]) -> None:
        """Take one outcome per recipient, in the envelope's order. Trouble of the peer is an outcome."""
        ...

    def broke(self, error: Exception) -> None:
        """A fault of ours ended it; what had gone out by then had gone out."""
        ...


class Transport(Protocol):
    """A way out to one provider, used by many deliveries at once."""

    def send(self, delivery: Delivery) -> None:
        """Try once to hand a message over, and tell `delivery` how it ended: perhaps before this returns.

        When `go` gets an error, nothing is handed over and every outcome is Deferred.
        """
        ...

    async def probe(self) -> Outcome | None:
        """Find out without a message whether the provider works: Accepted, Deferred, or None when that takes one."""
        ...

    def abort(self) -> None:
        """Cut all that is under way. Its deliveries hear no more."""
        ...

    async def aclose(self) -> None:
        """Close what is idle; conversations under way end with their transaction."""
        ...
