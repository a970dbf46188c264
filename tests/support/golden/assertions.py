"""Assertions as the recorded sessions ask for them: right, or wrong in one respect."""

import base64
import json
import time
from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

_HEADER = ("alg", "kid", "typ")
_TIMES = ("iat", "exp", "nbf")


class ServiceKey:
    """A key file."""

    def __init__(self, file: str) -> None:
        facts = json.loads(file)
        self.id, self.user = str(facts["keyId"]), str(facts["userId"])
        key = serialization.load_pem_private_key(facts["key"].encode(), None)
        assert isinstance(key, rsa.RSAPrivateKey)
        self._key = key

    def assertion(self, audience: str, changes: Mapping[str, Any]) -> str:
        """Return a signed assertion. `changes` sets claims and header fields (None: left out; times: from now).

        "sign": "other" | "none" | "broken" spoils the signature; "raw" is the text itself.
        """
        if "raw" in changes:
            return str(changes["raw"])
        wanted = dict(changes)
        sign = wanted.pop("sign", "own")
        header: dict[str, Any] = {"alg": "RS256", "kid": self.id, "typ": "JWT"}
        claims: dict[str, Any] = {"iss": self.user, "sub": self.user, "aud": audience, "iat": 0, "exp": 3600}
        for name, value in wanted.items():
            (header if name in _HEADER else claims)[name] = value
        for name in _TIMES:
            if isinstance(claims.get(name), int):
                claims[name] += int(time.time())
        text = ".".join(_part({k: v for k, v in part.items() if v is not None}) for part in (header, claims))
        if sign == "none":
            return text + "."
        key = rsa.generate_private_key(65_537, 2048) if sign == "other" else self._key
        signature = bytearray(key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256()))
        if sign == "broken":
            signature[40] ^= 1
        return f"{text}.{_text(bytes(signature))}"


def _part(value: Mapping[str, Any]) -> str:
    return _text(json.dumps(value, separators=(",", ":")).encode())


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
