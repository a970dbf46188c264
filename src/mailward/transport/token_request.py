"""A request for a token, and what is answered to it (RFC 6749, 7521, 7523) (pure)."""

import json
import re
from base64 import b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote_plus, urlencode

from mailward import jwt
from mailward.secretbox import SecretText
from mailward.transport.base import OAuthSettings
from mailward.transport.outcome import Stage
from mailward.transport.token_errors import advice_on
from mailward.transport.trouble import local

_ASSERTION_S = 300  # how long an assertion is good; Microsoft advises five to ten minutes, Google takes an hour at most
_DEFAULT_LIFETIME_S = 3600.0  # where the server does not say
_MAX_LIFETIME_S = 30 * 86_400.0
_SHOWN = 300  # characters of what a server says about an error
_TOKEN = re.compile(r"[\x21-\x7e]+")
_CONTROL = re.compile(r"[^\x20-\x7e\xa0-\U0010ffff]+")
_SHA1_DIGITS = 40


@dataclass(frozen=True, slots=True)
class Granted:
    """What the server issued."""

    access_token: SecretText
    lifetime_s: float
    refresh_token: SecretText | None = None  #: in place of the one that was used; None: that one stays good


def request_body(oauth: OAuthSettings, refresh_token: SecretText | None, *, now_s: int, nonce: str) -> bytes:
    """Return the form that asks for a token. `nonce`: the id of an assertion, never used before.

    Raises ValueError for a private key that cannot be used.
    """
    return urlencode([*_grant(oauth, refresh_token, now_s, nonce), *_client(oauth, now_s, nonce)]).encode()


def _grant(oauth: OAuthSettings, refresh_token: SecretText | None, now_s: int, nonce: str) -> Iterator[tuple[str, str]]:
    scope = " ".join(oauth.scopes)
    match oauth.grant:
        case "refresh_token":
            yield "grant_type", "refresh_token"
            yield "refresh_token", refresh_token.reveal() if refresh_token else ""
        case "jwt_bearer":
            claims: dict[str, Any] = {"scope": scope} if scope else {}  # Google wants it here, others beside it.
            yield "grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"
            yield "assertion", _assertion(oauth, oauth.subject, now_s, nonce, claims)
        case _:
            yield "grant_type", "client_credentials"
    if scope:
        yield "scope", scope


def _client(oauth: OAuthSettings, now_s: int, nonce: str) -> Iterator[tuple[str, str]]:
    """Yield who asks. An assertion for jwt_bearer says so already."""
    if oauth.grant == "jwt_bearer" or authorization(oauth) is not None:  # RFC 6749 2.3: one way in each request
        return
    yield "client_id", oauth.client_id
    if oauth.private_key:
        yield "client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
        yield "client_assertion", _assertion(oauth, oauth.client_id, now_s, nonce, {})
    elif oauth.client_secret:
        yield "client_secret", oauth.client_secret.reveal()


def authorization(oauth: OAuthSettings) -> SecretText | None:
    """Return the value of Authorization that says who asks, None where the form says so (RFC 6749 2.3.1)."""
    if (
        oauth.client_auth_method != "client_secret_basic"
        or oauth.client_secret is None
        or oauth.private_key is not None
    ):
        return None
    # Both are encoded as in a form first, so that the colon between them is the only one.
    pair = f"{quote_plus(oauth.client_id)}:{quote_plus(oauth.client_secret.reveal())}"
    return SecretText("Basic " + b64encode(pair.encode()).decode())


def _assertion(oauth: OAuthSettings, subject: str, now_s: int, nonce: str, more: dict[str, Any]) -> str:
    """Return a signed statement of who asks (RFC 7523 3)."""
    claims = {
        "iss": oauth.client_id,
        **({"sub": subject} if subject else {}),
        "aud": oauth.token_endpoint,
        "iat": now_s,
        "nbf": now_s,
        "exp": now_s + _ASSERTION_S,
        "jti": nonce,
        **more,
    }
    header = {"kid": oauth.key_id} if oauth.key_id else {}
    thumbprint = bytes.fromhex(oauth.certificate_thumbprint)
    is_sha256 = len(oauth.certificate_thumbprint) > _SHA1_DIGITS
    if thumbprint:
        header["x5t#S256" if is_sha256 else "x5t"] = jwt.base64url(thumbprint)
    key = oauth.private_key.reveal() if oauth.private_key else ""
    return jwt.sign(key, header, claims, pss=is_sha256)  # Microsoft wants PS256 beside a SHA-256 thumbprint.


def read_answer(status: int, body: bytes, secrets: Sequence[SecretText]) -> Granted:
    """Return what the server issued. Raises Trouble; its words show none of `secrets`, which a server may repeat."""
    said = _object(body)
    if "error" in said and status < 500:
        words = ": ".join(filter(None, (str(said["error"]), str(said.get("error_description", "")))))
        raise local(Stage.AUTH, "token_refused", "4.7.8", shown(words, secrets), advice_on(said))
    if status == 429 or status >= 500:
        raise local(Stage.AUTH, "token_unavailable", "4.7.0", f"it answered {status}")
    token, kind = said.get("access_token"), str(said.get("token_type", "Bearer"))
    if status != 200 or not isinstance(token, str):
        raise local(Stage.AUTH, "token_unusable", "4.7.0", f"it answered {status}, without a token")
    if kind.lower() != "bearer" or not _TOKEN.fullmatch(token):
        words = f"it issued a token of the kind {shown(kind, [*secrets, SecretText(token)])}"
        raise local(Stage.AUTH, "token_unusable", "4.7.0", words)
    renewed = said.get("refresh_token")
    return Granted(
        SecretText(token),
        _lifetime_s(said.get("expires_in")),
        SecretText(renewed) if isinstance(renewed, str) and renewed else None,
    )


def shown(words: str, secrets: Sequence[SecretText]) -> str:
    """Return the first line of what a server says, cut, without secrets."""
    line = next(iter(words.strip().splitlines()), "")
    for secret in secrets:
        if secret:
            line = line.replace(secret.reveal(), "***")
    return _CONTROL.sub(" ", line)[:_SHOWN]


def _object(body: bytes) -> dict[str, Any]:
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


def _lifetime_s(said: object) -> float:
    """Return `expires_in`, which some servers write as a text."""
    try:
        lifetime_s = float(said) if isinstance(said, int | float | str) else 0.0
    except ValueError:
        return _DEFAULT_LIFETIME_S
    return min(lifetime_s, _MAX_LIFETIME_S) if lifetime_s > 0 else _DEFAULT_LIFETIME_S
