"""The `/smtp` family: what ZITADEL had before there were other kinds of providers."""

from mailward.api import convert
from mailward.ids import ProviderId
from mailward.proto.zitadel import admin_pb2 as admin
from mailward.provider.commands import Providers
from mailward.provider.testing import ProviderTests
from mailward.rpc.service import Call


class SMTPMethods:
    """Eleven methods of the AdminService."""

    providers: Providers
    tests: ProviderTests

    async def add_smtp_config(self, request: admin.AddSMTPConfigRequest, call: Call) -> admin.AddSMTPConfigResponse:
        """Add an inactive configuration."""
        config, password = convert.smtp_config(request), convert.secret(request.password)
        added = await self.providers.add_smtp(config, password, call.caller.user_id)
        return admin.AddSMTPConfigResponse(details=convert.changed(added.details), id=added.id)

    async def update_smtp_config(
        self, request: admin.UpdateSMTPConfigRequest, call: Call
    ) -> admin.UpdateSMTPConfigResponse:
        """Replace all but the password; the password too when one is given."""
        config, password = convert.smtp_config(request), convert.secret(request.password)
        details = await self.providers.change_smtp(ProviderId(request.id), config, password, call.caller.user_id)
        return admin.UpdateSMTPConfigResponse(details=convert.changed(details))

    async def update_smtp_config_password(
        self, request: admin.UpdateSMTPConfigPasswordRequest, call: Call
    ) -> admin.UpdateSMTPConfigPasswordResponse:
        """Replace the active configuration's password."""
        password = convert.secret(request.password)
        details = await self.providers.change_password(ProviderId(request.id), password, call.caller.user_id)
        return admin.UpdateSMTPConfigPasswordResponse(details=convert.changed(details))

    async def get_smtp_config(self, request: admin.GetSMTPConfigRequest, call: Call) -> admin.GetSMTPConfigResponse:
        """Return the active provider; empty when it is not an SMTP one."""
        view = await self.providers.active()
        return admin.GetSMTPConfigResponse(smtp_config=convert.shown_as_smtp(view))

    async def get_smtp_config_by_id(
        self, request: admin.GetSMTPConfigByIdRequest, call: Call
    ) -> admin.GetSMTPConfigByIdResponse:
        """Return a provider; empty when it is not an SMTP one."""
        view = await self.providers.get(ProviderId(request.id))
        return admin.GetSMTPConfigByIdResponse(smtp_config=convert.shown_as_smtp(view))

    async def list_smtp_configs(
        self, request: admin.ListSMTPConfigsRequest, call: Call
    ) -> admin.ListSMTPConfigsResponse:
        """Return a page of all providers, HTTP ones without their settings."""
        page = await self.providers.list(request.query.offset, request.query.limit, request.query.asc)
        result = [convert.listed_as_smtp(view) for view in page.items]
        return admin.ListSMTPConfigsResponse(details=convert.listed(page), result=result)

    async def activate_smtp_config(
        self, request: admin.ActivateSMTPConfigRequest, call: Call
    ) -> admin.ActivateSMTPConfigResponse:
        """Make this provider the active one, and no other."""
        details = await self.providers.activate(ProviderId(request.id), call.caller.user_id)
        return admin.ActivateSMTPConfigResponse(details=convert.created(details))

    async def deactivate_smtp_config(
        self, request: admin.DeactivateSMTPConfigRequest, call: Call
    ) -> admin.DeactivateSMTPConfigResponse:
        """Leave no provider active."""
        details = await self.providers.deactivate(ProviderId(request.id), call.caller.user_id)
        return admin.DeactivateSMTPConfigResponse(details=convert.created(details))

    async def remove_smtp_config(
        self, request: admin.RemoveSMTPConfigRequest, call: Call
    ) -> admin.RemoveSMTPConfigResponse:
        """Remove a provider, active or not."""
        details = await self.providers.remove(ProviderId(request.id), call.caller.user_id)
        return admin.RemoveSMTPConfigResponse(details=convert.changed(details))

    async def test_smtp_config(self, request: admin.TestSMTPConfigRequest, call: Call) -> admin.TestSMTPConfigResponse:
        """Send a test mail through settings that need not be stored."""
        await self.tests.unsaved(convert.unsaved_test(request, convert.secret(request.password)))
        return admin.TestSMTPConfigResponse()

    async def test_smtp_config_by_id(
        self, request: admin.TestSMTPConfigByIdRequest, call: Call
    ) -> admin.TestSMTPConfigByIdResponse:
        """Send a test mail through a stored configuration, active or not."""
        await self.tests.stored(ProviderId(request.id), request.receiver_address)
        return admin.TestSMTPConfigByIdResponse()
