"""Which methods of the AdminService are served. What they answer is recorded in tests/golden."""

import pytest

from mailward.api.admin import Admin
from mailward.proto.zitadel import admin_pb2
from mailward.rpc.service import snake_case

METHODS = [method.name for method in admin_pb2.DESCRIPTOR.services_by_name["AdminService"].methods]
PROVIDERS = [name for name in METHODS if "SMTPConfig" in name or "EmailProvider" in name]
SETTINGS = [
    name
    for name in METHODS
    if "Language" in name or "SecretGenerator" in name or "NotificationP" in name or name.endswith("tDomainPolicy")
]
SMS = [name for name in METHODS if "SMSProvider" in name]


@pytest.mark.parametrize("name", ["Healthz", *PROVIDERS])
def test_both_families_of_email_providers_are_served_whole(name: str) -> None:
    assert callable(getattr(Admin, snake_case(name), None))


@pytest.mark.parametrize("name", SETTINGS)
def test_what_is_set_for_the_instance_is_served_whole(name: str) -> None:
    assert callable(getattr(Admin, snake_case(name), None))


@pytest.mark.parametrize("name", [*SMS, "ListViews", "ListFailedEvents", "RemoveFailedEvent"])
def test_sms_providers_and_views_are_served_whole(name: str) -> None:
    assert callable(getattr(Admin, snake_case(name), None))


def test_every_public_method_is_one_of_the_service() -> None:
    """A method under a misspelt name would answer UNIMPLEMENTED."""
    public = {name for name in dir(Admin) if not name.startswith("_")}

    assert public <= {snake_case(name) for name in METHODS}
    assert len(PROVIDERS) == 24
    assert (len(SMS), len(SETTINGS)) == (10, 13)
