"""JSON web tokens as service accounts and this instance sign them: RS256 and nothing else (RFC 7515, 7519, 7523)."""

import base64
import binascii
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from mailward.jwt import base64url

#: What the original was seen to allow (spec 8.5): at most this old, and this much ahead of our clock.
MAX_AGE_S = 3600
LEEWAY_S = 2

_MAX_TEXT = 16_384


class BadAssertion(ValueError):
    """The assertion signs nobody in. The text says why, without anything of what it holds."""


@dataclass(frozen=True, slots=True)
class Claim:
    """An assertion before its signature was looked at: whom it claims to be, by which key."""

    key_id: str
    user_id: str
    signed: bytes
    signature: bytes
    claims: Mapping[str, Any]


def read(text: str) -> Claim:
    """Take an assertion apart. Raises BadAssertion; nothing in it is to be believed yet."""
    parts = text.split(".")
    if len(text) > _MAX_TEXT or len(parts) != 3:
        raise BadAssertion("the assertion is no JSON web token")
    header, claims = _object(parts[0]), _object(parts[1])
    if header.get("alg") != "RS256":
        raise BadAssertion("the assertion must be signed with RS256")
    key_id, issuer, subject = header.get("kid"), claims.get("iss"), claims.get("sub")
    if not isinstance(key_id, str) or not key_id:
        raise BadAssertion("the assertion's header names no key (kid)")
    if not key_id.isprintable():
        raise BadAssertion("the assertion's key id is no text (kid)")
    if not isinstance(issuer, str) or not issuer or issuer != subject:
        raise BadAssertion("the assertion's iss and sub must both be the user's id")
    return Claim(key_id, issuer, f"{parts[0]}.{parts[1]}".encode(), _bytes(parts[2]), claims)


def check(claim: Claim, public_key: str, issuer: str, now_s: int) -> None:
    """Check signature (`public_key` is PEM), audience (`issuer` is us) and times. Raises BadAssertion."""
    try:
        key = serialization.load_pem_public_key(public_key.encode())
        if not isinstance(key, rsa.RSAPublicKey):
            raise BadAssertion("the key is no RSA key")
        key.verify(claim.signature, claim.signed, padding.PKCS1v15(), hashes.SHA256())
    except (InvalidSignature, UnsupportedAlgorithm):
        raise BadAssertion("the assertion's signature does not fit its key") from None
    audience = claim.claims.get("aud")
    if issuer not in (audience if isinstance(audience, list) else [audience]):
        raise BadAssertion("the assertion is for somebody else (aud)")
    expires, issued = _seconds(claim.claims, "exp"), _seconds(claim.claims, "iat")
    if expires < now_s + LEEWAY_S:
        raise BadAssertion("the assertion has expired (exp)")
    if issued > now_s + LEEWAY_S:
        raise BadAssertion("the assertion is from the future (iat)")
    if issued < now_s - MAX_AGE_S:
        raise BadAssertion("the assertion is older than an hour (iat)")


def new_key() -> tuple[str, str]:
    """Return (private key, public key) of a new RSA pair, in PEM; the private one as PKCS #1. Takes a while."""
    key = rsa.generate_private_key(65_537, 2048)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return private.decode(), public.decode()


def jwk(key_id: str, public_key: str) -> dict[str, str]:
    """Return the key as a JSON web key (RFC 7517)."""
    key = serialization.load_pem_public_key(public_key.encode())
    assert isinstance(key, rsa.RSAPublicKey)
    numbers = key.public_numbers()
    n, e = (base64url(value.to_bytes((value.bit_length() + 7) // 8)) for value in (numbers.n, numbers.e))
    return {"use": "sig", "kty": "RSA", "kid": key_id, "alg": "RS256", "n": n, "e": e}


def half_hash(access_token: str) -> str:
    """Return the at_hash of an id token (OpenID Connect Core 3.1.3.6)."""
    return base64url(hashlib.sha256(access_token.encode()).digest()[:16])


def _seconds(claims: Mapping[str, Any], name: str) -> float:
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise BadAssertion(f"the assertion says no time ({name})")
    return value


def _object(part: str) -> dict[str, Any]:
    try:
        value = json.loads(_bytes(part))
    except (ValueError, RecursionError):
        raise BadAssertion("the assertion is no JSON web token") from None
    if not isinstance(value, dict):
        raise BadAssertion("the assertion is no JSON web token")
    return value


def _bytes(part: str) -> bytes:
    try:
        return base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise BadAssertion("the assertion is no JSON web token") from None
