"""Providers over a fresh database of each engine."""

from collections.abc import Callable, Sequence
from itertools import count

import pytest

from mailward.db.database import Database
from mailward.ids import InstanceId
from mailward.provider.commands import Providers
from mailward.provider.relay import RelayDefaults
from mailward.secretbox import SecretBox

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
