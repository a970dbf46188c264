"""Which transport goes to which kind of provider."""

from typing import assert_never

from mailward.transport import egress
from mailward.transport.base import HTTPRelay, ProviderSettings, RelaySettings, Transport
from mailward.transport.http import HttpTransport
from mailward.transport.pool import SmtpTransport


def transport_to(settings: ProviderSettings, *, check: egress.AddressCheck = egress.allow_all) -> Transport:
    """Return a new way out to the provider that `settings` describe. `check`: the egress policy."""
    match settings:
        case RelaySettings():
            return SmtpTransport(settings, check=check)
        case HTTPRelay():
            return HttpTransport(settings, check=check)
        case _:
            assert_never(settings)
