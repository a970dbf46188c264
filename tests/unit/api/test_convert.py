"""Between the wire's messages and the provider room's types."""

from dataclasses import replace

import pytest
from google.protobuf.json_format import MessageToDict

from mailward.api import convert
from mailward.errors import InvalidArgument
from mailward.ids import InstanceId, ProviderId
from mailward.proto.zitadel import admin_pb2 as admin
from mailward.provider.commands import Details
from mailward.provider.options import CLIENT_SECRET, OAuthOptions, Options
from mailward.provider.payloads import Sealed
from mailward.provider.queries import HTTPSettings, ProviderPage, ProviderView, SMTPSettings
from mailward.provider.state import HTTPConfig, SMTPConfig
from mailward.secretbox import SecretText

INSTANCE = InstanceId("227654321098765432")
SMTP = ProviderView(
    id=ProviderId("227654321098765433"),
    instance=INSTANCE,
    state="inactive",
    description="main relay",
    sequence=7,
    creation_us=1_790_000_000_000_000,
    change_us=1_790_000_000_123_456,
    config=SMTPSettings(
        sender_address="a@example.com", sender_name="A", reply_to="r@example.com", tls=True, host="h:587", user="u"
    ),
)
HTTP = replace(SMTP, config=HTTPSettings(endpoint="https://example.com/hook", signing_key=Sealed("sealed")))
DETAILS = Details(7, 1_790_000_000_123_456, INSTANCE)


def test_a_request_becomes_a_configuration_with_every_field_in_its_place() -> None:
    request = admin.UpdateSMTPConfigRequest(
        id="1",
        sender_address="a@example.com",
        sender_name="A",
        host="h:587",
        tls=True,
        user="u",
        password="p",
        reply_to_address="r@example.com",
        description="d",
    )

    assert convert.smtp_config(request) == SMTPConfig(
        sender_address="a@example.com",
        sender_name="A",
        host="h:587",
        tls=True,
        user="u",
        reply_to="r@example.com",
        description="d",
    )


def test_an_http_request_becomes_a_configuration() -> None:
    request = admin.AddEmailProviderHTTPRequest(endpoint="e", description="d")

    assert convert.http_config(request) == HTTPConfig(endpoint="e", description="d")


@pytest.mark.parametrize("field", ["sender_address", "host", "user", "password", "description"])
def test_a_text_with_a_nul_is_refused_on_every_engine(field: str) -> None:
    request = admin.AddSMTPConfigRequest(**{field: "a\0b"})  # type: ignore[arg-type]

    with pytest.raises(InvalidArgument, match="U\\+0000"):
        convert.smtp_config(request)


def test_an_empty_secret_is_none_given() -> None:
    assert convert.secret("") is None
    assert convert.secret("p") == SecretText("p")


@pytest.mark.parametrize(
    ("auth", "password"),
    [
        ({"password": "old"}, "old"),
        ({"password": "old", "plain": {"password": "new"}}, "new"),
        ({"password": "old", "none": {}}, None),
        ({}, None),
    ],
)
def test_the_newer_way_to_name_a_password_wins_over_the_older(auth: dict[str, object], password: str | None) -> None:
    found = convert.password_of(admin.AddEmailProviderSMTPRequest(**auth))  # type: ignore[arg-type]

    assert found == (SecretText(password) if password else None)


def test_xoauth2_is_a_login_by_client_credentials_and_is_shown_without_its_secret() -> None:
    client = admin.SMTPXOAuth2Auth.ClientCredentials(client_id="c", client_secret="s3cret")
    auth = admin.SMTPXOAuth2Auth(token_endpoint="https://t.example/token", scopes=["a"], client_credentials=client)
    request = admin.AddEmailProviderSMTPRequest(xoauth2=auth, password="not used")

    login = convert.token_login_of(request)

    assert login is not None and convert.password_of(request) is None
    assert login.oauth == OAuthOptions(
        grant="client_credentials", token_endpoint="https://t.example/token", client_id="c", scopes=("a",)
    )
    assert login.secrets == {CLIENT_SECRET: SecretText("s3cret")}
    assert convert.token_login_of(admin.AddEmailProviderSMTPRequest(password="p")) is None
    assert isinstance(SMTP.config, SMTPSettings)
    view = replace(SMTP, config=replace(SMTP.config, options=Options(oauth=login.oauth)))
    assert MessageToDict(convert.shown_as_email(view, None).smtp.xoauth2) == {
        "tokenEndpoint": "https://t.example/token",
        "scopes": ["a"],
        "clientCredentials": {"clientId": "c"},
    }


# -- details ----------------------------------------------------------------------------------------------------------


def test_a_change_shows_its_time_as_the_change_date() -> None:
    assert MessageToDict(convert.changed(DETAILS)) == {
        "sequence": "7",
        "changeDate": "2026-09-21T14:13:20.123456Z",
        "resourceOwner": INSTANCE,
    }


def test_an_activation_shows_its_time_as_the_creation_date() -> None:
    assert MessageToDict(convert.created(DETAILS)) == {
        "sequence": "7",
        "creationDate": "2026-09-21T14:13:20.123456Z",
        "resourceOwner": INSTANCE,
    }


def test_a_view_shows_both() -> None:
    assert MessageToDict(convert.viewed(SMTP)) == {
        "sequence": "7",
        "creationDate": "2026-09-21T14:13:20Z",
        "changeDate": "2026-09-21T14:13:20.123456Z",
        "resourceOwner": INSTANCE,
    }


def test_a_list_shows_how_many_there_are_and_when_they_last_changed() -> None:
    assert MessageToDict(convert.listed(ProviderPage([SMTP], 5, 1_790_000_000_000_000))) == {
        "totalResult": "5",
        "viewTimestamp": "2026-09-21T14:13:20Z",
    }
    assert MessageToDict(convert.listed(ProviderPage([], 0, 0))) == {}


# -- the two families -------------------------------------------------------------------------------------------------


def test_the_smtp_family_shows_all_of_an_smtp_provider_but_its_password() -> None:
    shown = convert.shown_as_smtp(SMTP)

    assert shown is not None
    assert MessageToDict(shown) == {
        "details": MessageToDict(convert.viewed(SMTP)),
        "id": SMTP.id,
        "state": "SMTP_CONFIG_INACTIVE",
        "description": "main relay",
        "senderAddress": "a@example.com",
        "senderName": "A",
        "tls": True,
        "host": "h:587",
        "user": "u",
        "replyToAddress": "r@example.com",
    }


def test_a_list_of_the_smtp_family_leaves_the_reply_address_out() -> None:
    item = MessageToDict(convert.listed_as_smtp(replace(SMTP, state="active")))

    assert "replyToAddress" not in item
    assert item["state"] == "SMTP_CONFIG_ACTIVE"


def test_the_smtp_family_lists_an_http_provider_without_settings_and_cannot_show_it_otherwise() -> None:
    assert MessageToDict(convert.listed_as_smtp(HTTP)).keys() == {"details", "id", "state", "description"}
    assert convert.shown_as_smtp(HTTP) is None


def test_the_email_family_shows_an_http_provider_with_its_key() -> None:
    shown = MessageToDict(convert.shown_as_email(HTTP, SecretText("key")))

    assert shown["http"] == {"endpoint": "https://example.com/hook", "signingKey": "key"}
    assert shown["state"] == "EMAIL_PROVIDER_INACTIVE"


def test_the_email_family_shows_an_smtp_provider_with_its_reply_address() -> None:
    shown = MessageToDict(convert.shown_as_email(replace(SMTP, state="active"), None))

    assert shown["smtp"]["replyToAddress"] == "r@example.com"
    assert shown["state"] == "EMAIL_PROVIDER_ACTIVE"
