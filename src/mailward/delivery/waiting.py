"""Why mail waits, as far as the provider is the reason. No storage, no clock."""

from typing import assert_never

from mailward.provider.relay import Relay, UnusableRelay
from mailward.transport.base import HTTPRelay, RelaySettings


def reason_to_wait(relay: Relay | None) -> str:
    """Return what keeps mail from leaving through the active provider, "" when nothing does."""
    match relay:
        case None:
            return "no active provider"
        case RelaySettings() | HTTPRelay():
            return ""
        case UnusableRelay():
            return f"the active provider to be repaired: {relay.reason}"
        case _:
            assert_never(relay)
