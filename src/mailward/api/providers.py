"""Mailward's own ProviderService: what ZITADEL's wire cannot say about providers."""

from mailward.api import convert_providers as convert
from mailward.api.convert import timestamp
from mailward.errors import InvalidArgument
from mailward.ids import ProviderId
from mailward.proto.mailward.v1 import providers_pb2 as proto
from mailward.provider.commands import Providers
from mailward.provider.extension import Extension
from mailward.provider.presets import PRESETS
from mailward.provider.testing import TEST_DEADLINES, ProviderTests
from mailward.rpc.service import Call
from mailward.secretbox import SecretText
from mailward.transport.base import Deadlines

_PAGE_SIZE = 100
_MAX_DEADLINE_S = 60


class ProviderMethods:
    """The implementation that is registered for mailward.v1.ProviderService."""

    def __init__(self, providers: Providers, tests: ProviderTests, extension: Extension) -> None:
        self._providers = providers
        self._tests = tests
        self._extension = extension

    async def list_providers(self, request: proto.ListProvidersRequest, call: Call) -> proto.ListProvidersResponse:
        """Return a page of all providers."""
        token, size = request.page_token, request.page_size or _PAGE_SIZE
        if token and not (token.isascii() and token.isdigit() and len(token) < 19):
            raise InvalidArgument("PROVIDER-page", "this is no page token", pointer="/page_token")
        offset = int(token or 0)
        page = await self._providers.list(offset, size)
        end = offset + len(page.items)
        return proto.ListProvidersResponse(
            providers=[convert.provider(view) for view in page.items],
            next_page_token=str(end) if page.items and end < page.total else "",
        )

    async def get_provider(self, request: proto.GetProviderRequest, call: Call) -> proto.Provider:
        """Return a provider."""
        return convert.provider(await self._providers.get(ProviderId(request.id)))

    async def update_provider(self, request: proto.UpdateProviderRequest, call: Call) -> proto.Provider:
        """Change what is given."""
        options, secrets = convert.changes(request)
        view = await self._extension.configure(ProviderId(request.id), options, secrets, call.caller.user_id)
        return convert.provider(view)

    async def test_provider(self, request: proto.TestProviderRequest, call: Call) -> proto.TestReport:
        """Send a test mail and return the staged report."""
        if not 0 <= request.deadline_s <= _MAX_DEADLINE_S:
            raise InvalidArgument(
                "PROVIDER-patience", f"a deadline is 0 to {_MAX_DEADLINE_S} seconds", pointer="/deadline_s"
            )
        s = request.deadline_s
        deadlines = Deadlines(connect_s=s, command_s=s, tls_probe_s=s / 2, data_s=s, final_s=s) if s else TEST_DEADLINES
        return convert.report(await self._tests.report(ProviderId(request.id), request.to, deadlines))

    async def rotate_provider_secret(
        self, request: proto.RotateProviderSecretRequest, call: Call
    ) -> proto.RotateProviderSecretResponse:
        """Replace a secret once it has proved to work."""
        id, editor, verified = ProviderId(request.id), call.caller.user_id, not request.without_login
        new = convert.new_secret(request)
        if isinstance(new, SecretText):
            done = await self._extension.rotate(id, new, editor, verified=verified)
        else:
            done = await self._extension.rotate_token_secret(id, new, editor, verified=verified)
        response = proto.RotateProviderSecretResponse()
        if done.login is not None:
            response.login.CopyFrom(convert.report(done.login))
        if done.old_until_us is not None:
            response.old_password_until.CopyFrom(timestamp(done.old_until_us))
        return response

    async def list_provider_presets(
        self, request: proto.ListProviderPresetsRequest, call: Call
    ) -> proto.ListProviderPresetsResponse:
        """Return the settings of well-known providers."""
        return proto.ListProviderPresetsResponse(presets=map(convert.preset, PRESETS))
