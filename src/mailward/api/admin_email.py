"""The `/email` family: the same providers as `/smtp` shows, and HTTP ones."""

from mailward.api import convert
from mailward.ids import ProviderId
from mailward.proto.zitadel import admin_pb2 as admin
from mailward.proto.zitadel import settings_pb2 as settings
from mailward.provider.commands import Providers
from mailward.provider.queries import ProviderView
from mailward.provider.testing import ProviderTests
from mailward.rpc.service import Call


class EmailMethods:
    """Thirteen methods of the AdminService."""

    providers: Providers
    tests: ProviderTests

    async def add_email_provider_smtp(
        self, request: admin.AddEmailProviderSMTPRequest, call: Call
    ) -> admin.AddEmailProviderSMTPResponse:
        """Add an inactive SMTP provider."""
        config, password = convert.smtp_config(request), convert.password_of(request)
        oauth = convert.token_login_of(request)
        added = await self.providers.add_smtp(config, password, call.caller.user_id, oauth=oauth)
        return admin.AddEmailProviderSMTPResponse(details=convert.changed(added.details), id=added.id)

    async def update_email_provider_smtp(
        self, request: admin.UpdateEmailProviderSMTPRequest, call: Call
    ) -> admin.UpdateEmailProviderSMTPResponse:
        """Replace all but the password; the password too when one is given."""
        config, password = convert.smtp_config(request), convert.password_of(request)
        details = await self.providers.change_smtp(
            ProviderId(request.id), config, password, call.caller.user_id, oauth=convert.token_login_of(request)
        )
        return admin.UpdateEmailProviderSMTPResponse(details=convert.changed(details))

    async def update_email_provider_smtp_password(
        self, request: admin.UpdateEmailProviderSMTPPasswordRequest, call: Call
    ) -> admin.UpdateEmailProviderSMTPPasswordResponse:
        """Replace the active provider's password."""
        password = convert.secret(request.password)
        details = await self.providers.change_password(ProviderId(request.id), password, call.caller.user_id)
        return admin.UpdateEmailProviderSMTPPasswordResponse(details=convert.changed(details))

    async def add_email_provider_http(
        self, request: admin.AddEmailProviderHTTPRequest, call: Call
    ) -> admin.AddEmailProviderHTTPResponse:
        """Add an inactive HTTP provider; the answer carries its signing key."""
        added = await self.providers.add_http(convert.http_config(request), call.caller.user_id)
        key = added.signing_key.reveal() if added.signing_key else ""
        return admin.AddEmailProviderHTTPResponse(details=convert.changed(added.details), id=added.id, signing_key=key)

    async def update_email_provider_http(
        self, request: admin.UpdateEmailProviderHTTPRequest, call: Call
    ) -> admin.UpdateEmailProviderHTTPResponse:
        """Replace endpoint and description; make a new signing key when an expiration (of 0 s) is given."""
        done = await self.providers.change_http(
            ProviderId(request.id),
            convert.http_config(request),
            call.caller.user_id,
            new_signing_key=request.HasField("expiration_signing_key"),
        )
        key = done.signing_key.reveal() if done.signing_key else None
        return admin.UpdateEmailProviderHTTPResponse(details=convert.changed(done.details), signing_key=key)

    async def get_email_provider(
        self, request: admin.GetEmailProviderRequest, call: Call
    ) -> admin.GetEmailProviderResponse:
        """Return the active provider."""
        return admin.GetEmailProviderResponse(config=self._shown(await self.providers.active()))

    async def get_email_provider_by_id(
        self, request: admin.GetEmailProviderByIdRequest, call: Call
    ) -> admin.GetEmailProviderByIdResponse:
        """Return a provider."""
        view = await self.providers.get(ProviderId(request.id))
        return admin.GetEmailProviderByIdResponse(config=self._shown(view))

    async def list_email_providers(
        self, request: admin.ListEmailProvidersRequest, call: Call
    ) -> admin.ListEmailProvidersResponse:
        """Return a page of all providers."""
        page = await self.providers.list(request.query.offset, request.query.limit, request.query.asc)
        result = [self._shown(view) for view in page.items]
        return admin.ListEmailProvidersResponse(details=convert.listed(page), result=result)

    async def activate_email_provider(
        self, request: admin.ActivateEmailProviderRequest, call: Call
    ) -> admin.ActivateEmailProviderResponse:
        """Make this provider the active one, and no other."""
        details = await self.providers.activate(ProviderId(request.id), call.caller.user_id)
        return admin.ActivateEmailProviderResponse(details=convert.created(details))

    async def deactivate_email_provider(
        self, request: admin.DeactivateEmailProviderRequest, call: Call
    ) -> admin.DeactivateEmailProviderResponse:
        """Leave no provider active."""
        details = await self.providers.deactivate(ProviderId(request.id), call.caller.user_id)
        return admin.DeactivateEmailProviderResponse(details=convert.created(details))

    async def remove_email_provider(
        self, request: admin.RemoveEmailProviderRequest, call: Call
    ) -> admin.RemoveEmailProviderResponse:
        """Remove a provider, active or not."""
        details = await self.providers.remove(ProviderId(request.id), call.caller.user_id)
        return admin.RemoveEmailProviderResponse(details=convert.changed(details))

    async def test_email_provider_smtp(
        self, request: admin.TestEmailProviderSMTPRequest, call: Call
    ) -> admin.TestEmailProviderSMTPResponse:
        """Send a test mail through settings that need not be stored."""
        without_auth = request.WhichOneof("Auth") == "none"
        test = convert.unsaved_test(
            request,
            convert.password_of(request),
            without_auth=without_auth,
            oauth=convert.token_login_of(request),
        )
        await self.tests.unsaved(test)
        return admin.TestEmailProviderSMTPResponse()

    async def test_email_provider_smtp_by_id(
        self, request: admin.TestEmailProviderSMTPByIdRequest, call: Call
    ) -> admin.TestEmailProviderSMTPByIdResponse:
        """Send a test mail through a stored provider, active or not."""
        await self.tests.stored(ProviderId(request.id), request.receiver_address)
        return admin.TestEmailProviderSMTPByIdResponse()

    def _shown(self, view: ProviderView) -> settings.EmailProvider:
        return convert.shown_as_email(view, self.providers.signing_key(view))
