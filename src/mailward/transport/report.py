"""The staged report of one conversation: what was tried, what the server said, what is wrong and what to do."""

from collections.abc import Callable
from dataclasses import dataclass

from mailward.smtp.reply import Reply
from mailward.transport.base import TlsMode
from mailward.transport.outcome import Stage
from mailward.transport.trouble import Trouble, refused

CODES: dict[str, tuple[str, str]] = {
    # stable code: (likely cause, what to do)
    "invalid_host": ("The host is not of the form host:port.", "Correct the provider's host."),
    "invalid_sender": ("The sender address is no address.", "Correct the provider's sender address."),
    "secret_bound": (
        "The host, port, TLS mode or user changed after the password was entered.",
        "Set the password again: a stored secret is used for nothing but what it was entered for.",
    ),
    "host_not_found": ("The host name does not resolve.", "Check the spelling of the host and this machine's DNS."),
    "resolve_failed": (
        "No DNS server could say whether the host name exists.",
        "Check this machine's DNS settings and network; try again later.",
    ),
    "resolve_timeout": ("The DNS server does not answer.", "Check this machine's DNS settings."),
    "egress_denied": ("The egress policy forbids every address of the host.", "Allow the address or use another host."),
    "connect_refused": (
        "Nothing listens on this port, or a firewall rejects the connection.",
        "Check the port: 587 and 465 are usual for submission, 25 for relays.",
    ),
    "connect_timeout": (
        "A firewall drops the connection, or the host is down.",
        "Check host and port; many hosting companies block port 25 outwards, so try 587 or 465.",
    ),
    "connect_unreachable": ("There is no route to the host.", "Check this machine's network and firewall."),
    "tls_untrusted_certificate": (
        "The server's certificate is not signed by an authority that this machine trusts.",
        "Use the name the provider gives for its server; set its authority as CA bundle, or pin the server's key.",
    ),
    "tls_name_mismatch": (
        "The server's certificate is for another name.",
        "Use the host name that the certificate carries.",
    ),
    "tls_pin_mismatch": (
        "The server's certificate has another key than the pinned one: it was renewed, or somebody is in between.",
        "Ask the provider about its new key, and pin that.",
    ),
    "tls_setup_failed": (
        "The CA file, CA bundle or client certificate that is set here cannot be used.",
        "Check that they are complete PEM texts.",
    ),
    "tls_certificate_expired": (
        "The server's certificate is out of date, or the clock of this machine is wrong.",
        "Have the certificate renewed; check the clock.",
    ),
    "tls_handshake_failed": (
        "Client and server share no cipher, the server wants a client certificate, or it hung up.",
        "Check that the server speaks TLS 1.2 or later on this port; see its log.",
    ),
    "tls_version_unsupported": (
        "The server speaks only versions of TLS that are no longer safe: 1.1 or older.",
        "Have TLS 1.2 or later switched on there, or use another host or port of the provider.",
    ),
    "tls_client_certificate_refused": (
        "The server wants a client certificate, and was shown none or one that it does not trust.",
        "Set the client certificate and key that the provider knows.",
    ),
    "tls_timeout": (
        "The server accepts connections but does not speak TLS on this port.",
        "Use STARTTLS, or the provider's port for implicit TLS (465).",
    ),
    "tls_port_speaks_plain": (
        "TLS from the start was expected, but the server speaks plain SMTP on this port.",
        "Use STARTTLS, or the provider's port for implicit TLS (465).",
    ),
    "plain_port_speaks_tls": (
        "The server expects TLS from the start on this port.",
        "Switch TLS on (implicit), or use port 587 with STARTTLS.",
    ),
    "starttls_not_offered": (
        "TLS is wanted, but the server does not offer STARTTLS.",
        "Use the provider's TLS port, or switch TLS off if the network is trusted.",
    ),
    "starttls_refused": (
        "The server offers STARTTLS but refuses it.",
        "Try again later; if it stays, ask the provider, whose certificate may be missing.",
    ),
    "banner_refused": (
        "The server refuses to talk to this machine.",
        "Check whether this machine's address is allowed there.",
    ),
    "ehlo_refused": ("The server does not accept our name.", "Set the EHLO name to this machine's public host name."),
    "auth_rejected": (
        "User or password is wrong, or the account may not send by SMTP.",
        "Check both; many providers want an API key or an app password here.",
    ),
    "auth_method_refused": (
        "The account may not log in with its own password: it wants an app password, or another kind of login.",
        "Make an app password at the provider; the server's words may say where.",
    ),
    "auth_unavailable": (
        "The server cannot check logins now, or there were too many.",
        "Try again later; user and password may well be right.",
    ),
    "auth_required": (
        "The server takes mail only after a login.",
        "Set the user and the password that the provider gave you.",
    ),
    "tls_required": (
        "The server takes logins and mail over TLS only.",
        "Switch TLS on: STARTTLS on port 587, implicit on 465.",
    ),
    "auth_not_offered": (
        "A login is set, but the server offers none.",
        "Switch TLS on (many servers offer login only then), or remove user and password.",
    ),
    "auth_mechanism_unsupported": (
        "The server offers only login mechanisms that are not supported.",
        "Have PLAIN or LOGIN enabled at the provider.",
    ),
    "token_not_offered": (
        "The server offers neither OAUTHBEARER nor XOAUTH2.",
        "Check host and port; some servers offer them over TLS only. Otherwise use a password.",
    ),
    "token_rejected": (
        "The token was issued, but the mail server does not take it for this user.",
        "Check the user (the mailbox), the scopes, and that this client may send for it; Microsoft 365 also needs SMTP "
        "AUTH enabled for the mailbox, and for client credentials a service principal in Exchange.",
    ),
    "token_unavailable": (
        "The token endpoint cannot be reached, or is in trouble itself.",
        "Check its URL, and whether this machine may connect to it; try again later.",
    ),
    "token_refused": (
        "The authorisation server issues no token for these settings.",
        "See its words; check grant, client id, secret and scopes.",
    ),
    "token_unusable": (
        "What answers there is no token endpoint, or issues tokens of another kind.",
        "Check the URL of the token endpoint.",
    ),
    "auth_cleartext_forbidden": (
        "The password or token would travel unencrypted, so it was not sent.",
        "Switch TLS on, or allow clear-text login for this provider.",
    ),
    "mail_refused": (
        "The server refuses the sender address.",
        "Verify the sender address or its domain at the provider.",
    ),
    "rcpt_refused": (
        "The server refuses the recipient.",
        "Check the recipient's address.",
    ),
    "rcpt_deferred": (
        "The server does not take the recipient yet: greylisting, a full mailbox, or too many at once.",
        "Try again in some minutes; greylisting ends by itself.",
    ),
    "relay_denied": (
        "The server does not relay for this machine or user.",
        "Set user and password, or have this machine's address or the sender's domain allowed there.",
    ),
    "quota_exceeded": (
        "The provider's quota or rate is used up, or its storage is full.",
        "Try again later; set limits for the provider below what it allows, or have its quota raised.",
    ),
    "temporarily_refused": (
        "The server does not take mail just now.",
        "Try again later; see the server's words.",
    ),
    "data_refused": ("The server refuses to take content.", "See the server's words."),
    "content_refused": (
        "The server took the content and refused it.",
        "See the server's words; content or sender may look like spam.",
    ),
    "message_too_large": ("The message is larger than the server takes.", "Send less, or use another provider."),
    "smtputf8_not_offered": (
        "An address needs SMTPUTF8, which the server does not offer.",
        "Use an ASCII address, or a provider with SMTPUTF8.",
    ),
    "invalid_address": ("An address contains a line end.", "Correct the address."),
    "service_unavailable": ("The server is shutting down or limits connections.", "Try again later."),
    "connection_lost": ("The server or the network closed the connection.", "Try again; see the server's log."),
    "timeout": ("The server does not answer.", "Check that host and port belong to a mail server; try again later."),
    "protocol_error": ("What answers there does not speak SMTP.", "Check host and port."),
    "final_unanswered": (
        "The message was handed over, but the server's answer was lost.",
        "It may have been delivered: look before sending it again. A test can wait longer, see its deadline.",
    ),
    "handover_failed": ("The hand-over could not be recorded here.", "See this server's log."),
}


@dataclass(frozen=True, slots=True)
class Step:
    """One stage of the conversation."""

    stage: Stage
    elapsed_ms: float  #: how long this stage took
    words: str  #: the server's reply ("250 2.1.0 ok"), or our sentence for stages without one; never a secret
    ok: bool


@dataclass(frozen=True, slots=True)
class Failure:
    """Why the conversation did not succeed."""

    stage: Stage
    code: str  #: stable, a key of CODES
    reply: Reply | None  #: the server's reply when there was one; None for trouble seen only here
    words: str  #: what happened, in one line: the server's reply or our sentence
    cause: str  #: a sentence: the likely cause
    fix: str  #: a sentence: what to do


@dataclass(frozen=True, slots=True)
class Report:
    """What happened, stage by stage."""

    steps: tuple[Step, ...]
    failure: Failure | None  #: None: handed over to every recipient
    tls: TlsMode  #: what was used or being tried when it ended: NONE, STARTTLS or IMPLICIT, never AUTO

    @property
    def ok(self) -> bool:
        return self.failure is None


class Recorder:
    """Notes the steps of a conversation under way."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock`: seconds, monotonic."""
        self.tls = TlsMode.NONE
        self._steps: list[Step] = []
        self._clock = clock
        self._since = clock()

    def note(self, stage: Stage, words: str, *, ok: bool = True) -> None:
        """Note that `stage` ended now."""
        now = self._clock()
        self._steps.append(Step(stage, round((now - self._since) * 1000, 3), words, ok))
        self._since = now

    def report(self, failure: Failure | None) -> Report:
        return Report(tuple(self._steps), failure, self.tls)


def failure_of(trouble: Trouble) -> Failure:
    """Return what `trouble` means to the operator."""
    reply = trouble.reply if trouble.from_server else None
    words = str(trouble.reply) if trouble.from_server else trouble.reply.text
    return Failure(trouble.stage, trouble.code, reply, words, *(trouble.advice or CODES[trouble.code]))


def refusal(stage: Stage, reply: Reply) -> Failure:
    """Return what the server's refusal `reply` in a transaction means to the operator."""
    return failure_of(refused(stage, reply))
