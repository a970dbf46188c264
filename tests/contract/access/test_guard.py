"""Who gets past the guard of the API, and what the others are told (spec 2.5)."""

from dataclasses import dataclass, field
from itertools import count

import pytest

from mailward.access import events
from mailward.access.access import Access, open_access
from mailward.access.roles import TokenRole
from mailward.access.tokens import Caller, new_token
from mailward.api.access import Guard
from mailward.api.errors import on_error
from mailward.api.health import Health
from mailward.db.database import Database
from mailward.eventstore.search import Search, search
from mailward.proto.grpc.health.v1 import health_pb2
from mailward.proto.mailward.v1 import messages_pb2
from mailward.proto.zitadel import admin_pb2
from mailward.rpc.service import Call, Code, Registry, RpcError

ADMIN = "/zitadel.admin.v1.AdminService"
MESSAGES = "/mailward.v1.MessageService"
NOW_US = 1_790_000_000_000_000
SMTP_CONFIG = {"sender_address": "a@example.com", "sender_name": "A", "host": "mail.example.com:25"}

#: The guard asks the access room, which has its own tests on both engines.
pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@dataclass
class Door:
    """A registry in which every call that gets past guard and validation is UNIMPLEMENTED."""

    access: Access
    registry: Registry
    callers: list[object] = field(default_factory=list)
    peer: str = ""

    async def token(self, role: str) -> str:
        return (await self.access.create_token(TokenRole(role), role)).text

    async def call(self, method: str, *, authorization: str | None = None, **fields: object) -> RpcError:
        """Call `method`, fields beginning with x_ being metadata; return how it was refused."""
        metadata = {} if authorization is None else {"authorization": authorization}
        metadata |= {name.replace("_", "-"): str(fields.pop(name)) for name in [*fields] if name.startswith("x_")}
        found = self.registry.method(method)
        assert found is not None
        call = Call(method, metadata, "rest", self.peer)
        with pytest.raises(RpcError) as refused:
            await self.registry.call(found, found.request(**fields), call)
        self.callers.append(call.caller)
        return refused.value


@pytest.fixture
async def door(database: Database) -> Door:
    made = await open_access(database, count(100_000_000_000_000_000).__next__, lambda: NOW_US)
    ids = count(200_000_000_000_000_000).__next__
    access = Access(database, ids, lambda: NOW_US, made.instance, failures_per_minute=3, monotonic=lambda: 0.0)
    registry = Registry(Guard(access), on_error)
    registry.add(admin_pb2.DESCRIPTOR.services_by_name["AdminService"], object())
    registry.add(messages_pb2.DESCRIPTOR.services_by_name["MessageService"], object())
    registry.add(health_pb2.DESCRIPTOR.services_by_name["Health"], Health(lambda: True, ["mailward.v1.MessageService"]))
    return Door(access, registry)


def told(error: RpcError) -> tuple[Code, str, list[str]]:
    """Return code, text and ids."""
    return error.code, error.message, [getattr(detail, "id", "") for detail in error.details]


@pytest.mark.parametrize("authorization", [None, ""])
async def test_without_a_token_nobody_is_told_more_than_that(door: Door, authorization: str | None) -> None:
    error = await door.call(f"{ADMIN}/GetSMTPConfig", authorization=authorization)

    assert told(error) == (Code.UNAUTHENTICATED, "auth header missing", [])


@pytest.mark.parametrize("authorization", ["Basic YTpi", "Bearer", "Bearer ", "bearer x", "x"])
async def test_another_scheme_than_bearer_is_no_header(door: Door, authorization: str) -> None:
    error = await door.call(f"{ADMIN}/GetSMTPConfig", authorization=authorization)

    assert told(error) == (Code.UNAUTHENTICATED, "invalid auth header (AUTH-toLo1)", ["AUTH-toLo1"])


@pytest.mark.parametrize("token", ["a b", " x", "no-such-token", pytest.param(new_token(), id="unknown")])
async def test_a_token_that_nobody_has_is_invalid(door: Door, token: str) -> None:
    error = await door.call(f"{ADMIN}/GetSMTPConfig", authorization=f"Bearer {token}")

    assert told(error) == (Code.UNAUTHENTICATED, "Errors.Token.Invalid (AUTH-7fs1e)", ["AUTH-7fs1e"])


@pytest.mark.parametrize("service", [f"{ADMIN}/GetSMTPConfig", f"{MESSAGES}/ListMessages"])
async def test_who_was_wrong_too_often_waits_but_a_token_that_works_goes_on(door: Door, service: str) -> None:
    owner = await door.token("owner")
    door.peer = "198.51.100.7:4711"
    await door.call(service, authorization=f"Bearer {owner}")
    wrong = [await door.call(service, authorization=f"Bearer {new_token()}") for _ in range(4)]
    right = await door.call(service, authorization=f"Bearer {owner}")
    newcomer = await door.call(service, authorization=f"Bearer {await door.token('viewer')}")

    assert [error.code for error in wrong] == [Code.UNAUTHENTICATED] * 3 + [Code.RESOURCE_EXHAUSTED]
    assert (wrong[-1].retry_after_s, told(wrong[-1])[2]) == (20, ["ACCESS-Gs5Lm"])
    assert right.code is Code.UNIMPLEMENTED
    assert newcomer.code is Code.RESOURCE_EXHAUSTED


async def test_an_address_that_was_wrong_too_often_is_on_record_once(door: Door, database: Database) -> None:
    door.peer = "[2001:db8::7]:4711"
    for header in ("Basic YTpi", "Bearer x", f"Bearer {new_token()}", "Bearer y", "Bearer z"):
        await door.call(f"{ADMIN}/GetSMTPConfig", authorization=header)

    found = await database.read(search, Search(types=frozenset({events.ADDRESS_LIMITED})))
    assert [event.payload for event in found] == [{"network": "2001:db8::/64", "door": "http"}]


async def test_a_user_without_membership_does_not_find_the_admin_service(door: Door) -> None:
    error = await door.call(f"{ADMIN}/AddSMTPConfig", authorization=f"Bearer {await door.token('sender')}")

    assert told(error) == (Code.NOT_FOUND, "membership not found (AUTHZ-cdgFk)", ["AUTHZ-cdgFk"])


async def test_a_viewer_may_not_write_and_learns_it_before_its_request_is_looked_at(door: Door) -> None:
    error = await door.call(f"{ADMIN}/AddSMTPConfig", authorization=f"Bearer {await door.token('viewer')}")

    assert told(error) == (Code.PERMISSION_DENIED, "No matching permissions found (AUTH-5mWD2)", ["AUTH-5mWD2"])


@pytest.mark.parametrize(
    ("role", "method"), [("viewer", "GetSMTPConfig"), ("owner", "GetSMTPConfig"), ("owner", "AddSMTPConfig")]
)
async def test_whoever_has_the_permission_gets_past(door: Door, role: str, method: str) -> None:
    fields = SMTP_CONFIG if method == "AddSMTPConfig" else {}
    error = await door.call(f"{ADMIN}/{method}", authorization=f"Bearer {await door.token(role)}", **fields)

    assert error.code is Code.UNIMPLEMENTED
    assert isinstance(door.callers[0], Caller)
    assert door.callers[0].name == role


async def test_what_every_known_caller_may_do_takes_no_membership(door: Door) -> None:
    error = await door.call(f"{ADMIN}/GetSupportedLanguages", authorization=f"Bearer {await door.token('sender')}")

    assert error.code is Code.UNIMPLEMENTED


@pytest.mark.parametrize("role", ["owner", "sender"])
async def test_an_unknown_organisation_is_refused_before_membership_counts(door: Door, role: str) -> None:
    token = await door.token(role)
    error = await door.call(f"{ADMIN}/ListSMTPConfigs", authorization=f"Bearer {token}", x_zitadel_orgid="123")

    assert told(error) == (Code.PERMISSION_DENIED, "Organisation doesn't exist (AUTH-Bs7Ds)", ["AUTH-Bs7Ds"])


async def test_the_instance_is_an_organisation_and_so_is_none(door: Door) -> None:
    token = await door.token("owner")
    for organisation in ("", door.access.instance):
        error = await door.call(
            f"{ADMIN}/ListSMTPConfigs", authorization=f"Bearer {token}", x_zitadel_orgid=organisation
        )

        assert error.code is Code.UNIMPLEMENTED


async def test_health_needs_no_token(door: Door) -> None:
    error = await door.call(f"{ADMIN}/Healthz")

    assert error.code is Code.UNIMPLEMENTED


async def test_load_balancers_learn_the_state_of_services_without_a_token(door: Door) -> None:
    check = door.registry.method("/grpc.health.v1.Health/Check")
    assert check is not None
    request = health_pb2.HealthCheckRequest(service="mailward.v1.MessageService")

    answer = await door.registry.call(check, request, Call(check.path, {}, "grpc"))

    assert answer == health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)
    assert (await door.call(check.path, service="no.such.Service")).code is Code.NOT_FOUND


# -- our own services ----------------------------------------------------------------------------------------------


async def test_our_own_services_say_in_words_and_without_ids_what_is_missing(door: Door) -> None:
    missing = await door.call(f"{MESSAGES}/ListMessages")
    unknown = await door.call(f"{MESSAGES}/ListMessages", authorization=f"Bearer {new_token()}")

    assert told(missing) == (Code.UNAUTHENTICATED, "auth header missing", [])
    assert told(unknown) == (Code.UNAUTHENTICATED, "the token is unknown, expired or revoked", [])


async def test_a_viewer_may_not_send(door: Door) -> None:
    error = await door.call(f"{MESSAGES}/SendMessage", authorization=f"Bearer {await door.token('viewer')}")

    assert told(error) == (Code.PERMISSION_DENIED, "this token lacks the permission message.send", [])
    assert error.code_name == "permission_denied"


@pytest.mark.parametrize("role", ["owner", "viewer", "sender"])
async def test_everybody_reads_messages_membership_or_not(door: Door, role: str) -> None:
    error = await door.call(f"{MESSAGES}/ListMessages", authorization=f"Bearer {await door.token(role)}")

    assert error.code is Code.UNIMPLEMENTED
