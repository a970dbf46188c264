"""Signing keys for HTTP providers."""

import secrets
import string

from mailward.secretbox import SecretText

_LETTERS = string.ascii_letters + string.digits
_LENGTH = 36


def fresh_signing_key() -> SecretText:
    """Return 36 letters and digits, as the original's generator makes them."""
    return SecretText("".join(secrets.choice(_LETTERS) for _ in range(_LENGTH)))
