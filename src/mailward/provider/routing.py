"""The way of mail through providers: the active one, those behind it, and what each may get (pure)."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from mailward.ids import ProviderId
from mailward.transport.base import ProviderSettings

SECOND_US: Final = 1_000_000
WINDOWS_US: Final = {"second": SECOND_US, "minute": 60 * SECOND_US, "day": 86_400 * SECOND_US}


@dataclass(frozen=True, slots=True, kw_only=True)
class SendLimits:
    """How many attempts a provider gets at most; 0: no limit."""

    per_second: int = 0
    per_minute: int = 0
    per_day: int = 0

    def windows(self) -> Iterator[tuple[str, int, int]]:
        """Yield (name, length in microseconds, limit) of those that are set."""
        limits = (self.per_second, self.per_minute, self.per_day)
        for (name, length_us), limit in zip(WINDOWS_US.items(), limits, strict=True):
            if limit:
                yield name, length_us, limit

    @property
    def any(self) -> bool:
        return bool(self.per_second or self.per_minute or self.per_day)

    @property
    def share(self) -> int:
        """The most slots a node takes at a time: a quarter of the smallest limit, so that others find some too."""
        return max(1, min(limit for _, _, limit in self.windows()) // 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderLimits:
    """What an operator allows a provider; 0 or None: no limit, or the gateway's default."""

    send: SendLimits = field(default_factory=SendLimits)
    uncertain_retries: int | None = None  #: attempts after a doubt; None: the gateway's default


@dataclass(frozen=True, slots=True, kw_only=True)
class Hop:
    """A provider that mail may go through now."""

    settings: ProviderSettings
    revision: int = 0  #: grows with every change of the provider
    limits: SendLimits = field(default_factory=SendLimits)
    uncertain_retries: int | None = None

    @property
    def id(self) -> ProviderId:
        return self.settings.provider_id


Plan = tuple[Hop, ...]
"""The active provider, then those that take over when it cannot, in order. Empty: mail waits."""
