"""What is set for the instance as a whole: languages, secret generators, policies, providers for debugging."""

from mailward.api import convert_settings as convert
from mailward.errors import NotFound
from mailward.proto.zitadel import admin_pb2 as admin
from mailward.proto.zitadel import settings_pb2 as settings
from mailward.rpc.service import Call
from mailward.settings.commands import InstanceSettings
from mailward.settings.languages import LANGUAGES
from mailward.settings.projection import Setting
from mailward.settings.values import DomainPolicy, Language, NotificationPolicy, SecretGenerator


class SettingsMethods:
    """Fourteen methods of the AdminService. A change replaces the whole value; one of nothing is refused."""

    settings: InstanceSettings

    async def get_supported_languages(
        self, request: admin.GetSupportedLanguagesRequest, call: Call
    ) -> admin.GetSupportedLanguagesResponse:
        """Return the languages that there are texts in."""
        return admin.GetSupportedLanguagesResponse(languages=LANGUAGES)

    async def get_allowed_languages(
        self, request: admin.GetAllowedLanguagesRequest, call: Call
    ) -> admin.GetAllowedLanguagesResponse:
        """Return the same: nothing restricts them."""
        return admin.GetAllowedLanguagesResponse(languages=LANGUAGES)

    async def get_default_language(
        self, request: admin.GetDefaultLanguageRequest, call: Call
    ) -> admin.GetDefaultLanguageResponse:
        """Return the language of those who ask for none."""
        value = (await self.settings.get(Language())).value
        assert isinstance(value, Language)
        return admin.GetDefaultLanguageResponse(language=value.language)

    async def set_default_language(
        self, request: admin.SetDefaultLanguageRequest, call: Call
    ) -> admin.SetDefaultLanguageResponse:
        """Set the language of those who ask for none."""
        setting = await self.settings.set_language(request.language, call.caller.user_id)
        return admin.SetDefaultLanguageResponse(details=convert.changed(setting))

    async def list_secret_generators(
        self, request: admin.ListSecretGeneratorsRequest, call: Call
    ) -> admin.ListSecretGeneratorsResponse:
        """Return a page of the generators that match every query."""
        wanted = {query.type_query.generator_type for query in request.queries}
        found = [one for one in await self.settings.generators() if _matches(one, wanted)]
        offset, limit = request.query.offset, request.query.limit or len(found)
        page = found[offset : offset + limit]
        total = len(found) if offset < len(found) else 0
        result = [convert.shown_generator(setting) for setting in page]
        return admin.ListSecretGeneratorsResponse(details=convert.listed(found, total), result=result)

    async def get_secret_generator(
        self, request: admin.GetSecretGeneratorRequest, call: Call
    ) -> admin.GetSecretGeneratorResponse:
        """Return a generator by its type."""
        setting = await self.settings.get(SecretGenerator(generator_type=request.generator_type))
        return admin.GetSecretGeneratorResponse(secret_generator=convert.shown_generator(setting))

    async def update_secret_generator(
        self, request: admin.UpdateSecretGeneratorRequest, call: Call
    ) -> admin.UpdateSecretGeneratorResponse:
        """Replace a generator."""
        setting = await self.settings.change(convert.generator_of(request), call.caller.user_id)
        return admin.UpdateSecretGeneratorResponse(details=convert.changed(setting))

    async def get_domain_policy(
        self, request: admin.GetDomainPolicyRequest, call: Call
    ) -> admin.GetDomainPolicyResponse:
        """Return what domains must fulfil."""
        policy = convert.shown_domain_policy(await self.settings.get(DomainPolicy()))
        return admin.GetDomainPolicyResponse(policy=policy)

    async def update_domain_policy(
        self, request: admin.UpdateDomainPolicyRequest, call: Call
    ) -> admin.UpdateDomainPolicyResponse:
        """Replace what domains must fulfil. It is asked when a provider is added or changed, not of those there are."""
        setting = await self.settings.change(convert.domain_policy_of(request), call.caller.user_id)
        return admin.UpdateDomainPolicyResponse(details=convert.changed(setting))

    async def add_notification_policy(
        self, request: admin.AddNotificationPolicyRequest, call: Call
    ) -> admin.AddNotificationPolicyResponse:
        """Refuse: there is one from the start."""
        await self.settings.add_notification_policy()
        return admin.AddNotificationPolicyResponse()

    async def get_notification_policy(
        self, request: admin.GetNotificationPolicyRequest, call: Call
    ) -> admin.GetNotificationPolicyResponse:
        """Return which notifications users get."""
        policy = convert.shown_notification_policy(await self.settings.get(NotificationPolicy()))
        return admin.GetNotificationPolicyResponse(policy=policy)

    async def update_notification_policy(
        self, request: admin.UpdateNotificationPolicyRequest, call: Call
    ) -> admin.UpdateNotificationPolicyResponse:
        """Replace which notifications users get."""
        new = NotificationPolicy(password_change=request.password_change)
        setting = await self.settings.change(new, call.caller.user_id)
        return admin.UpdateNotificationPolicyResponse(details=convert.changed(setting))

    async def get_file_system_notification_provider(
        self, request: admin.GetFileSystemNotificationProviderRequest, call: Call
    ) -> admin.GetFileSystemNotificationProviderResponse:
        """Refuse: mail goes to an email provider, never to a file."""
        raise _no_debug_provider()

    async def get_log_notification_provider(
        self, request: admin.GetLogNotificationProviderRequest, call: Call
    ) -> admin.GetLogNotificationProviderResponse:
        """Refuse: mail goes to an email provider, never to the log."""
        raise _no_debug_provider()


def _matches(setting: Setting, wanted: set[settings.SecretGeneratorType.ValueType]) -> bool:
    """Whether the generator is of every wanted type; nothing can be asked for by having no type."""
    assert isinstance(setting.value, SecretGenerator)
    return not wanted or (wanted == {setting.value.generator_type} and 0 not in wanted)


def _no_debug_provider() -> NotFound:
    return NotFound("QUERY-s9ujf", "Errors.NotificationProvider.NotFound")
