"""Certificates, keys and pins that an operator hands in: can they be used at all? (pure)"""

import base64
import re

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from mailward import jwt
from mailward.errors import InvalidArgument

_HEX = re.compile(r"[0-9a-f]{64}")


def certificates_in(pem: str, pointer: str) -> str:
    """Return the certificates of a PEM text and nothing else: a key beside them must not be stored in the open.

    Raises InvalidArgument when there is none.
    """
    try:
        found = x509.load_pem_x509_certificates(pem.encode())
    except ValueError:
        raise InvalidArgument("PROVIDER-pem", "this holds no certificate in PEM", pointer=pointer) from None
    return "".join(one.public_bytes(Encoding.PEM).decode() for one in found)


def check_key(pem: str, pointer: str) -> None:
    """Refuse a PEM text that is no usable private key. Raises InvalidArgument."""
    try:
        load_pem_private_key(pem.encode(), None)
    except (ValueError, TypeError):
        raise InvalidArgument("PROVIDER-key", "this is no unencrypted private key in PEM", pointer=pointer) from None


def check_signing_key(pem: str, pointer: str) -> None:
    """Refuse a PEM text that holds no key with which a client signs assertions. Raises InvalidArgument."""
    try:
        jwt.load_key(pem)
    except ValueError:
        raise InvalidArgument(
            "PROVIDER-signer", "this is no unencrypted private key in PEM, RSA (2048 bits) or P-256", pointer=pointer
        ) from None


def check_pair(certificate: str, key: str) -> None:
    """Refuse a client certificate that is not for `key`; both are usable. Raises InvalidArgument."""
    public = load_pem_private_key(key.encode(), None).public_key()
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    first = x509.load_pem_x509_certificates(certificate.encode())[0]
    if first.public_key().public_bytes(*form) != public.public_bytes(*form):
        raise InvalidArgument("PROVIDER-match", "the key is not that of the client certificate", pointer="/client_key")


def pin(text: str, pointer: str) -> str:
    """Return a pin as 64 hex digits; `text` may be base64 (RFC 7469) or hex with colons. Raises InvalidArgument."""
    plain = text.strip().removeprefix("sha256/").removeprefix("sha256:").strip('"')
    digits = plain.replace(":", "").lower()
    if _HEX.fullmatch(digits):
        return digits
    try:
        digest = base64.b64decode(plain, validate=True)
    except ValueError:  # Letters beyond ASCII too.
        digest = b""
    if len(digest) != 32:
        raise InvalidArgument("PROVIDER-pin", "a pin is a SHA-256 in base64 or hex", pointer=pointer)
    return digest.hex()
