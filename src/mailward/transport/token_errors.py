"""Why a token was refused, in words for operators: the errors of RFC 6749 and Microsoft's AADSTS codes (pure)."""

import re
from collections.abc import Mapping
from typing import Any

Advice = tuple[str, str]
"""Likely cause, and what to do; a sentence each."""

_AADSTS = re.compile(r"\bAADSTS(\d{4,8})\b")

_NEW_SECRET = (
    "Make a new one in Entra (App registrations, Certificates & secrets), and store its Value with the provider."
)
_NEW_REFRESH_TOKEN = "Sign in once more as the mailbox's user, and store the new refresh token with the provider."

#: RFC 6749 5.2.
_STANDARD: Mapping[str, Advice] = {
    "invalid_request": (
        "The authorisation server misses something in the request.",
        "See its words; some want a scope, others a key id or certificate thumbprint.",
    ),
    "invalid_client": (
        "Client id or secret is wrong, or the key is not the one that is registered there.",
        "Compare both with the client's registration; secrets expire.",
    ),
    "invalid_grant": (
        "The refresh token or assertion is expired, revoked or for another client; or this machine's clock is off.",
        "Get a new refresh token, or check key, client id and subject of the assertion; check the clock.",
    ),
    "unauthorized_client": (
        "The client may not use this grant, or not for this user or scope.",
        "Allow it in the client's registration; with Google, delegate the scope to the service account domain-wide.",
    ),
    "unsupported_grant_type": ("The server does not know this grant.", "Choose another grant."),
    "invalid_scope": (
        "A scope is unknown, or not granted to this client.",
        "Compare the scopes with what the provider's page on SMTP names.",
    ),
}

#: What operators of Microsoft 365 meet, by the number behind AADSTS.
_MICROSOFT: Mapping[int, Advice] = {
    7000215: (
        "The client secret is wrong; often it is the secret's id that was copied instead of its value.",
        _NEW_SECRET,
    ),
    7000222: (
        "The client secret has expired.",
        _NEW_SECRET,
    ),
    7000218: (
        "The application is confidential, but neither a secret nor an assertion was sent.",
        "Store the client secret with the provider, or use private_key_jwt.",
    ),
    700016: (
        "There is no application with this client id in this tenant.",
        "Compare client id and tenant (in the token endpoint's URL) with the app registration.",
    ),
    7000112: ("The application is disabled.", "Enable it in Entra (Enterprise applications, Properties)."),
    700027: (
        "The assertion's signature does not fit a certificate of the application.",
        "Upload the certificate of this private key in Entra, and set its thumbprint with the provider.",
    ),
    70011: (
        "The scope is not one that this grant may ask for.",
        "Use exactly https://outlook.office365.com/.default for client credentials, and "
        "https://outlook.office.com/SMTP.Send for a refresh token.",
    ),
    500011: (
        "The tenant knows no resource by the name in the scope.",
        "Use https://outlook.office365.com/.default, and check that the tenant has Exchange Online.",
    ),
    90002: (
        "There is no such tenant.",
        "Correct the tenant's id or domain in the token endpoint's URL; national clouds have hosts of their own.",
    ),
    900023: ("The tenant in the URL is neither an id nor a domain.", "Replace it by the directory (tenant) id."),
    9001023: (
        "Client credentials need the tenant in the URL; /common and /consumers have none.",
        "Put the directory (tenant) id into the token endpoint's URL.",
    ),
    50034: (
        "The user is not in this tenant.",
        "Check the user, and the tenant in the token endpoint's URL.",
    ),
    65001: (
        "Nobody has consented that the application may do this.",
        "Have an administrator grant consent in Entra (API permissions, Grant admin consent), for SMTP.SendAsApp or "
        "SMTP.Send.",
    ),
    53003: (
        "A Conditional Access policy of the tenant forbids it.",
        "See the sign-in log in Entra for which one, and exempt the application or this machine's address.",
    ),
    530032: (
        "A security policy of the tenant forbids it.",
        "See the sign-in log in Entra for which one, and exempt the application or this machine's address.",
    ),
    50076: (
        "The tenant asks this user for a second factor, which no server can give.",
        "Use client credentials, or sign in once more with the second factor and store the new refresh token.",
    ),
    70008: ("The refresh token has expired, or was revoked.", _NEW_REFRESH_TOKEN),
    700082: ("The refresh token was not used for so long (90 days) that it has expired.", _NEW_REFRESH_TOKEN),
    70043: ("The refresh token is older than the tenant's sign-in frequency policy allows.", _NEW_REFRESH_TOKEN),
    50173: (
        "The refresh token was revoked: the password was changed, or an administrator ended all sessions.",
        _NEW_REFRESH_TOKEN,
    ),
}  # fmt: skip


def advice_on(answer: Mapping[str, Any]) -> Advice | None:
    """Return what is known of the error in the JSON object `answer`; None when it is not one that we know.

    Of Microsoft's numbers the first that we know counts: it may send several, the most particular one first.
    """
    codes = answer.get("error_codes")
    numbers = list(codes) if isinstance(codes, list) else []
    numbers += map(int, _AADSTS.findall(str(answer.get("error_description", ""))))
    for number in numbers:
        if isinstance(number, int) and number in _MICROSOFT:
            return _MICROSOFT[number]
    return _STANDARD.get(str(answer.get("error", "")))
