"""The `/sms` family: who could send SMS. Sending them is not ours."""

from mailward.api import convert, convert_sms
from mailward.ids import ProviderId
from mailward.proto.zitadel import admin_pb2 as admin
from mailward.proto.zitadel import settings_pb2 as settings
from mailward.provider.sms_commands import SMSProviders
from mailward.provider.sms_queries import SMSView
from mailward.rpc.service import Call
from mailward.secretbox import SecretText


class SMSMethods:
    """Ten methods of the AdminService. Add, Activate, Deactivate and Remove answer with a creationDate (spec 1.3)."""

    sms: SMSProviders

    async def add_sms_provider_twilio(
        self, request: admin.AddSMSProviderTwilioRequest, call: Call
    ) -> admin.AddSMSProviderTwilioResponse:
        """Add an inactive Twilio account."""
        config, token = convert_sms.twilio_config(request), SecretText(request.token)
        added = await self.sms.add_twilio(config, token, call.caller.user_id)
        return admin.AddSMSProviderTwilioResponse(details=convert.created(added.details), id=added.id)

    async def update_sms_provider_twilio(
        self, request: admin.UpdateSMSProviderTwilioRequest, call: Call
    ) -> admin.UpdateSMSProviderTwilioResponse:
        """Replace all but the token."""
        config = convert_sms.twilio_config(request)
        details = await self.sms.change_twilio(ProviderId(request.id), config, call.caller.user_id)
        return admin.UpdateSMSProviderTwilioResponse(details=convert.changed(details))

    async def update_sms_provider_twilio_token(
        self, request: admin.UpdateSMSProviderTwilioTokenRequest, call: Call
    ) -> admin.UpdateSMSProviderTwilioTokenResponse:
        """Replace the token."""
        token = SecretText(request.token)
        details = await self.sms.change_twilio_token(ProviderId(request.id), token, call.caller.user_id)
        return admin.UpdateSMSProviderTwilioTokenResponse(details=convert.changed(details))

    async def add_sms_provider_http(
        self, request: admin.AddSMSProviderHTTPRequest, call: Call
    ) -> admin.AddSMSProviderHTTPResponse:
        """Add an inactive HTTP endpoint; the answer carries its signing key."""
        added = await self.sms.add_http(convert_sms.http_config(request), call.caller.user_id)
        key = added.signing_key.reveal() if added.signing_key else ""
        return admin.AddSMSProviderHTTPResponse(details=convert.created(added.details), id=added.id, signing_key=key)

    async def update_sms_provider_http(
        self, request: admin.UpdateSMSProviderHTTPRequest, call: Call
    ) -> admin.UpdateSMSProviderHTTPResponse:
        """Replace endpoint and description; make a new signing key when an expiration (of 0 s) is given."""
        done = await self.sms.change_http(
            ProviderId(request.id),
            convert_sms.http_config(request),
            call.caller.user_id,
            new_key=request.HasField("expiration_signing_key"),
        )
        key = done.signing_key.reveal() if done.signing_key else None
        return admin.UpdateSMSProviderHTTPResponse(details=convert.changed(done.details), signing_key=key)

    async def get_sms_provider(self, request: admin.GetSMSProviderRequest, call: Call) -> admin.GetSMSProviderResponse:
        """Return an SMS provider."""
        return admin.GetSMSProviderResponse(config=self._shown_sms(await self.sms.get(ProviderId(request.id))))

    async def list_sms_providers(
        self, request: admin.ListSMSProvidersRequest, call: Call
    ) -> admin.ListSMSProvidersResponse:
        """Return a page of all SMS providers."""
        page = await self.sms.list(request.query.offset, request.query.limit)
        result = [self._shown_sms(view) for view in page.items]
        return admin.ListSMSProvidersResponse(details=convert_sms.listed(page), result=result)

    async def activate_sms_provider(
        self, request: admin.ActivateSMSProviderRequest, call: Call
    ) -> admin.ActivateSMSProviderResponse:
        """Make this SMS provider the active one, and no other."""
        details = await self.sms.activate(ProviderId(request.id), call.caller.user_id)
        return admin.ActivateSMSProviderResponse(details=convert.created(details))

    async def deactivate_sms_provider(
        self, request: admin.DeactivateSMSProviderRequest, call: Call
    ) -> admin.DeactivateSMSProviderResponse:
        """Leave no SMS provider active."""
        details = await self.sms.deactivate(ProviderId(request.id), call.caller.user_id)
        return admin.DeactivateSMSProviderResponse(details=convert.created(details))

    async def remove_sms_provider(
        self, request: admin.RemoveSMSProviderRequest, call: Call
    ) -> admin.RemoveSMSProviderResponse:
        """Remove an SMS provider, active or not."""
        details = await self.sms.remove(ProviderId(request.id), call.caller.user_id)
        return admin.RemoveSMSProviderResponse(details=convert.created(details))

    def _shown_sms(self, view: SMSView) -> settings.SMSProvider:
        return convert_sms.shown(view, self.sms.signing_key(view))
