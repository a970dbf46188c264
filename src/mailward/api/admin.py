"""ZITADEL's AdminService: one short method per RPC. Those that are missing here answer UNIMPLEMENTED."""

from mailward.access.access import Access
from mailward.access.audit import Audit
from mailward.api.admin_email import EmailMethods
from mailward.api.admin_events import EventMethods
from mailward.api.admin_members import MemberMethods
from mailward.api.admin_settings import SettingsMethods
from mailward.api.admin_sms import SMSMethods
from mailward.api.admin_smtp import SMTPMethods
from mailward.api.admin_views import ViewMethods
from mailward.proto.zitadel import admin_pb2 as admin
from mailward.provider.commands import Providers
from mailward.provider.sms_commands import SMSProviders
from mailward.provider.testing import ProviderTests
from mailward.rpc.service import Call
from mailward.settings.commands import InstanceSettings


class Admin(SMTPMethods, EmailMethods, SMSMethods, SettingsMethods, MemberMethods, EventMethods, ViewMethods):
    """The implementation that is registered for zitadel.admin.v1.AdminService."""

    def __init__(
        self,
        providers: Providers,
        tests: ProviderTests,
        sms: SMSProviders,
        settings: InstanceSettings,
        audit: Audit,
        access: Access,
    ) -> None:
        self.providers = providers
        self.tests = tests
        self.sms = sms
        self.settings = settings
        self.audit = audit
        self.access = access

    async def healthz(self, request: admin.HealthzRequest, call: Call) -> admin.HealthzResponse:
        """Say that the server is there."""
        return admin.HealthzResponse()
