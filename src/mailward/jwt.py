"""JSON web tokens, signed: RS256, PS256 and ES256 (RFC 7515, 7518, 7519)."""

import base64
import json
from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import load_pem_private_key

_MIN_RSA_BITS = 2048  # RFC 7518 3.3
_P256_BYTES = 32


def load_key(pem: str) -> rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey:
    """Return the private key in `pem`. Raises ValueError unless it is unencrypted, and RSA of 2048 bits or P-256."""
    try:
        key = load_pem_private_key(pem.encode(), None)
    except TypeError:
        raise ValueError("the key is encrypted") from None
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size >= _MIN_RSA_BITS:
        return key
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    raise ValueError("the key is neither RSA of 2048 bits or more nor P-256")


def sign(pem: str, header: Mapping[str, str], claims: Mapping[str, Any], *, pss: bool = False) -> str:
    """Return a token with `claims` and `header`, signed with the key in `pem` as its kind wants.

    `pss`: an RSA key signs by PS256 instead of RS256. Raises ValueError for a key that is not to be used.
    """
    key = load_key(pem)
    algorithm = "ES256" if isinstance(key, ec.EllipticCurvePrivateKey) else "PS256" if pss else "RS256"
    text = f"{_part({'alg': algorithm, **header, 'typ': 'JWT'})}.{_part(claims)}"
    if isinstance(key, rsa.RSAPrivateKey):
        scheme = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH) if pss else padding.PKCS1v15()
        signature = key.sign(text.encode(), scheme, hashes.SHA256())
    else:
        r, s = decode_dss_signature(key.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
        signature = r.to_bytes(_P256_BYTES) + s.to_bytes(_P256_BYTES)
    return f"{text}.{base64url(signature)}"


def base64url(raw: bytes) -> str:
    """Return base64 for URLs without padding, as tokens have it."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _part(value: Mapping[str, Any]) -> str:
    return base64url(json.dumps(value, separators=(",", ":")).encode())
