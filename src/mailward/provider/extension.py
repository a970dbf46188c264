"""Changes that ZITADEL's wire has no call for: options of a provider, and rotations that are verified first."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mailward.errors import FailedPrecondition, LoginFailed
from mailward.ids import ProviderId, UserId
from mailward.provider import certificates
from mailward.provider import options as opt
from mailward.provider.commands import PASSWORD, Providers
from mailward.provider.configuring import Configure, RotatePassword
from mailward.provider.payloads import Sealed
from mailward.provider.queries import ProviderView, SMTPSettings, StoredRelay
from mailward.provider.testing import BadHost, ProviderTests
from mailward.secretbox import SecretText
from mailward.transport.base import RelaySettings
from mailward.transport.report import Report

Login = Callable[[RelaySettings], Awaitable[Report]]


@dataclass(frozen=True, slots=True)
class Rotated:
    """A password was replaced."""

    login: Report | None  #: None: nobody asked for one
    old_until_us: int | None  #: None: there was no old one


class Extension:
    """What can be done to stored providers beyond the wire. One per process."""

    def __init__(self, providers: Providers, tests: ProviderTests, login: Login) -> None:
        """`login`: transport.smtp.login, the code path of delivery up to the login."""
        self._providers = providers
        self._tests = tests
        self._login = login

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
        report = await self._verify(found, password) if verified else None
        [sealed] = self._providers.seal({PASSWORD: password}, id).values()
        await self._providers.do(RotatePassword(id, sealed, (found.host, found.tls, found.user)), editor)
        view = await self._providers.get(id)
        assert isinstance(view.config, SMTPSettings)
        return Rotated(report, view.config.old_until_us)

    async def _verify(self, found: StoredRelay, password: SecretText) -> Report:
        try:
            settings = self._tests.login_settings(found, password)
        except BadHost as error:
            raise FailedPrecondition("PROVIDER-host", f"{error.message}; nothing was changed") from None
        report = await self._login(settings)
        if report.failure is None:
            return report
        failure = report.failure
        raise LoginFailed(
            "PROVIDER-rotate",
            f"The login with the new password failed, so nothing was changed. {failure.stage.value}: "
            f"{failure.words}. {failure.cause} {failure.fix}",
            pointer="/password",
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
