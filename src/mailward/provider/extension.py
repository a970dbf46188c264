"""Changes that ZITADEL's wire has no call for: options of a provider, and rotations that are verified first."""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from mailward.errors import FailedPrecondition, LoginFailed
from mailward.ids import ProviderId, UserId
from mailward.provider import certificates
from mailward.provider import options as opt
from mailward.provider.commands import PASSWORD, Providers
from mailward.provider.configuring import Configure, RotatePassword, RotateTokenSecret
from mailward.provider.payloads import Sealed
from mailward.provider.queries import ProviderView, SMTPSettings, StoredRelay
from mailward.provider.testing import BadHost, ProviderTests
from mailward.secretbox import SecretText
from mailward.transport.base import RelaySettings
from mailward.transport.report import Report
from mailward.transport.tokens import RefreshTokens

Login = Callable[[RelaySettings], Awaitable[Report]]
LoginWith = Callable[[RelaySettings, RefreshTokens], Awaitable[Report]]


@dataclass(frozen=True, slots=True)
class Rotated:
    """A secret was replaced."""

    login: Report | None  #: None: nobody asked for one
    old_until_us: int | None = None  #: None: no old password stands behind it


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenSecret:
    """A new secret for a login by token."""

    name: str  #: as in provider/options.py
    secret: SecretText
    names: Mapping[str, Any] = field(default_factory=dict)  #: field of OAuthOptions -> what names a new key there


class _Candidate:
    """A refresh token that is to prove itself. The server may replace it when it does."""

    def __init__(self, token: SecretText) -> None:
        self.token = token

    async def take_turn(self, id: ProviderId) -> bool:
        return True

    async def end_turn(self, id: ProviderId) -> None:
        """Nobody else has it."""

    async def read(self, id: ProviderId) -> SecretText | None:
        return self.token

    async def replace(self, id: ProviderId, old: SecretText, new: SecretText) -> None:
        self.token = new


class Extension:
    """What can be done to stored providers beyond the wire. One per process."""

    def __init__(self, providers: Providers, tests: ProviderTests, login: Login, login_with: LoginWith) -> None:
        """`login`: transport.smtp.login, the code path of delivery up to the login. `login_with`: by other tokens."""
        self._providers = providers
        self._tests = tests
        self._login = login
        self._login_with = login_with

    async def configure(
        self,
        id: ProviderId,
        options: Mapping[str, Any],
        secrets: Mapping[str, SecretText | None],
        editor: UserId,
    ) -> ProviderView:
        """Set the `options` (by field of Options) and `secrets` that are given, None: forget it; return the result.

        Raises InvalidArgument, NotFound.
        """
        options = dict(options)
        if "certificate_pins" in options:
            pointer = "/settings/certificate_pins/sha256"
            options["certificate_pins"] = tuple(
                certificates.pin(text, f"{pointer}/{n}") for n, text in enumerate(options["certificate_pins"])
            )
        for name in ("ca_bundle", "client_certificate"):
            if options.get(name):
                options[name] = certificates.certificates_in(options[name], f"/settings/{name}")
        _check_keys(options, secrets)
        given = {name: secret for name, secret in secrets.items() if secret}
        sealed: dict[str, Sealed | None] = {name: None for name in secrets if name not in given}
        await self._providers.do(Configure(id, options, sealed | self._providers.seal(given, id)), editor)
        return await self._providers.get(id)

    async def rotate(self, id: ProviderId, password: SecretText, editor: UserId, *, verified: bool = True) -> Rotated:
        """Replace the password of `id` after a login with the new one; the old one is a fall-back for a while.

        Raises NotFound, LoginFailed, and FailedPrecondition when no login can be made; then nothing has changed.
        """
        found = await self._tests.smtp_provider(id)
        if found.options.oauth is not None:  # It would be refused in the end: not a login for that.
            verified = False
        report = (
            _checked(await self._login(self._password_settings(found, password)), "/password") if verified else None
        )
        [sealed] = self._providers.seal({PASSWORD: password}, id).values()
        entered_for = (found.host, found.tls, found.user, found.options.oauth)
        await self._providers.do(RotatePassword(id, sealed, entered_for), editor)
        view = await self._providers.get(id)
        assert isinstance(view.config, SMTPSettings)
        return Rotated(report, view.config.old_until_us)

    async def rotate_token_secret(
        self, id: ProviderId, new: TokenSecret, editor: UserId, *, verified: bool = True
    ) -> Rotated:
        """Replace a secret of a login by token, after a token was fetched with it and the mail server took that.

        Raises NotFound, InvalidArgument, LoginFailed, and FailedPrecondition when there is no such secret to replace.
        """
        found = await self._tests.smtp_provider(id)
        before, pointer = found.options.oauth, f"/{new.name}"
        if before is None or new.name not in found.secrets:
            words = f"the provider has no {new.name} to be replaced; PATCH of the provider sets how it logs in"
            raise FailedPrecondition("PROVIDER-nosecret", words, pointer=pointer)
        _check_keys({}, {new.name: new.secret})
        oauth, report = replace(before, **new.names), None
        candidate = _Candidate(new.secret)
        if verified:
            with _unusable_host():
                settings = self._tests.token_settings(found, oauth, new.name, new.secret)
            is_refresh = new.name == opt.REFRESH_TOKEN
            report = await (self._login_with(settings, candidate) if is_refresh else self._login(settings))
            used_up = (
                " The server has replaced the refresh token: get another one." if candidate.token != new.secret else ""
            )
            _checked(report, pointer, used_up)
        [sealed] = self._providers.seal({new.name: candidate.token}, id).values()
        entered_for = (found.host, found.tls, found.user, before)
        await self._providers.do(RotateTokenSecret(id, new.name, sealed, oauth, entered_for), editor)
        return Rotated(report)

    def _password_settings(self, found: StoredRelay, password: SecretText) -> RelaySettings:
        with _unusable_host():
            return self._tests.login_settings(found, password)


@contextmanager
def _unusable_host() -> Iterator[None]:
    try:
        yield
    except BadHost as error:
        raise FailedPrecondition("PROVIDER-host", f"{error.message}; nothing was changed") from None


def _checked(report: Report, pointer: str, more: str = "") -> Report:
    """Return the report of a login that succeeded. Raises LoginFailed."""
    failure = report.failure
    if failure is None:
        return report
    raise LoginFailed(
        "PROVIDER-rotate",
        f"The login with the new secret failed, so nothing was changed. {failure.stage.value}: "
        f"{failure.words}. {failure.cause} {failure.fix}{more}",
        pointer=pointer,
    )


def _check_keys(options: Mapping[str, Any], secrets: Mapping[str, SecretText | None]) -> None:
    """Refuse keys that could never be used."""
    if key := secrets.get(opt.CLIENT_KEY):
        certificates.check_key(key.reveal(), f"/{opt.CLIENT_KEY}")
    if key := secrets.get(opt.PRIVATE_KEY):
        certificates.check_signing_key(key.reveal(), f"/{opt.PRIVATE_KEY}")
    certificate, key = options.get("client_certificate"), secrets.get(opt.CLIENT_KEY)
    if certificate and key:
        certificates.check_pair(certificate, key.reveal())
