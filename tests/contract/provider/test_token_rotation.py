"""Secrets of logins by token are replaced once a token was fetched with the new one and taken; on both engines."""

from dataclasses import replace
from typing import Any

import pytest

from mailward.errors import FailedPrecondition, LoginFailed
from mailward.ids import ProviderId, UserId
from mailward.provider.commands import Providers
from mailward.provider.extension import Extension, TokenSecret
from mailward.provider.options import CLIENT_SECRET, PRIVATE_KEY, REFRESH_TOKEN, OAuthOptions
from mailward.secretbox import SecretText
from mailward.transport.base import OAuthSettings, RelaySettings, TlsMode
from mailward.transport.outcome import Stage
from mailward.transport.report import Failure, Report
from tests.contract.provider.conftest import Login
from tests.support.certificates import make_certificates
from tests.support.providers import smtp

EDITOR = UserId("298765432109870001")
OLD, NEW = SecretText("canary-old"), SecretText("canary-new")
OAUTH = OAuthOptions(grant="client_credentials", token_endpoint="https://login.example.com/t", client_id="me")
REFUSED = Report((), Failure(Stage.AUTH, "token_refused", None, "invalid_client", "C.", "F."), TlsMode.NONE)


async def add(providers: Providers, extension: Extension, oauth: OAuthOptions, **secrets: SecretText) -> ProviderId:
    """Add and activate a provider that logs in by token."""
    added = await providers.add_smtp(smtp(), None, EDITOR)
    await extension.configure(added.id, {"oauth": oauth}, secrets, EDITOR)
    await providers.activate(added.id, EDITOR)
    return added.id


async def in_use(providers: Providers) -> OAuthSettings:
    found = await providers.relay()
    assert isinstance(found, RelaySettings) and found.oauth is not None
    return found.oauth


def new(name: str, secret: SecretText = NEW, **names: Any) -> TokenSecret:
    return TokenSecret(name=name, secret=secret, names=names)


async def test_a_client_secret_proves_itself_before_it_replaces_the_old_one(
    providers: Providers, extension: Extension, login: Login
) -> None:
    id = await add(providers, extension, OAUTH, **{CLIENT_SECRET: OLD})
    login.report = REFUSED
    with pytest.raises(LoginFailed, match="invalid_client") as caught:
        await extension.rotate_token_secret(id, new(CLIENT_SECRET), EDITOR)
    assert (caught.value.pointer, (await in_use(providers)).client_secret) == (f"/{CLIENT_SECRET}", OLD)

    login.report = replace(REFUSED, failure=None)
    done = await extension.rotate_token_secret(id, new(CLIENT_SECRET), EDITOR)

    [_, tried] = login.settings
    assert tried.oauth is not None and (tried.oauth.client_secret, tried.user) == (NEW, "mailer")
    assert (done.login, done.old_until_us) == (login.report, None)
    assert (await in_use(providers)).client_secret == NEW


async def test_a_refresh_token_that_the_server_replaces_in_the_proof_is_kept_as_replaced(
    providers: Providers, extension: Extension, login: Login
) -> None:
    id = await add(providers, extension, replace(OAUTH, grant="refresh_token"), **{REFRESH_TOKEN: OLD})

    async def use() -> None:
        assert login.refresh_tokens is not None
        assert await login.refresh_tokens.read(id) == NEW
        await login.refresh_tokens.replace(id, NEW, SecretText("canary-newer"))

    login.meanwhile = use
    await extension.rotate_token_secret(id, new(REFRESH_TOKEN), EDITOR)

    stored = await providers.stored(id)
    assert stored is not None and providers.open_secrets(stored) == {REFRESH_TOKEN: SecretText("canary-newer")}
    login.report = REFUSED
    with pytest.raises(LoginFailed, match="get another one"):
        await extension.rotate_token_secret(id, new(REFRESH_TOKEN), EDITOR)


async def test_a_private_key_comes_with_what_names_it(
    providers: Providers, extension: Extension, login: Login, tmp_path_factory: pytest.TempPathFactory
) -> None:
    pem = make_certificates(tmp_path_factory.mktemp("pem"))
    before, after = (SecretText(file.read_text()) for file in (pem.server, pem.expired))
    oauth = replace(OAUTH, grant="private_key_jwt", key_id="1", certificate_thumbprint="ab" * 20)
    id = await add(providers, extension, oauth, **{PRIVATE_KEY: before})

    await extension.rotate_token_secret(id, new(PRIVATE_KEY, after, certificate_thumbprint="cd" * 32), EDITOR)

    used = await in_use(providers)
    assert login.settings[0].oauth == replace(used, revision=login.settings[0].oauth.revision)  # type: ignore[union-attr]
    assert (used.private_key, used.key_id, used.certificate_thumbprint) == (after, "1", "cd" * 32)


async def test_a_login_that_changes_during_the_proof_ends_the_rotation(
    providers: Providers, extension: Extension, login: Login
) -> None:
    id = await add(providers, extension, OAUTH, **{CLIENT_SECRET: OLD})

    async def meanwhile() -> None:
        other = replace(OAUTH, token_endpoint="https://evil.example.com/t")
        await extension.configure(id, {"oauth": other}, {CLIENT_SECRET: SecretText("x")}, EDITOR)

    login.meanwhile = meanwhile
    with pytest.raises(FailedPrecondition, match="meanwhile"):
        await extension.rotate_token_secret(id, new(CLIENT_SECRET), EDITOR)


async def test_what_the_server_does_not_know_yet_is_promoted_unproved(
    providers: Providers, extension: Extension, login: Login
) -> None:
    id = await add(providers, extension, OAUTH, **{CLIENT_SECRET: OLD})

    done = await extension.rotate_token_secret(id, new(CLIENT_SECRET), EDITOR, verified=False)

    assert (done.login, login.settings) == (None, [])
    assert (await in_use(providers)).client_secret == NEW


async def test_a_secret_that_the_login_has_no_use_for_is_refused_untried(
    providers: Providers, extension: Extension, login: Login
) -> None:
    by_token = await add(providers, extension, OAUTH, **{CLIENT_SECRET: OLD})
    by_password = (await providers.add_smtp(smtp(), OLD, EDITOR)).id

    with pytest.raises(FailedPrecondition, match="oauth_client_secret"):
        await extension.rotate(by_token, NEW, EDITOR)
    for id, name in ((by_token, REFRESH_TOKEN), (by_password, CLIENT_SECRET)):
        with pytest.raises(FailedPrecondition, match=f"no {name} to be replaced"):
            await extension.rotate_token_secret(id, new(name), EDITOR)

    assert login.settings == []
