"""Between protobuf messages and the provider room's types, both ways."""

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from mailward.errors import InvalidArgument
from mailward.ids import ProviderId
from mailward.proto.zitadel import admin_pb2 as admin
from mailward.proto.zitadel import settings_pb2 as settings
from mailward.proto.zitadel.object_pb2 import ListDetails, ObjectDetails
from mailward.provider.commands import Details
from mailward.provider.configuring import TokenLogin
from mailward.provider.options import CLIENT_SECRET, OAuthOptions
from mailward.provider.queries import HTTPSettings, ProviderPage, ProviderView, SMTPSettings
from mailward.provider.state import HTTPConfig, SMTPConfig
from mailward.provider.testing import UnsavedTest
from mailward.secretbox import SecretText

_US = 1_000_000

SMTPRequest = (
    admin.AddSMTPConfigRequest
    | admin.UpdateSMTPConfigRequest
    | admin.AddEmailProviderSMTPRequest
    | admin.UpdateEmailProviderSMTPRequest
)
EmailSMTPRequest = (
    admin.AddEmailProviderSMTPRequest | admin.UpdateEmailProviderSMTPRequest | admin.TestEmailProviderSMTPRequest
)
HTTPRequest = admin.AddEmailProviderHTTPRequest | admin.UpdateEmailProviderHTTPRequest


def smtp_config(request: SMTPRequest) -> SMTPConfig:
    """Return all that `request` says of an SMTP provider but its secret. Raises InvalidArgument."""
    refuse_nul(request)
    return SMTPConfig(
        sender_address=request.sender_address,
        sender_name=request.sender_name,
        host=request.host,
        tls=request.tls,
        user=request.user,
        reply_to=request.reply_to_address,
        description=request.description,
    )


def http_config(request: HTTPRequest) -> HTTPConfig:
    """Return all that `request` says of an HTTP provider. Raises InvalidArgument."""
    refuse_nul(request)
    return HTTPConfig(endpoint=request.endpoint, description=request.description)


def refuse_nul(request: Message) -> None:
    """Raise InvalidArgument for U+0000 in a text, as the reader of JSON did already: not every engine can store it."""
    for field, value in request.ListFields():
        if isinstance(value, str) and "\0" in value:
            name = field.json_name
            raise InvalidArgument("API-Nu0Lc", f"U+0000 is not allowed in {name}", pointer=f"/{name}")


def secret(text: str) -> SecretText | None:
    """Return a field that holds a secret; None when it is empty, which means "none given"."""
    return SecretText(text) if text else None


def password_of(request: EmailSMTPRequest) -> SecretText | None:
    """Return the password of a request of the email family: in `plain`, or where older clients put it."""
    match request.WhichOneof("Auth"):
        case "plain":
            return secret(request.plain.password)
        case "xoauth2" | "none":
            return None
        case _:
            return secret(request.password)


def token_login_of(request: EmailSMTPRequest) -> TokenLogin | None:
    """Return how a request of the email family logs in by token, None when it does not; without a secret: as stored."""
    if request.WhichOneof("Auth") != "xoauth2":
        return None
    refuse_nul(request.xoauth2)
    client = request.xoauth2.client_credentials
    refuse_nul(client)
    oauth = OAuthOptions(
        grant="client_credentials",
        token_endpoint=request.xoauth2.token_endpoint,
        client_id=client.client_id,
        scopes=tuple(request.xoauth2.scopes),
    )
    given = secret(client.client_secret)
    return TokenLogin(oauth, {CLIENT_SECRET: given} if given else {})


def unsaved_test(
    request: admin.TestSMTPConfigRequest | admin.TestEmailProviderSMTPRequest,
    password: SecretText | None,
    *,
    without_auth: bool = False,
    oauth: TokenLogin | None = None,
) -> UnsavedTest:
    """Return the settings to try, the password taken out of the request by the caller."""
    return UnsavedTest(
        sender_address=request.sender_address,
        sender_name=request.sender_name,
        host=request.host,
        tls=request.tls,
        user=request.user,
        password=password,
        id=ProviderId(request.id),
        receiver=request.receiver_address,
        without_auth=without_auth,
        oauth=oauth,
    )


def timestamp(at_us: int) -> Timestamp:
    """Return the protobuf form of µs since 1970."""
    seconds, rest_us = divmod(at_us, _US)
    return Timestamp(seconds=seconds, nanos=rest_us * 1000)


# -- details (spec 3.6) -----------------------------------------------------------------------------------------------


def changed(details: Details) -> ObjectDetails:
    """Return the CHANGE profile: the date as changeDate."""
    return ObjectDetails(
        sequence=details.sequence, change_date=timestamp(details.at_us), resource_owner=details.resource_owner
    )


def created(details: Details) -> ObjectDetails:
    """Return the ADD profile: the date as creationDate."""
    return ObjectDetails(
        sequence=details.sequence, creation_date=timestamp(details.at_us), resource_owner=details.resource_owner
    )


def viewed(view: ProviderView) -> ObjectDetails:
    """Return the VIEW profile: both dates."""
    return ObjectDetails(
        sequence=view.sequence,
        creation_date=timestamp(view.creation_us),
        change_date=timestamp(view.change_us),
        resource_owner=view.instance,
    )


def listed(page: ProviderPage) -> ListDetails:
    """Return the head of a list; no viewTimestamp before the first change."""
    at = timestamp(page.view_us) if page.view_us else None
    return ListDetails(total_result=page.total, view_timestamp=at)


# -- the two families of a provider (spec 4.3) ------------------------------------------------------------------------


def shown_as_smtp(view: ProviderView) -> settings.SMTPConfig | None:
    """Return the provider as `/smtp/*` shows one; None for an HTTP provider, which it cannot show."""
    return None if isinstance(view.config, HTTPSettings) else _smtp(view)


def listed_as_smtp(view: ProviderView) -> settings.SMTPConfig:
    """Return an item of ListSMTPConfigs: without replyToAddress, and for an HTTP provider without the SMTP fields."""
    return _smtp(view, shows_reply_to=False)


def _smtp(view: ProviderView, *, shows_reply_to: bool = True) -> settings.SMTPConfig:
    # The original shows the number 3 for an inactive one in Get, and this name in List; the name serves every client.
    state = settings.SMTP_CONFIG_ACTIVE if view.state == "active" else settings.SMTP_CONFIG_INACTIVE
    config = view.config
    if isinstance(config, HTTPSettings):
        return settings.SMTPConfig(details=viewed(view), id=view.id, state=state, description=view.description)
    return settings.SMTPConfig(
        details=viewed(view),
        id=view.id,
        state=state,
        description=view.description,
        sender_address=config.sender_address,
        sender_name=config.sender_name,
        tls=config.tls,
        host=config.host,
        user=config.user,
        reply_to_address=config.reply_to if shows_reply_to else "",
    )


def shown_as_email(view: ProviderView, signing_key: SecretText | None) -> settings.EmailProvider:
    """Return the provider as `/email/*` shows one. `signing_key`: of an HTTP provider, which shows it (spec 4.3)."""
    state = settings.EMAIL_PROVIDER_ACTIVE if view.state == "active" else settings.EMAIL_PROVIDER_INACTIVE
    shown = settings.EmailProvider(details=viewed(view), id=view.id, state=state, description=view.description)
    match view.config:
        case SMTPSettings() as smtp:
            shown.smtp.CopyFrom(
                settings.EmailProviderSMTP(
                    sender_address=smtp.sender_address,
                    sender_name=smtp.sender_name,
                    tls=smtp.tls,
                    host=smtp.host,
                    user=smtp.user,
                    reply_to_address=smtp.reply_to,
                    xoauth2=_xoauth2(smtp.options.oauth),
                )
            )
        case HTTPSettings() as http:
            key = signing_key.reveal() if signing_key else ""
            shown.http.CopyFrom(settings.EmailProviderHTTP(endpoint=http.endpoint, signing_key=key))
    return shown


def _xoauth2(oauth: OAuthOptions | None) -> settings.SMTPXOAuth2Auth | None:
    """Return a login by token as `/email/*` shows one; it has no place for grants other than client credentials."""
    if oauth is None:
        return None
    shown = settings.SMTPXOAuth2Auth(token_endpoint=oauth.token_endpoint, scopes=oauth.scopes)
    if oauth.grant == "client_credentials":
        shown.client_credentials.client_id = oauth.client_id
    return shown
