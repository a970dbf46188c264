"""Which transport goes to which kind of provider."""

from typing import assert_never

from mailward.transport import egress
from mailward.transport.base import Gate, HTTPRelay, ProviderSettings, RelaySettings, Transport
from mailward.transport.http import HttpTransport
from mailward.transport.pool import SmtpTransport


def transport_to(
    settings: ProviderSettings, gate: Gate | None = None, *, check: egress.AddressCheck = egress.allow_all
) -> Transport:
    """Return a new way out to the provider that `settings` describe. `check`: the egress policy.

    `gate`: see Gate; HTTP has no logins to guard.
    """
    match settings:
        case RelaySettings():
            return SmtpTransport(settings, check=check, gate=gate)
        case HTTPRelay():
            return HttpTransport(settings, check=check)
        case _:
            assert_never(settings)
