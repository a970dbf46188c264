"""Between protobuf messages and the settings room's values, both ways."""

from google.protobuf.duration_pb2 import Duration

from mailward.api import convert
from mailward.proto.zitadel import admin_pb2 as admin
from mailward.proto.zitadel import policy_pb2 as policy
from mailward.proto.zitadel import settings_pb2 as settings
from mailward.proto.zitadel.object_pb2 import ListDetails, ObjectDetails
from mailward.settings.projection import Setting
from mailward.settings.values import DomainPolicy, NotificationPolicy, SecretGenerator

_SECOND_NS = 1_000_000_000
_MOST_NS = (1 << 63) - 1


def generator_of(request: admin.UpdateSecretGeneratorRequest) -> SecretGenerator:
    """Return the generator as `request` wants it: what is left out is zero."""
    expiry = request.expiry.seconds * _SECOND_NS + request.expiry.nanos
    return SecretGenerator(
        generator_type=request.generator_type,
        length=request.length,
        expiry=max(-_MOST_NS - 1, min(expiry, _MOST_NS)),  # 292 years, as much as the original's type holds
        include_lower_letters=request.include_lower_letters,
        include_upper_letters=request.include_upper_letters,
        include_digits=request.include_digits,
        include_symbols=request.include_symbols,
    )


def domain_policy_of(request: admin.UpdateDomainPolicyRequest) -> DomainPolicy:
    """Return the policy as `request` wants it: what is left out is false."""
    return DomainPolicy(
        user_login_must_be_domain=request.user_login_must_be_domain,
        validate_org_domains=request.validate_org_domains,
        smtp_sender_address_matches_instance_domain=request.smtp_sender_address_matches_instance_domain,
    )


def changed(setting: Setting) -> ObjectDetails:
    """Return the CHANGE profile: the date as changeDate."""
    return ObjectDetails(
        sequence=setting.sequence,
        change_date=convert.timestamp(setting.change_us),
        resource_owner=setting.instance,
    )


def viewed(setting: Setting) -> ObjectDetails:
    """Return the VIEW profile: both dates."""
    details = changed(setting)
    details.creation_date.CopyFrom(convert.timestamp(setting.creation_us))
    return details


def shown_generator(setting: Setting) -> settings.SecretGenerator:
    """Return a secret generator as a read shows it."""
    value = setting.value
    assert isinstance(value, SecretGenerator)
    sign = -1 if value.expiry < 0 else 1
    seconds, nanos = divmod(abs(value.expiry), _SECOND_NS)
    return settings.SecretGenerator(
        generator_type=settings.SecretGeneratorType.ValueType(value.generator_type),
        details=viewed(setting),
        length=value.length,
        expiry=Duration(seconds=sign * seconds, nanos=sign * nanos),
        include_lower_letters=value.include_lower_letters,
        include_upper_letters=value.include_upper_letters,
        include_digits=value.include_digits,
        include_symbols=value.include_symbols,
    )


def listed(found: list[Setting], total: int) -> ListDetails:
    """Return the head of a list; `found`: those that match, of any page."""
    at_us = max((setting.change_us for setting in found), default=0)
    return ListDetails(total_result=total, view_timestamp=convert.timestamp(at_us) if at_us else None)


def shown_domain_policy(setting: Setting) -> policy.DomainPolicy:
    """Return the instance's domain policy; it is the default one whatever it says."""
    value = setting.value
    assert isinstance(value, DomainPolicy)
    return policy.DomainPolicy(
        details=viewed(setting),
        is_default=True,
        user_login_must_be_domain=value.user_login_must_be_domain,
        validate_org_domains=value.validate_org_domains,
        smtp_sender_address_matches_instance_domain=value.smtp_sender_address_matches_instance_domain,
    )


def shown_notification_policy(setting: Setting) -> policy.NotificationPolicy:
    """Return the instance's notification policy; it is the default one whatever it says."""
    value = setting.value
    assert isinstance(value, NotificationPolicy)
    return policy.NotificationPolicy(details=viewed(setting), is_default=True, password_change=value.password_change)
