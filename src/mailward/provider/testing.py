"""Test mails: one real message through settings that are stored or not yet, and what failed of it (spec 5)."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from email.headerregistry import AddressHeader, HeaderRegistry

from mailward.errors import FailedPrecondition, Internal, InvalidArgument, MailwardError, NotFound
from mailward.ids import MessageId, ProviderId
from mailward.message.draft import Draft, make_draft
from mailward.message.envelope import Envelope
from mailward.message.mime import compose
from mailward.provider import options as opt
from mailward.provider import relay
from mailward.provider.aggregate import BLANK
from mailward.provider.commands import Providers
from mailward.provider.configuring import TokenLogin
from mailward.provider.options import OAuthOptions
from mailward.provider.queries import StoredRelay
from mailward.secretbox import SecretText
from mailward.transport.base import Deadlines, RelaySettings, TlsMode
from mailward.transport.outcome import Stage
from mailward.transport.report import CODES, Failure, Report

_NO_ID = ProviderId("")
_HEADERS = HeaderRegistry()

Send = Callable[[RelaySettings, Envelope, bytes], Awaitable[Report]]

_NOT_FOUND = "SMTP configuration not found"
_SUBJECT = "Test email"
_TEXT = "This is a test message. That you read it shows that the email provider works: its settings reach you.\r\n"

#: Somebody waits for the answer: every stage has its say within ten seconds.
TEST_DEADLINES = Deadlines(connect_s=8.0, command_s=5.0, data_s=8.0, final_s=8.0)

_STAGES = {
    Stage.RESOLVE: "Looking up the host",
    Stage.CONNECT: "Connecting",
    Stage.TLS: "TLS",
    Stage.BANNER: "The server's greeting",
    Stage.EHLO: "EHLO",
    Stage.AUTH: "Login (AUTH)",
    Stage.MAIL: "The sender address (MAIL FROM)",
    Stage.RCPT: "The receiver address (RCPT TO)",
    Stage.DATA: "The content (DATA)",
    Stage.FINAL: "The content (DATA)",
    Stage.QUIT: "QUIT",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class UnsavedTest:
    """Settings to try before they are saved."""

    sender_address: str
    sender_name: str
    host: str
    tls: bool = False
    user: str = ""
    password: SecretText | None = None  #: None or empty: that of the stored provider `id`
    id: ProviderId = _NO_ID
    receiver: str  #: "a@b.c" or "Name <a@b.c>"
    without_auth: bool = False  #: the caller says that there is nothing to log in with (the newer `none` of the wire)
    oauth: TokenLogin | None = None  #: log in by token; without secrets: with those of the stored provider `id`


class BadHost(Internal):
    """The host of a provider cannot be connected to as it is written."""


class ProviderTests:
    """Sends test mails. Nothing is stored, no event is written, the provider need not be active."""

    def __init__(
        self, providers: Providers, send: Send, *, new_id: Callable[[], int], now_us: Callable[[], int]
    ) -> None:
        """`send`: transport.smtp.test, the code path of delivery."""
        self._providers = providers
        self._send = send
        self._new_id = new_id
        self._now_us = now_us

    async def unsaved(self, test: UnsavedTest) -> None:
        """Send a test mail through the settings in `test`; return when the server took it.

        A stored secret is used only with the host, port, TLS mode, user and login by token that are stored beside it:
        otherwise FailedPrecondition, and no connection is opened. A stored provider without a password is tried without
        AUTH.
        Raises InvalidArgument, NotFound, FailedPrecondition, and Internal with an EMAIL id when the test fails.
        """
        if not test.receiver:
            raise InvalidArgument("SMTP-p9uy", "Email address for test not found", pointer="/receiverAddress")
        if test.password or test.without_auth or (test.oauth is not None and test.oauth.secrets):
            settings = self._unsaved_settings(test)
        elif not test.id:
            raise InvalidArgument("SMTP-p9kj", "Password for test not found", pointer="/password")
        else:
            settings = await self._with_stored_secret(test)
        await self._try(test, settings)

    async def stored(self, id: ProviderId, receiver: str) -> None:
        """Send a test mail through the stored provider `id`; return when the server took it. Raises like `unsaved`."""
        if not id:
            raise InvalidArgument("SMTP-99oki", "ID missing", pointer="/id")
        found = await self._providers.stored(id)
        if found is None or found.kind != "smtp":
            raise NotFound("SMTP-99klw", _NOT_FOUND)
        if not receiver:
            raise InvalidArgument("SMTP-99yth", "Email address for test not found", pointer="/receiverAddress")
        await self._try(_as_test(found, receiver), self._stored_settings(found))

    async def report(self, id: ProviderId, receiver: str, deadlines: Deadlines = TEST_DEADLINES) -> Report:
        """Send a test mail through the stored SMTP provider `id` and return what happened, failure included.

        Raises NotFound, InvalidArgument for a `receiver` that is no address, SecretError.
        """
        found = await self.smtp_provider(id)
        test = _as_test(found, receiver)
        try:
            settings = self._stored_settings(found)
        except BadHost as error:
            return _never_begun(Stage.RESOLVE, "invalid_host", error)
        except FailedPrecondition as error:
            return _never_begun(Stage.AUTH, "secret_bound", error)
        try:
            return await self._send_test(test, replace(settings, deadlines=deadlines))
        except Internal as error:
            return _never_begun(Stage.MAIL, "invalid_sender", error)

    def login_settings(self, found: StoredRelay, password: SecretText) -> RelaySettings:
        """Return what it takes to log in to a stored SMTP provider with another `password`.

        Raises SecretError, BadHost.
        """
        settings = self._stored_settings(replace(found, password=None, bound_to=None))
        return replace(settings, user=found.user, password=password, oauth=None)

    def token_settings(self, found: StoredRelay, oauth: OAuthOptions, name: str, secret: SecretText) -> RelaySettings:
        """Return what it takes to log in to a stored SMTP provider by a token fetched with another `secret`.

        `name`: as in provider/options.py; a refresh token is not among the settings. Raises SecretError, BadHost.
        """
        # Not what is to be replaced, nor a password from before, which may be bound to another server.
        others = {other: sealed for other, sealed in found.secrets.items() if other != name}
        found = replace(found, password=None, secrets=others, options=replace(found.options, oauth=oauth))
        settings = self._stored_settings(found)
        secrets = {**self._providers.open_secrets(found), name: secret}
        return relay.by_token(settings, found.user, oauth, secrets, revision=found.sequence)

    async def smtp_provider(self, id: ProviderId) -> StoredRelay:
        """Return the stored SMTP provider `id`. Raises NotFound."""
        found = await self._providers.stored(id)
        if found is None or found.kind != "smtp":
            raise NotFound("PROVIDER-nosmtp", "no such SMTP provider")
        return found

    async def _with_stored_secret(self, test: UnsavedTest) -> RelaySettings:
        found = await self._providers.stored(test.id)
        if found is None or found.kind != "smtp":
            raise NotFound("SMTP-p9cc", _NOT_FOUND)
        if found.password is None and found.options.oauth is None and test.oauth is None:
            return self._unsaved_settings(test)
        different = relay.moved(found, test.host.strip(BLANK), tls=test.tls, user=test.user)
        stored = found.options.oauth
        if test.oauth is not None and opt.meant_on_wire(test.oauth.oauth, stored) != stored:
            different.append("the login by token")
        _check_bound(different)
        return self._stored_settings(found)

    def _stored_settings(self, found: StoredRelay) -> RelaySettings:
        """Return the settings of a stored provider. A test shows what the newest password does, not what covers it.

        Raises FailedPrecondition when its password was entered for another destination, SecretError.
        """
        _check_bound(relay.moved_since(found))
        password = self._providers.open_password(found)
        plain = self._settings(found.host, tls=found.tls, user=found.user, password=password, id=found.id)
        settings = relay.with_options(plain, found, self._providers.open_secrets(found))
        return replace(settings, deadlines=TEST_DEADLINES, old_password=None)

    def _unsaved_settings(self, test: UnsavedTest) -> RelaySettings:
        plain = self._settings(test.host, tls=test.tls, user=test.user, password=test.password, id=_NO_ID)
        if test.oauth is None:
            return plain
        return relay.by_token(plain, test.user, test.oauth.oauth, test.oauth.secrets, revision=0)

    def _settings(
        self, host: str, *, tls: bool, user: str, password: SecretText | None, id: ProviderId
    ) -> RelaySettings:
        defaults = self._providers.relay_defaults
        host = host.strip(BLANK)
        try:
            return relay.settings(
                host, tls=tls, user=user, password=password, id=id, defaults=defaults, deadlines=TEST_DEADLINES
            )
        except relay.BadPort as error:
            raise BadHost(
                "EMAIL-skwos", f"Connecting failed: {error}. Give the port that the server listens on"
            ) from None
        except relay.NoPort as error:
            raise BadHost("EMAIL-spR56", f"The host cannot be used: {error}. Write it as host:port") from None

    async def _send_test(self, test: UnsavedTest, settings: RelaySettings) -> Report:
        draft = _draft(test)
        content = compose(draft, message_id=MessageId(self._new_id()), date_us=self._now_us())
        return await self._send(settings, draft.envelope, content)

    async def _try(self, test: UnsavedTest, settings: RelaySettings) -> None:
        report = await self._send_test(test, settings)
        if report.failure is not None:
            raise _error(report.failure, report.tls, tls_wanted=settings.tls is not TlsMode.NONE)


def _as_test(found: StoredRelay, receiver: str) -> UnsavedTest:
    return UnsavedTest(
        sender_address=found.sender_address,
        sender_name=found.sender_name,
        host=found.host,
        tls=found.tls,
        receiver=receiver,
    )


def _never_begun(stage: Stage, code: str, error: MailwardError) -> Report:
    """Return the report of a test that what is stored made impossible."""
    return Report((), Failure(stage, code, None, error.message, *CODES[code]), TlsMode.NONE)


def _check_bound(different: Sequence[str]) -> None:
    if different:
        raise FailedPrecondition(
            "MAILWARD-SecretBound",
            f"The stored secret is only used for what it was entered for, and {' and '.join(different)} differs: "
            "give the secret in this test, or set it again.",
        )


def _draft(test: UnsavedTest) -> Draft:
    """Return the mail. Raises Internal for a sender that is no address: saving it is allowed, sending is not."""
    sender = test.sender_address.strip(BLANK)
    name = test.sender_name.replace("\\", "\\\\").replace('"', '\\"')
    try:
        return make_draft(from_=f'"{name}" <{sender}>', to=_addresses_in(test.receiver), subject=_SUBJECT, text=_TEXT)
    except InvalidArgument as error:
        if error.pointer == "/from":
            raise Internal("EMAIL-s3is3", f"The sender address cannot be used: {error.message}.") from None
        raise


def _addresses_in(text: str) -> list[str]:
    """Return the addresses in what validation has passed as a receiver: without names, comments and groups.

    What cannot be read is returned as it is, for make_draft to refuse. Not by getaddresses: since its security fixes it
    makes nothing of some quoted local parts.
    """
    if not text.isprintable():
        return [text]
    try:
        header = _HEADERS("To", text)
        assert isinstance(header, AddressHeader)
        return [one.addr_spec for one in header.addresses]
    except Exception:  # The parser of the standard library trips over some broken fields, each in its own way.
        return [text]


def _error(failure: Failure, tls: TlsMode, *, tls_wanted: bool) -> Internal:
    """Return the error of a failed test: the original's id, our own sentence (spec 5.3, departure 8)."""
    id = _error_id(failure, tls, tls_wanted=tls_wanted)
    if not id and failure.reply is not None:  # The original hands on the reply to DATA as it is, without an id.
        return Internal("", str(failure.reply))
    words = failure.words if failure.reply is None else f'the server said "{failure.words}"'
    return Internal(id, f"{_STAGES[failure.stage]} failed: {words}. {failure.cause} {failure.fix}")


def _error_id(failure: Failure, tls: TlsMode, *, tls_wanted: bool) -> str:
    no_contact = "EMAIL-sl39s" if tls_wanted else "EMAIL-skwos"
    match failure.stage:
        case Stage.RESOLVE | Stage.CONNECT:
            return no_contact
        case Stage.TLS:
            return "EMAIL-sl39s" if tls is TlsMode.IMPLICIT else "EMAIL-guvsQ"
        case Stage.BANNER:  # What greets in clear text was contacted without TLS, also in the original.
            return no_contact if failure.reply is None else "EMAIL-skwos"
        case Stage.EHLO:
            return "EMAIL-skwi4"
        case Stage.AUTH:
            return "EMAIL-s9kfs"
        case Stage.MAIL:
            return "EMAIL-s3is3"
        case Stage.RCPT:
            return "EMAIL-s4is4"
        case Stage.DATA | Stage.FINAL | Stage.QUIT:
            return ""
