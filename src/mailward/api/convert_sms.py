"""Between protobuf messages and the SMS providers of the provider room, both ways."""

from mailward.api import convert
from mailward.proto.zitadel import admin_pb2 as admin
from mailward.proto.zitadel import settings_pb2 as settings
from mailward.proto.zitadel.object_pb2 import ListDetails, ObjectDetails
from mailward.provider.queries import HTTPSettings
from mailward.provider.sms import TwilioConfig
from mailward.provider.sms_queries import SMSPage, SMSView, TwilioSettings
from mailward.provider.state import HTTPConfig
from mailward.secretbox import SecretText


def twilio_config(request: admin.AddSMSProviderTwilioRequest | admin.UpdateSMSProviderTwilioRequest) -> TwilioConfig:
    """Return all that `request` says of a Twilio account but its token. Raises InvalidArgument."""
    convert.refuse_nul(request)
    return TwilioConfig(
        sid=request.sid,
        sender_number=request.sender_number,
        verify_service_sid=request.verify_service_sid,
        description=request.description,
    )


def http_config(request: admin.AddSMSProviderHTTPRequest | admin.UpdateSMSProviderHTTPRequest) -> HTTPConfig:
    """Return all that `request` says of an HTTP endpoint. Raises InvalidArgument."""
    convert.refuse_nul(request)
    return HTTPConfig(endpoint=request.endpoint, description=request.description)


def shown(view: SMSView, signing_key: SecretText | None) -> settings.SMSProvider:
    """Return the SMS provider as a read shows it. `signing_key`: of an HTTP endpoint."""
    state = settings.SMS_PROVIDER_CONFIG_INACTIVE
    if view.state == "active":
        state = settings.SMS_PROVIDER_CONFIG_ACTIVE
    details = ObjectDetails(
        sequence=view.sequence,
        creation_date=convert.timestamp(view.creation_us),
        change_date=convert.timestamp(view.change_us),
        resource_owner=view.instance,
    )
    provider = settings.SMSProvider(details=details, id=view.id, state=state, description=view.description)
    match view.config:
        case TwilioSettings() as twilio:
            provider.twilio.CopyFrom(
                settings.TwilioConfig(
                    sid=twilio.sid,
                    sender_number=twilio.sender_number,
                    verify_service_sid=twilio.verify_service_sid,
                )
            )
        case HTTPSettings() as http:
            key = signing_key.reveal() if signing_key else ""
            provider.http.CopyFrom(settings.HTTPConfig(endpoint=http.endpoint, signing_key=key))
    return provider


def listed(page: SMSPage) -> ListDetails:
    """Return the head of a list; no viewTimestamp before the first change."""
    at = convert.timestamp(page.view_us) if page.view_us else None
    return ListDetails(total_result=page.total, view_timestamp=at)
