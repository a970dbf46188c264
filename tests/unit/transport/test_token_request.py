"""What is asked of a token endpoint by each grant, and what its answers mean."""

import base64
import json
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from mailward.secretbox import SecretText
from mailward.transport.base import OAuthSettings
from mailward.transport.token_errors import advice_on
from mailward.transport.token_request import read_answer, request_body
from mailward.transport.trouble import Trouble

NOW_S = 1_800_000_000
RSA, P256 = rsa.generate_private_key(65_537, 2048), ec.generate_private_key(ec.SECP256R1())
OAUTH = OAuthSettings(
    grant="client_credentials",
    token_endpoint="https://login.example.com/token",
    client_id="client",
    client_secret=SecretText("s3cret"),
)


def pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> SecretText:
    return SecretText(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode())


def form(oauth: OAuthSettings, refresh_token: SecretText | None = None) -> dict[str, str]:
    body = request_body(oauth, refresh_token, now_s=NOW_S, nonce="n").decode()
    return dict(parse_qsl(body, strict_parsing=True))


def taken_apart(token: str) -> tuple[dict[str, Any], dict[str, Any], bytes, bytes]:
    """Return header, claims, what is signed, and the signature."""
    header, claims, signature = (base64.urlsafe_b64decode(part + "==") for part in token.split("."))
    return json.loads(header), json.loads(claims), token.rpartition(".")[0].encode(), signature


def test_client_credentials_are_sent_in_the_form() -> None:
    assert form(replace(OAUTH, scopes=("a", "b"))) == {
        "grant_type": "client_credentials",
        "scope": "a b",
        "client_id": "client",
        "client_secret": "s3cret",
    }


def test_a_refresh_token_goes_with_the_secret_if_there_is_one() -> None:
    oauth = replace(OAUTH, grant="refresh_token")

    assert form(oauth, SecretText("r")) == {
        "grant_type": "refresh_token",
        "refresh_token": "r",
        "client_id": "client",
        "client_secret": "s3cret",
    }
    assert "client_secret" not in form(replace(oauth, client_secret=None), SecretText("r"))


def test_a_client_is_known_by_its_key_instead_of_a_secret() -> None:
    """RFC 7523 2.2, with what Microsoft wants in the header."""
    thumbprint = "84E05C1D98BCE3A5421D225B140B36E86A3D5534"
    oauth = replace(OAUTH, grant="private_key_jwt", private_key=pem(RSA), certificate_thumbprint=thumbprint)

    sent = form(oauth)

    assert (sent["grant_type"], sent["client_id"]) == ("client_credentials", "client")
    assert sent["client_assertion_type"] == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    assert "client_secret" not in sent
    header, claims, signed, signature = taken_apart(sent["client_assertion"])
    assert header == {"alg": "RS256", "typ": "JWT", "x5t": "hOBcHZi846VCHSJbFAs26Go9VTQ"}
    assert claims == {
        "iss": "client",
        "sub": "client",
        "aud": OAUTH.token_endpoint,
        "iat": NOW_S,
        "nbf": NOW_S,
        "exp": NOW_S + 300,
        "jti": "n",
    }
    RSA.public_key().verify(signature, signed, padding.PKCS1v15(), hashes.SHA256())


def test_beside_a_sha256_thumbprint_an_rsa_key_signs_by_ps256() -> None:
    oauth = replace(OAUTH, grant="private_key_jwt", private_key=pem(RSA), certificate_thumbprint="ab" * 32)

    header, _, signed, signature = taken_apart(form(oauth)["client_assertion"])

    assert (header["alg"], header["x5t#S256"]) == ("PS256", "q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s")
    RSA.public_key().verify(signature, signed, padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())


def test_a_service_account_asks_by_an_assertion_alone() -> None:
    """RFC 7523 2.1; Google wants the scope as a claim."""
    oauth = replace(
        OAUTH, grant="jwt_bearer", private_key=pem(P256), key_id="k", subject="u@example.com", scopes=("s",)
    )

    sent = form(oauth)

    assert set(sent) == {"grant_type", "assertion", "scope"}
    assert sent["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
    header, claims, signed, signature = taken_apart(sent["assertion"])
    assert header == {"alg": "ES256", "kid": "k", "typ": "JWT"}
    assert (claims["iss"], claims["sub"], claims["scope"]) == ("client", "u@example.com", "s")
    r, s = int.from_bytes(signature[:32]), int.from_bytes(signature[32:])
    P256.public_key().verify(encode_dss_signature(r, s), signed, ec.ECDSA(hashes.SHA256()))


@pytest.mark.parametrize("key", [ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65_537, 1024)])
def test_a_key_that_no_server_takes_is_refused(key: Any) -> None:
    with pytest.raises(ValueError, match="P-256"):
        form(replace(OAUTH, grant="private_key_jwt", private_key=pem(key)))


@pytest.mark.parametrize(("said", "lifetime_s"), [(60, 60.0), ("60", 60.0), (0, 3600.0), ("x", 3600.0), (None, 3600.0)])
def test_a_token_lives_as_long_as_the_server_says(said: object, lifetime_s: float) -> None:
    body = json.dumps({"access_token": "t", "token_type": "bearer", "expires_in": said}).encode()

    granted = read_answer(200, body, [])

    assert (granted.access_token, granted.lifetime_s, granted.refresh_token) == (SecretText("t"), lifetime_s, None)


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (400, b'{"error": "invalid_grant"}', "token_refused"),
        (200, b'{"error": "invalid_grant"}', "token_refused"),
        (503, b'{"error": "temporarily_unavailable"}', "token_unavailable"),
        (429, b"", "token_unavailable"),
        (200, b'{"access_token": "a b"}', "token_unusable"),
        (200, b'{"access_token": "t", "token_type": "mac"}', "token_unusable"),
        (200, b"[" * 100_000, "token_unusable"),
        (404, b"", "token_unusable"),
    ],
)
def test_an_answer_without_a_token_is_named(status: int, body: bytes, code: str) -> None:
    with pytest.raises(Trouble) as caught:
        read_answer(status, body, [])
    assert caught.value.code == code


def test_a_secret_that_a_server_repeats_is_hidden_and_so_is_all_behind_the_first_line() -> None:
    said = {"error": "invalid_client", "error_description": "s3cret is\x07 wrong\r\nTrace ID: 1"}

    with pytest.raises(Trouble) as caught:
        read_answer(401, json.dumps(said).encode(), [SecretText("s3cret")])

    assert caught.value.reply.text == "invalid_client: *** is  wrong"


def test_microsofts_codes_say_more_than_the_standards_words() -> None:
    expired = advice_on({"error": "invalid_client", "error_codes": [7000222]})
    in_words_only = advice_on({"error": "invalid_client", "error_description": "AADSTS7000222: The provided ..."})

    assert expired is not None and "expired" in expired[0]
    assert in_words_only == expired
    assert advice_on({"error": "invalid_client", "error_codes": [1]}) == advice_on({"error": "invalid_client"})
    assert advice_on({"error": "something"}) is None
