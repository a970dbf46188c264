"""Providers over a fresh database of each engine."""

from collections.abc import Awaitable, Callable, Sequence
from itertools import count

import pytest

from mailward.db.database import Database
from mailward.ids import InstanceId
from mailward.provider.commands import Providers
from mailward.provider.extension import Extension
from mailward.provider.relay import RelayDefaults
from mailward.provider.testing import ProviderTests
from mailward.secretbox import SecretBox
from mailward.transport.base import RelaySettings, TlsMode
from mailward.transport.report import Report
from mailward.transport.tokens import RefreshTokens

INSTANCE = InstanceId("298765432109876543")


class Clock:
    """A clock that is told how late it is, in microseconds."""

    def __init__(self) -> None:
        self.us = 1_700_000_000_000_000

    def __call__(self) -> int:
        return self.us


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def new_providers(clock: Clock) -> Callable[..., Providers]:
    """Make Providers over a database, as another process on the same one would."""
    ids = count(298_765_432_109_880_001)

    def make(database: Database, key: bytes = bytes(32), domains: Sequence[str] = ()) -> Providers:
        return Providers(
            database,
            SecretBox([key]),
            instance=INSTANCE,
            new_id=lambda: next(ids),
            now_us=clock,
            relay=RelayDefaults(ehlo_name="mx.example.org"),
            domains=domains,
        )

    return make


@pytest.fixture
def providers(database: Database, new_providers: Callable[..., Providers]) -> Providers:
    return new_providers(database)


class Login:
    """Stands for transport.smtp.login."""

    def __init__(self) -> None:
        self.report = Report((), None, TlsMode.NONE)
        self.settings: list[RelaySettings] = []
        self.refresh_tokens: RefreshTokens | None = None  #: that the last login was to use
        self.meanwhile: Callable[[], Awaitable[None]] | None = None

    async def __call__(self, settings: RelaySettings, refresh_tokens: RefreshTokens | None = None) -> Report:
        self.settings.append(settings)
        self.refresh_tokens = refresh_tokens
        if self.meanwhile is not None:
            await self.meanwhile()
        return self.report


@pytest.fixture
def login() -> Login:
    return Login()


@pytest.fixture
def extension(providers: Providers, login: Login, clock: Clock) -> Extension:
    async def no_mail(*_: object) -> Report:
        raise AssertionError("a test mail was sent")

    return Extension(providers, ProviderTests(providers, no_mail, new_id=lambda: 1, now_us=clock), login, login)
