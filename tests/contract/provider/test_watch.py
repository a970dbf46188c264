"""What the worker has at hand of the active provider."""

import asyncio
from collections.abc import Callable

from mailward.db.database import Database
from mailward.ids import UserId
from mailward.provider.commands import Providers
from mailward.provider.watch import RelayWatch
from mailward.secretbox import SecretText
from mailward.transport.base import HTTPRelay, RelaySettings
from tests.contract.provider.conftest import Clock
from tests.support.providers import http, smtp

EDITOR = UserId("298765432109870001")


async def test_the_worker_has_the_change_before_the_caller_has_the_answer(providers: Providers) -> None:
    changes: list[str] = []
    watch = RelayWatch(providers, lambda: changes.append(str(watch.settings() and "relay")))
    await watch.start()
    try:
        assert watch.settings() is None
        added = await providers.add_smtp(smtp(), SecretText("old"), EDITOR)
        assert changes == []

        await providers.activate(added.id, EDITOR)
        settings = watch.settings()
        assert isinstance(settings, RelaySettings) and settings.password == SecretText("old")

        await providers.change_password(added.id, SecretText("new"), EDITOR)
        settings = watch.settings()
        assert isinstance(settings, RelaySettings) and settings.password == SecretText("new")

        hook = await providers.add_http(http(), EDITOR)
        await providers.activate(hook.id, EDITOR)
        assert isinstance(watch.settings(), HTTPRelay)
        assert changes == ["relay", "relay", "relay"]
    finally:
        await watch.stop()
        await watch.stop()


async def test_the_worker_learns_what_another_process_did(
    database: Database, clock: Clock, new_providers: Callable[..., Providers]
) -> None:
    here, there = new_providers(database), new_providers(database)
    changed = asyncio.Event()
    watch = RelayWatch(there, changed.set)
    await watch.start()
    try:
        added = await here.add_smtp(smtp(), None, EDITOR)
        await here.activate(added.id, EDITOR)
        clock.us += there.relay_defaults.ttl_us
        await watch.refresh()
        assert changed.is_set()
        assert watch.settings() is not None
    finally:
        await watch.stop()


async def test_when_the_store_cannot_be_read_mail_goes_on(
    database: Database, providers: Providers, clock: Clock
) -> None:
    added = await providers.add_smtp(smtp(), None, EDITOR)
    await providers.activate(added.id, EDITOR)
    watch = RelayWatch(providers, lambda: None)
    await watch.start()
    try:
        await database.aclose()
        clock.us += providers.relay_defaults.ttl_us
        await watch.refresh()
        assert watch.settings() is not None
    finally:
        await watch.stop()
