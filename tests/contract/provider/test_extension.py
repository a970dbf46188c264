"""Options and rotation on both engines: what is set reaches the transport, and a password proves itself first."""

from dataclasses import replace
from typing import Any

import pytest

from mailward.db.database import Database, Transaction
from mailward.errors import FailedPrecondition, InvalidArgument, LoginFailed, NotFound
from mailward.eventstore import projection as projections
from mailward.ids import UserId
from mailward.provider.commands import Providers
from mailward.provider.configuring import TokenLogin
from mailward.provider.extension import Extension
from mailward.provider.options import CLIENT_KEY, CLIENT_SECRET, PRIVATE_KEY, REFRESH_TOKEN, OAuthOptions
from mailward.provider.projection import GRACE_US, EmailProvidersProjection
from mailward.provider.queries import SMTPSettings
from mailward.provider.refresh_tokens import StoredRefreshTokens
from mailward.provider.relay import UnusableRelay
from mailward.secretbox import SecretText
from mailward.smtp.reply import Reply
from mailward.transport.base import RelaySettings, TlsMode
from mailward.transport.outcome import Stage
from mailward.transport.report import Failure, Report
from tests.contract.provider.conftest import Clock, Login
from tests.support.certificates import make_certificates
from tests.support.providers import UNKNOWN, smtp

EDITOR = UserId("298765432109870001")
OLD, NEW = SecretText("canary-old"), SecretText("canary-new")
REFUSED = Report(
    (), Failure(Stage.AUTH, "auth_rejected", Reply(535, "5.7.8", "no"), "535 5.7.8 no", "C.", "F."), TlsMode.NONE
)
OAUTH = OAuthOptions(grant="client_credentials", token_endpoint="https://login.example.com/t", client_id="me")


async def relay(providers: Providers) -> RelaySettings:
    found = await providers.relay()
    assert isinstance(found, RelaySettings)
    return found


def rows(tx: Transaction) -> list[Any]:
    return tx.fetch("SELECT * FROM email_providers")


async def test_what_is_set_reaches_the_transport(
    providers: Providers, extension: Extension, database: Database, tmp_path_factory: pytest.TempPathFactory
) -> None:
    pem = make_certificates(tmp_path_factory.mktemp("pem"))
    both, ca = pem.server.read_text(), pem.ca.read_text()
    certificate = both[: both.index("-----BEGIN PRIVATE")]
    added = await providers.add_smtp(smtp(), OLD, EDITOR)
    await providers.activate(added.id, EDITOR)

    await extension.configure(
        added.id,
        {
            "tls_mode": "implicit",
            "ehlo_name": "gw.example",
            "ca_bundle": ca,
            "certificate_pins": ["AB" * 32],
            "client_certificate": both,  # Files often hold the key too: it is not kept there.
            "allow_cleartext_auth": True,
            "command_s": 7.0,
            "max_connections": 3,
            "messages_per_connection": 0,
        },
        {CLIENT_KEY: SecretText(both)},
        EDITOR,
    )

    found = await relay(providers)
    assert (found.tls, found.ehlo_name, found.ca_bundle) == (TlsMode.IMPLICIT, "gw.example", ca)
    assert (found.pins, found.client_certificate) == (("ab" * 32,), certificate)
    assert found.client_key == SecretText(both)
    assert (found.cleartext_auth, found.deadlines.command_s) == (True, 7.0)
    assert (found.max_connections, found.messages_per_connection) == (3, 0)
    assert "PRIVATE KEY" not in repr(await providers.get(added.id))

    before = await database.read(rows)
    await database.write(projections.rebuild, (EmailProvidersProjection(),))
    assert await database.read(rows) == before


async def test_a_client_of_zitadels_changes_nothing_of_it_but_the_tls_mode(
    providers: Providers, extension: Extension
) -> None:
    added = await providers.add_smtp(smtp(), OLD, EDITOR)
    await providers.activate(added.id, EDITOR)
    await extension.configure(added.id, {"tls_mode": "implicit", "ehlo_name": "gw.example"}, {}, EDITOR)

    await providers.change_smtp(added.id, smtp(host="other:26", tls=False), OLD, EDITOR)

    found = await relay(providers)
    assert (found.host, found.tls, found.ehlo_name) == ("other", TlsMode.NONE, "gw.example")


async def test_a_login_by_token_has_its_secrets_sealed(providers: Providers, database: Database) -> None:
    login = TokenLogin(OAUTH, {CLIENT_SECRET: SecretText("canary-client")})
    added = await providers.add_smtp(smtp(), None, EDITOR, oauth=login)
    await providers.activate(added.id, EDITOR)

    found = await relay(providers)

    assert found.oauth is not None and found.oauth.client_secret == SecretText("canary-client")
    assert (found.user, found.password) == ("mailer", None)
    assert "canary" not in repr(await database.read(rows))


async def test_a_refresh_token_that_is_replaced_stays_sealed_and_disturbs_nothing(
    providers: Providers, extension: Extension, database: Database, clock: Clock
) -> None:
    added = await providers.add_smtp(smtp(), OLD, EDITOR)
    await providers.activate(added.id, EDITOR)
    oauth = replace(OAUTH, grant="refresh_token")
    await extension.configure(added.id, {"oauth": oauth}, {REFRESH_TOKEN: SecretText("canary-0")}, EDITOR)
    before = (await providers.plan())[1]
    tokens = StoredRefreshTokens(providers, database, clock, EDITOR)

    await tokens.replace(added.id, SecretText("canary-0"), SecretText("canary-1"))
    await tokens.replace(added.id, SecretText("canary-0"), SecretText("canary-2"))  # Somebody was faster.
    await tokens.replace(UNKNOWN, SecretText("canary-0"), SecretText("canary-1"))

    assert await tokens.read(added.id) == SecretText("canary-1")
    assert await tokens.read(UNKNOWN) is None
    assert (await providers.plan())[1] == before
    stored = await database.read(rows)
    assert "canary" not in repr(stored)
    await database.write(projections.rebuild, (EmailProvidersProjection(),))
    assert await database.read(rows) == stored


async def test_processes_use_a_refresh_token_in_turns(providers: Providers, database: Database, clock: Clock) -> None:
    """One that ended without a word holds up the others for two minutes."""
    here, there = (StoredRefreshTokens(providers, database, clock, EDITOR) for _ in range(2))
    assert await here.take_turn(UNKNOWN)
    assert not await there.take_turn(UNKNOWN)

    await there.end_turn(UNKNOWN)  # It has none to end.
    assert not await there.take_turn(UNKNOWN)
    await here.end_turn(UNKNOWN)
    assert await there.take_turn(UNKNOWN)

    clock.us += 119_999_999
    assert not await here.take_turn(UNKNOWN)
    clock.us += 1
    assert await here.take_turn(UNKNOWN)


async def test_a_key_that_could_sign_no_assertion_is_refused(
    providers: Providers, extension: Extension, tmp_path_factory: pytest.TempPathFactory
) -> None:
    added = await providers.add_smtp(smtp(), None, EDITOR)
    oauth = replace(OAUTH, grant="jwt_bearer")
    with pytest.raises(InvalidArgument) as caught:
        await extension.configure(added.id, {"oauth": oauth}, {PRIVATE_KEY: SecretText("no pem")}, EDITOR)
    assert caught.value.pointer == "/oauth_private_key"

    key = SecretText(make_certificates(tmp_path_factory.mktemp("pem")).server.read_text())
    view = await extension.configure(added.id, {"oauth": oauth}, {PRIVATE_KEY: key}, EDITOR)
    assert isinstance(view.config, SMTPSettings) and view.config.options.oauth == oauth


async def test_material_that_cannot_be_used_is_refused(
    providers: Providers, extension: Extension, tmp_path_factory: pytest.TempPathFactory
) -> None:
    pem = make_certificates(tmp_path_factory.mktemp("pem"))
    certificate, other = pem.server.read_text(), pem.expired.read_text()
    added = await providers.add_smtp(smtp(), OLD, EDITOR)
    cases: list[tuple[dict[str, Any], dict[str, SecretText | None], str]] = [
        ({"ca_bundle": "no pem"}, {}, "/settings/ca_bundle"),
        ({"client_certificate": "no pem"}, {}, "/settings/client_certificate"),
        ({"client_certificate": certificate}, {}, "/settings/client_certificate"),
        ({}, {CLIENT_KEY: SecretText("no pem")}, "/client_key"),
        ({"client_certificate": certificate}, {CLIENT_KEY: SecretText(other)}, "/client_key"),
        ({"certificate_pins": ["x"]}, {}, "/settings/certificate_pins/sha256/0"),
    ]
    for options, secrets, pointer in cases:
        with pytest.raises(InvalidArgument) as caught:
            await extension.configure(added.id, options, secrets, EDITOR)
        assert caught.value.pointer == pointer


# --- rotation


async def test_a_rotation_logs_in_first_and_keeps_the_old_password_for_its_grace_time(
    providers: Providers, extension: Extension, login: Login, clock: Clock
) -> None:
    added = await providers.add_smtp(smtp(), OLD, EDITOR)
    await providers.activate(added.id, EDITOR)

    done = await extension.rotate(added.id, NEW, EDITOR)

    [tried] = login.settings
    assert (tried.password, tried.old_password) == (NEW, None)
    assert done.old_until_us == clock.us + GRACE_US
    found = await relay(providers)
    assert (found.password, found.old_password) == (NEW, OLD)

    clock.us += GRACE_US
    assert (await relay(providers)).old_password is None


async def test_a_password_that_is_refused_changes_nothing(
    providers: Providers, extension: Extension, login: Login
) -> None:
    added = await providers.add_smtp(smtp(), OLD, EDITOR)
    await providers.activate(added.id, EDITOR)
    login.report = REFUSED

    with pytest.raises(LoginFailed, match=r"535 5\.7\.8 no") as caught:
        await extension.rotate(added.id, NEW, EDITOR)

    assert NEW.reveal() not in str(caught.value)
    assert (await relay(providers)).password == OLD
    with pytest.raises(NotFound):
        await extension.rotate(UNKNOWN, NEW, EDITOR)


async def test_an_inactive_provider_is_rotated_too_and_unverified_where_the_server_is_not_ready(
    providers: Providers, extension: Extension, login: Login
) -> None:
    added = await providers.add_smtp(smtp(), OLD, EDITOR)

    done = await extension.rotate(added.id, NEW, EDITOR, verified=False)

    assert (done.login, login.settings) == (None, [])
    await providers.activate(added.id, EDITOR)
    assert (await relay(providers)).password == NEW


async def test_the_wires_password_calls_keep_the_old_one_too(providers: Providers) -> None:
    added = await providers.add_smtp(smtp(), OLD, EDITOR)
    await providers.activate(added.id, EDITOR)

    await providers.change_password(added.id, NEW, EDITOR)

    found = await relay(providers)
    assert (found.password, found.old_password) == (NEW, OLD)


@pytest.mark.parametrize("change", [{"host": "other:25"}, {"user": "other"}, {"tls": False}])
async def test_a_password_goes_nowhere_but_where_it_was_for(providers: Providers, change: dict[str, Any]) -> None:
    """Whoever may change a provider could otherwise have its password sent to a server of their own."""
    added = await providers.add_smtp(smtp(), OLD, EDITOR)
    await providers.activate(added.id, EDITOR)
    await providers.change_password(added.id, NEW, EDITOR)

    await providers.change_smtp(added.id, replace(smtp(), **change), None, EDITOR)
    unusable = await providers.relay()
    assert isinstance(unusable, UnusableRelay) and "set the password again" in unusable.reason

    await providers.change_smtp(added.id, smtp(), None, EDITOR)
    found = await relay(providers)
    assert (found.password, found.old_password) == (NEW, None)

    await providers.change_smtp(added.id, replace(smtp(), **change), SecretText("third"), EDITOR)
    assert (await relay(providers)).old_password is None


async def test_an_old_password_is_no_fall_back_for_another_destination(providers: Providers) -> None:
    """Else one could name a host and a new password, refuse that there, and be sent the old one."""
    added = await providers.add_smtp(smtp(), OLD, EDITOR)
    await providers.activate(added.id, EDITOR)
    await providers.change_smtp(added.id, smtp(host="other:25"), None, EDITOR)

    await providers.change_password(added.id, NEW, EDITOR)

    found = await relay(providers)
    assert (found.host, found.password, found.old_password) == ("other", NEW, None)


async def test_a_password_that_is_set_again_is_not_tried_twice(providers: Providers) -> None:
    """Providers lock out who comes too often with what they refuse."""
    added = await providers.add_smtp(smtp(), OLD, EDITOR)
    await providers.activate(added.id, EDITOR)

    await providers.change_password(added.id, OLD, EDITOR)

    assert (await relay(providers)).old_password is None


async def test_a_destination_that_changes_during_the_login_ends_the_rotation(
    providers: Providers, extension: Extension, login: Login
) -> None:
    added = await providers.add_smtp(smtp(), OLD, EDITOR)

    async def meanwhile() -> None:
        await providers.change_smtp(added.id, smtp(host="other:25"), None, EDITOR)

    login.meanwhile = meanwhile
    with pytest.raises(FailedPrecondition, match="meanwhile"):
        await extension.rotate(added.id, NEW, EDITOR)


async def test_who_erases_a_password_keeps_none(providers: Providers) -> None:
    added = await providers.add_smtp(smtp(), OLD, EDITOR)
    await providers.activate(added.id, EDITOR)

    await providers.change_password(added.id, None, EDITOR)

    found = await relay(providers)
    assert (found.password, found.old_password) == (None, None)
    view = await providers.get(added.id)
    assert isinstance(view.config, SMTPSettings) and view.config.secrets == frozenset()
