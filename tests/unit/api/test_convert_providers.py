"""mailward.v1's providers, out of the wire."""

from typing import Any

import pytest

from mailward.api.convert_providers import new_secret
from mailward.errors import InvalidArgument
from mailward.proto.mailward.v1.providers_pb2 import RotateProviderSecretRequest
from mailward.provider.extension import TokenSecret
from mailward.secretbox import SecretText


def test_a_new_secret_is_a_password_or_one_of_a_login_by_token() -> None:
    assert new_secret(RotateProviderSecretRequest(password="p")) == SecretText("p")

    request = RotateProviderSecretRequest(oauth_private_key="k", key_id="1", certificate_thumbprint="ab:cd")
    names = {"key_id": "1", "certificate_thumbprint": "abcd"}
    assert new_secret(request) == TokenSecret(name="oauth_private_key", secret=SecretText("k"), names=names)


@pytest.mark.parametrize(
    ("given", "pointer"),
    [
        ({}, "/password"),
        ({"password": "p", "oauth_client_secret": "s"}, "/password"),
        ({"password": "p", "key_id": "1"}, "/key_id"),
        ({"oauth_client_secret": "s", "certificate_thumbprint": "ab"}, "/certificate_thumbprint"),
    ],
)
def test_another_number_of_secrets_or_a_name_of_none_is_refused(given: dict[str, Any], pointer: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        new_secret(RotateProviderSecretRequest(**given))

    assert caught.value.pointer == pointer
