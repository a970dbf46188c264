"""Options of a provider: what is refused, and that what is stored is read as it was."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mailward.errors import FailedPrecondition, InvalidArgument, NotFound
from mailward.provider import options as opt
from mailward.provider.aggregate import AddSMTP, ChangePassword, ChangeSMTP, decide
from mailward.provider.certificates import pin
from mailward.provider.configuring import Configure, OAuthChange, RotatePassword, RotateRefreshToken, smtp_provider
from mailward.provider.events import (
    ProviderActivated,
    ProviderConfigured,
    RefreshTokenRotated,
    SMTPConfigChanged,
    SMTPPasswordChanged,
)
from mailward.provider.options import OAuthOptions, Options, tls_of
from mailward.provider.presets import PRESETS
from mailward.provider.state import EmailProviders, replay
from tests.support.providers import KEY, NEW_KEY, NEW_PASSWORD, PASSWORD, A, B, added, http_added, smtp

THERE = ("smtp.example.com:587", True, "mailer", None)
OAUTH = OAuthOptions(
    grant="client_credentials",
    token_endpoint="https://login.example.com/token",
    client_id="client",
    scopes=("a", "b"),
    subject="me",
)


@pytest.mark.parametrize(
    "options",
    [
        Options(),
        Options(tls_mode="implicit", connect_s=3.5, allow_cleartext_auth=False, messages_per_connection=0),
        Options(certificate_pins=("a" * 64, "b" * 64), oauth=OAUTH),
        Options(oauth=replace(OAUTH, scopes=())),
    ],
)
def test_options_are_read_as_they_were_stored(options: Options) -> None:
    assert opt.from_plain(opt.to_plain(options)) == options


def test_options_of_a_later_version_are_ignored() -> None:
    assert opt.from_plain({"notes": "x", "later": 1}) == Options(notes="x")


@pytest.mark.parametrize(
    ("tls", "mode", "used"),
    [
        (True, "", "auto"),
        (False, "", "none"),
        (True, "implicit", "implicit"),
        (False, "none", "none"),
        (False, "implicit", "none"),
        (True, "none", "auto"),
    ],
)
def test_a_tls_mode_holds_while_it_agrees_with_the_wire(tls: bool, mode: str, used: str) -> None:
    assert tls_of(tls, mode) == used


@pytest.mark.parametrize(
    ("options", "secrets", "pointer"),
    [
        (Options(tls_mode="ssl"), {}, "/settings/tls_mode"),
        (Options(ehlo_name="a b"), {}, "/settings/ehlo_name"),
        (Options(ehlo_name="a\r\nQUIT"), {}, "/settings/ehlo_name"),
        (Options(connect_s=601), {}, "/settings/deadlines/connect_s"),
        (Options(final_s=-1), {}, "/settings/deadlines/final_s"),
        (Options(client_certificate="x"), {}, "/settings/client_certificate"),
        (Options(), {opt.CLIENT_KEY: KEY}, "/settings/client_certificate"),
        (Options(oauth=OAUTH), {}, "/oauth_client_secret"),
        (Options(oauth=replace(OAUTH, grant="password")), {}, "/settings/oauth"),
        (
            Options(oauth=replace(OAUTH, token_endpoint="http://login.example.com/t")),
            {},
            "/settings/oauth/token_endpoint",
        ),
        (Options(oauth=replace(OAUTH, certificate_thumbprint="abc")), {}, "/settings/oauth/certificate_thumbprint"),
        (Options(oauth=replace(OAUTH, token_endpoint="ftp://x")), {}, "/settings/oauth/token_endpoint"),
        (Options(oauth=replace(OAUTH, token_endpoint="https://x:99999")), {}, "/settings/oauth/token_endpoint"),
        (Options(oauth=replace(OAUTH, client_id="")), {}, "/settings/oauth/client_id"),
        (Options(oauth=replace(OAUTH, grant="jwt_bearer")), {opt.CLIENT_SECRET: KEY}, "/oauth_private_key"),
    ],
)
def test_what_could_never_work_is_refused_with_the_place(options: Options, secrets: Any, pointer: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        opt.check(options, secrets)
    assert caught.value.pointer == pointer


@pytest.mark.parametrize("text", ["AB" * 32, ":".join(["ab"] * 32), "sha256:" + "ab" * 32, "q" + "6ur" * 14 + "="])
def test_a_pin_may_be_written_in_hex_or_base64(text: str) -> None:
    assert len(pin(text, "/x")) == 64


@pytest.mark.parametrize("text", ["", "abcd", "YWJj", "zz" * 32, "ü" * 44])
def test_what_is_no_sha256_is_no_pin(text: str) -> None:
    with pytest.raises(InvalidArgument):
        pin(text, "/x")


# --- decisions

ONE = replay([added(A)])


def test_options_that_are_given_change_and_others_stay() -> None:
    state = replay(decide(ONE, Configure(A, {"notes": "x"})), ONE)

    [event] = decide(state, Configure(A, {"ehlo_name": "gw.example"}))

    assert event == ProviderConfigured(id=A, options=Options(notes="x", ehlo_name="gw.example"))
    assert decide(replay([event], state), Configure(A, {"notes": "x"})) == []


def test_the_wires_tls_follows_an_explicit_mode() -> None:
    off = decide(ONE, Configure(A, {"tls_mode": "none"}))

    assert off == [SMTPConfigChanged(id=A, tls=False), ProviderConfigured(id=A, options=Options(tls_mode="none"))]
    assert [type(event) for event in decide(ONE, Configure(A, {"tls_mode": "implicit"}))] == [ProviderConfigured]


def test_options_survive_a_change_over_the_wire() -> None:
    state = replay(decide(ONE, Configure(A, {"ehlo_name": "gw.example"})), ONE)

    state = replay(decide(state, ChangeSMTP(A, smtp(host="other:25"), NEW_PASSWORD)), state)

    assert smtp_provider(state, A).options == Options(ehlo_name="gw.example")


def test_secrets_go_when_nothing_needs_them_any_more() -> None:
    state = replay(decide(ONE, Configure(A, {"oauth": OAUTH}, {opt.CLIENT_SECRET: KEY})), ONE)

    [event] = decide(state, Configure(A, {"oauth": None}))

    assert event == ProviderConfigured(id=A, options=Options(), secrets={})


def test_a_login_by_token_comes_over_the_wire_and_goes_with_a_new_password() -> None:
    login = OAuthChange(OAUTH, {opt.CLIENT_SECRET: KEY})
    state = replay(decide(EmailProviders(), AddSMTP(A, smtp(), None, login)))
    assert smtp_provider(state, A).options.oauth == OAUTH

    kept = replay(decide(state, ChangeSMTP(A, smtp(description="x"))), state)
    assert smtp_provider(kept, A).options.oauth == OAUTH
    assert decide(kept, ChangeSMTP(A, smtp(description="x"), None, OAuthChange(OAUTH, {}))) == []

    ended = replay(decide(kept, ChangeSMTP(A, smtp(host="other:25"), PASSWORD)), kept)
    assert smtp_provider(ended, A).options.oauth is None
    assert smtp_provider(ended, A).secrets == {}


BY_TOKEN = replay(decide(ONE, Configure(A, {"oauth": OAUTH}, {opt.CLIENT_SECRET: KEY})), ONE)
ELSEWHERE = replace(OAUTH, token_endpoint="https://elsewhere.example.com/token")


@pytest.mark.parametrize(
    "change",
    [
        Configure(A, {"oauth": ELSEWHERE}),
        Configure(A, {"oauth": replace(OAUTH, client_id="other")}),
        ChangeSMTP(A, smtp(host="other:25")),
        ChangeSMTP(A, smtp(), None, OAuthChange(ELSEWHERE, {})),
    ],
)
def test_a_clients_secret_follows_to_no_other_endpoint_client_or_host(change: Configure | ChangeSMTP) -> None:
    with pytest.raises(InvalidArgument) as caught:
        decide(BY_TOKEN, change)
    assert caught.value.pointer == "/oauth_client_secret"


def test_a_login_by_token_needs_a_user() -> None:
    with pytest.raises(InvalidArgument) as caught:
        decide(EmailProviders(), AddSMTP(A, smtp(user=""), None, OAuthChange(OAUTH, {opt.CLIENT_SECRET: KEY})))
    assert caught.value.pointer == "/user"


def test_a_password_call_ends_a_login_by_token_and_a_verified_rotation_does_not() -> None:
    state = replay([ProviderActivated(A)], BY_TOKEN)

    assert decide(state, ChangePassword(A, NEW_PASSWORD)) == [
        SMTPPasswordChanged(A, NEW_PASSWORD),
        ProviderConfigured(id=A, options=Options(), secrets={}),
    ]
    with pytest.raises(FailedPrecondition, match="token"):
        decide(state, RotatePassword(A, NEW_PASSWORD, THERE))


def test_a_refresh_token_is_replaced_unless_an_operator_was_faster() -> None:
    oauth = replace(OAUTH, grant="refresh_token")
    state = replay(decide(ONE, Configure(A, {"oauth": oauth}, {opt.REFRESH_TOKEN: KEY})), ONE)

    [event] = decide(state, RotateRefreshToken(A, KEY, NEW_KEY))

    assert event == RefreshTokenRotated(A, NEW_KEY)
    assert smtp_provider(replay([event], state), A).secrets == {opt.REFRESH_TOKEN: NEW_KEY}
    assert decide(state, RotateRefreshToken(A, NEW_KEY, KEY)) == []


def test_a_rotation_is_decided_for_any_smtp_provider_that_logs_in() -> None:
    assert decide(ONE, RotatePassword(A, NEW_PASSWORD, THERE)) == [SMTPPasswordChanged(A, NEW_PASSWORD)]
    with pytest.raises(NotFound):
        decide(ONE, RotatePassword(B, NEW_PASSWORD, THERE))
    with pytest.raises(NotFound):
        decide(replay([http_added(A)]), Configure(A, {"notes": "x"}))
    with pytest.raises(FailedPrecondition):
        decide(replay([added(A, smtp(user=""))]), RotatePassword(A, NEW_PASSWORD, THERE))
    with pytest.raises(FailedPrecondition, match="meanwhile"):
        decide(replay([added(A, smtp(host="other:25"))]), RotatePassword(A, NEW_PASSWORD, THERE))


def test_presets_are_well_formed_and_have_ids_of_their_own() -> None:
    assert len(PRESETS) >= 20
    assert len({preset.id for preset in PRESETS}) == len(PRESETS)
    for preset in PRESETS:
        assert preset.tls_mode == ("implicit" if preset.port == 465 else "starttls")
        assert preset.documentation.startswith("https://")
        assert preset.hint.endswith(".")
        assert bool(preset.token_endpoint) == ("xoauth2" in preset.auth)


def test_the_how_to_says_of_each_preset_what_it_was_compared_with() -> None:
    page = (Path(__file__).parents[3] / "docs/howto/presets.md").read_text()
    told = re.findall(r"^\| `([^`]+)` \| `([^`]+)` \| (\w+) \|", page, re.M)

    others = [preset for preset in PRESETS if not preset.id.startswith("ses-")]
    assert told[0][:1] == ("ses-…",)
    assert told[1:] == [(preset.id, f"{preset.host}:{preset.port}", preset.tls_mode) for preset in others]
