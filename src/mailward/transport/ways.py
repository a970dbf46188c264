"""Which transport goes to which kind of provider."""

from typing import assert_never

from mailward.transport import egress
from mailward.transport.base import Gate, HTTPRelay, ProviderSettings, RelaySettings, Transport
from mailward.transport.http import HttpTransport
from mailward.transport.pool import SmtpTransport
from mailward.transport.tokens import Tokens


def transport_to(
    settings: ProviderSettings,
    gate: Gate | None = None,
    *,
    check: egress.AddressCheck = egress.allow_all,
    tokens: Tokens | None = None,
) -> Transport:
    """Return a new way out to the provider that `settings` describe. `check`: the egress policy.

    `gate`: see Gate; HTTP has no logins to guard. `tokens`: see SmtpTransport.
    """
    match settings:
        case RelaySettings():
            return SmtpTransport(settings, check=check, gate=gate, tokens=tokens)
        case HTTPRelay():
            return HttpTransport(settings, check=check)
        case _:
            assert_never(settings)
