"""What operators manage: who may call, what is set, where mail goes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

from mailward.access.access import Access
from mailward.access.accounts import Accounts
from mailward.access.commands import SYSTEM
from mailward.config import Settings
from mailward.ids import IdSource
from mailward.peer import networks
from mailward.provider.commands import Providers
from mailward.provider.extension import Extension, Login
from mailward.provider.refresh_tokens import StoredRefreshTokens
from mailward.provider.relay import RelayDefaults
from mailward.provider.sms_commands import SMSProviders
from mailward.provider.testing import ProviderTests
from mailward.settings.commands import InstanceSettings
from mailward.store import Store, now_us, secret_box
from mailward.transport import smtp
from mailward.transport.base import Deadlines, RelaySettings
from mailward.transport.policy import address_check
from mailward.transport.report import Report
from mailward.transport.tokens import RefreshTokens, Tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlPlane:
    """Its parts, as the doors and the data plane use them."""

    access: Access
    accounts: Accounts
    settings: InstanceSettings
    providers: Providers
    extension: Extension
    tests: ProviderTests
    login: Login
    tokens: Tokens
    sms: SMSProviders


@asynccontextmanager
async def control_plane(settings: Settings, store: Store, ids: IdSource) -> AsyncIterator[ControlPlane]:
    """Make the control plane of the instance in `store`, and keep it up to date until the block ends."""
    database, instance = store.database, store.access.instance
    secrets = secret_box(settings)
    access = Access(
        database,
        ids,
        now_us,
        instance,
        failures_per_minute=settings.auth_failures_per_minute,
        unlimited=networks(settings.auth_unlimited_from),
    )
    providers = Providers(
        database,
        secrets,
        instance=instance,
        new_id=ids,
        now_us=now_us,
        relay=_relay_defaults(settings),
        domains=_domains(settings),
    )
    check = address_check(settings.egress_deny)
    tokens = Tokens(StoredRefreshTokens(providers, database, now_us, SYSTEM), check=check)
    login = partial(smtp.login, check=check, tokens=tokens)

    async def login_with(relay: RelaySettings, refresh_tokens: RefreshTokens) -> Report:
        return await smtp.login(relay, check=check, tokens=Tokens(refresh_tokens, check=check))

    tests = ProviderTests(providers, partial(smtp.test, check=check, tokens=tokens), new_id=ids, now_us=now_us)
    instance_settings = InstanceSettings(database, instance=instance, now_us=now_us)
    await instance_settings.start(SYSTEM)
    try:
        yield ControlPlane(
            access=access,
            accounts=Accounts(database, secrets, access, ids, now_us),
            settings=instance_settings,
            providers=providers,
            extension=Extension(providers, tests, login, login_with),
            tests=tests,
            login=login,
            tokens=tokens,
            sms=SMSProviders(database, secrets, instance=instance, new_id=ids, now_us=now_us),
        )
    finally:
        await tokens.stop(settings.shutdown_s / 2)
        await instance_settings.stop()


def _domains(settings: Settings) -> tuple[str, ...]:
    """Return the instance's domains, which senders must use when its domain policy says so."""
    return (*settings.external_domain, "localhost", *([settings.hostname] if settings.hostname else []))


def _relay_defaults(settings: Settings) -> RelayDefaults:
    return RelayDefaults(
        ehlo_name=settings.host,
        cleartext_auth=settings.allow_cleartext_auth,
        ca_file=settings.ca_file,
        max_connections=settings.relay_connections,
        deadlines=Deadlines(command_s=settings.command_s, final_s=settings.final_reply_s),
    )
