"""An assertion signs in whoever holds the key, for us, now; anything else about it is a refusal."""

import base64
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.hmac import HMAC

from mailward import jwt
from mailward.access import assertion
from mailward.access.assertion import BadAssertion

US, NOW_S, USER = "http://localhost:8080", 1_800_000_000, "298765432109870001"
PRIVATE, PUBLIC = assertion.new_key()


def text(header: dict[str, Any] | None = None, **changes: Any) -> str:
    """Return a right assertion, but for `changes` (None: left out)."""
    claims = {"iss": USER, "sub": USER, "aud": US, "iat": NOW_S, "exp": NOW_S + 3600, **changes}
    signed = jwt.sign(PRIVATE, {"kid": "key-1"}, {k: v for k, v in claims.items() if v is not None})
    if header is None:
        return signed
    _, payload, signature = signed.split(".")
    first = base64.urlsafe_b64encode(json.dumps(header).encode()).rstrip(b"=").decode()
    return f"{first}.{payload}.{signature}"


def sign_in(token: str) -> str:
    claim = assertion.read(token)
    assertion.check(claim, PUBLIC, US, NOW_S)
    return claim.user_id


def test_a_right_one_says_who_it_is() -> None:
    assert sign_in(text()) == USER


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": [US]},
        {"aud": ["x", US]},
        {"exp": NOW_S + 10**9},
        {"iat": NOW_S - 3599},
        {"nbf": NOW_S + 99},
        {"jti": "1"},
    ],
)
def test_what_does_not_matter_is_not_looked_at(changes: dict[str, Any]) -> None:
    assert sign_in(text(**changes)) == USER


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"aud": None}, "aud"), ({"aud": US + "/"}, "aud"), ({"aud": [1]}, "aud"),
        ({"aud": f"{US}/oauth/v2/token"}, "aud"),
        ({"exp": NOW_S}, "exp"), ({"exp": NOW_S + 1}, "exp"), ({"exp": None}, "exp"), ({"exp": "1e12"}, "exp"),
        ({"exp": True}, "exp"), ({"iat": None}, "iat"), ({"iat": NOW_S + 60}, "iat"), ({"iat": NOW_S - 7200}, "iat"),
        ({"exp": float("nan")}, "exp"), ({"iat": float("nan")}, "iat"), ({"exp": float("inf")}, "exp"),
        ({"sub": "other"}, "iss and sub"), ({"iss": None}, "iss and sub"), ({"sub": None}, "iss and sub"),
    ],
)  # fmt: skip
def test_a_wrong_claim_is_refused_by_its_name(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(BadAssertion, match=why):
        sign_in(text(**changes))


@pytest.mark.parametrize(
    "header",
    [{"alg": "none", "kid": "key-1"}, {"alg": "HS256", "kid": "key-1"}, {"alg": "RS512", "kid": "key-1"}, {"kid": "k"}],
)
def test_no_other_algorithm_is_believed(header: dict[str, Any]) -> None:
    with pytest.raises(BadAssertion, match="RS256"):
        sign_in(text(header))


def test_a_key_id_that_no_store_can_hold_is_refused() -> None:
    with pytest.raises(BadAssertion, match="kid"):
        sign_in(text({"alg": "RS256", "kid": "\ud800"}))


def test_a_key_is_not_taken_for_a_shared_secret() -> None:
    """The classic confusion: HS256 with the public key as the secret."""
    head, payload, _ = text({"alg": "HS256", "kid": "key-1"}).split(".")
    mac = HMAC(PUBLIC.encode(), hashes.SHA256())
    mac.update(f"{head}.{payload}".encode())
    forged = f"{head}.{payload}.{base64.urlsafe_b64encode(mac.finalize()).rstrip(b'=').decode()}"

    with pytest.raises(BadAssertion, match="RS256"):
        sign_in(forged)


def test_a_signature_of_another_key_or_none_is_refused() -> None:
    other, _ = assertion.new_key()
    claims = {"iss": USER, "sub": USER, "aud": US, "iat": NOW_S, "exp": NOW_S + 60}
    for token in (jwt.sign(other, {"kid": "key-1"}, claims), text().rpartition(".")[0] + "."):
        with pytest.raises(BadAssertion, match="signature"):
            sign_in(token)


@pytest.mark.parametrize(
    "garbage", ["", "x", "a.b", "a.b.c", "e30.e30.", "W10.W10.W10", "é.é.é", "." * 5, "a" * 20_000]
)
def test_what_is_no_token_is_refused(garbage: str) -> None:
    with pytest.raises(BadAssertion):
        sign_in(garbage)
