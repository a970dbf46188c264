"""Service accounts and members on both engines: what is given works at once, what is taken is gone."""

import base64
import json
from collections.abc import Callable
from itertools import count

import pytest

from mailward import jwt
from mailward.access.access import Access, open_access
from mailward.access.account_queries import ClientRow, KeyRow
from mailward.access.accounts import Accounts
from mailward.access.assertion import BadAssertion
from mailward.access.projection import AccessProjection
from mailward.access.roles import MESSAGE_SEND, TokenRole
from mailward.db.database import Database, Row, Transaction
from mailward.errors import AlreadyExists, FailedPrecondition, NotFound
from mailward.eventstore import projection
from mailward.ids import UserId
from mailward.secretbox import SecretBox

US, START_US = "https://mail.example.com", 1_800_000_000_000_000
EDITOR = UserId("298765432109870001")
TABLES = ("users", "tokens", "members", "machine_keys", "signing_keys")


class Clock:
    def __init__(self) -> None:
        self.us = START_US

    def __call__(self) -> int:
        return self.us


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def access(database: Database, clock: Clock) -> Access:
    return await open_access(database, _ids(), clock)


@pytest.fixture
def accounts(database: Database, access: Access, clock: Clock) -> Accounts:
    return Accounts(database, SecretBox([bytes(32)]), access, _ids(5_000), clock)


def _ids(first: int = 1) -> Callable[[], int]:
    numbers = count(298_765_432_109_880_000 + first)
    return lambda: next(numbers)


def signed(file: dict[str, str], clock: Clock) -> str:
    now_s = clock.us // 1_000_000
    claims = {"iss": file["userId"], "sub": file["userId"], "aud": US, "iat": now_s, "exp": now_s + 60}
    return jwt.sign(file["key"], {"kid": file["keyId"]}, claims)


async def test_a_key_file_signs_its_user_in_until_it_is_revoked(accounts: Accounts, clock: Clock) -> None:
    file = await accounts.create_key(TokenRole.OWNER, "terraform")

    assert (await accounts.by_assertion(signed(file, clock), US)).user_id == file["userId"]
    await accounts.revoke_key(file["keyId"])

    with pytest.raises(BadAssertion, match="kid"):
        await accounts.by_assertion(signed(file, clock), US)
    with pytest.raises(NotFound):
        await accounts.revoke_key(file["keyId"])


async def test_by_its_signature_alone_an_assertion_is_known_again_until_the_key_is_revoked(
    accounts: Accounts, clock: Clock
) -> None:
    """Naming a key that signed somebody in is no merit: its id is no secret."""
    file, other = [await accounts.create_key(TokenRole.OWNER, name) for name in ("terraform", "other")]
    assert not accounts.signed_in_before(signed(file, clock), US)
    await accounts.by_assertion(signed(file, clock), US)

    assert accounts.signed_in_before(signed(file, clock), US)
    assert not accounts.signed_in_before(signed(file | {"key": other["key"]}, clock), US), "forged"
    assert not accounts.signed_in_before(signed(file, clock), "https://elsewhere.example.com")
    assert not accounts.signed_in_before("no assertion", US)
    await accounts.revoke_key(file["keyId"])
    with pytest.raises(BadAssertion):
        await accounts.by_assertion(signed(file, clock), US)
    assert not accounts.signed_in_before(signed(file, clock), US)


async def test_a_key_ends_at_its_expiry(accounts: Accounts, clock: Clock) -> None:
    file = await accounts.create_key(TokenRole.OWNER, "terraform", 90 * 1_000_000)
    clock.us += 91 * 1_000_000

    with pytest.raises(BadAssertion, match="expired"):
        await accounts.by_assertion(signed(file, clock), US)


async def test_an_access_token_permits_what_its_user_may_for_twelve_hours(
    accounts: Accounts, access: Access, clock: Clock
) -> None:
    token = await accounts.issue(await key_of(accounts, TokenRole.VIEWER), for_api=True, peer="127.0.0.1:1")

    caller = await access.authenticate(token)
    assert caller is not None and caller.roles == {"IAM_OWNER_VIEWER"} and "iam.read" in caller.permissions
    clock.us += 12 * 3600 * 1_000_000
    assert await access.authenticate(token) is None


async def test_a_token_without_the_apis_audience_is_no_good_for_it(accounts: Accounts, access: Access) -> None:
    token = await accounts.issue(await key_of(accounts), for_api=False, peer="")

    assert await access.authenticate(token) is None
    assert access.remembered(token) is None
    assert await access.authenticate(token, for_api=False) is not None


async def test_a_key_ends_with_the_tokens_that_it_brought_and_with_no_others(
    accounts: Accounts, access: Access, clock: Clock
) -> None:
    """Also for those who hold one in an open session."""
    revoked, other = await key_of(accounts, name="app"), await key_of(accounts, name="app")
    client = await client_of(accounts, "app", TokenRole.OWNER)
    tokens = [await accounts.issue(by, for_api=True, peer="") for by in (revoked, other, client)]
    personal = (await access.create_token(TokenRole.OWNER, "app")).text
    standing = await access.sign_in(tokens[0], "smtp", "127.0.0.1", MESSAGE_SEND)
    assert standing is not None and await access.authenticate(tokens[0]) is not None

    await accounts.revoke_key(revoked.id)

    assert [await access.authenticate(token) is not None for token in (*tokens, personal)] == [False, True, True, True]
    assert not standing.permits(MESSAGE_SEND, clock.us)


async def test_a_client_secret_ends_with_the_tokens_that_it_brought_when_another_replaces_it(
    accounts: Accounts, access: Access
) -> None:
    key, client = await key_of(accounts, name="app"), await client_of(accounts, "app", TokenRole.OWNER)
    tokens = [await accounts.issue(by, for_api=True, peer="") for by in (client, key)]
    await access.authenticate(tokens[0])

    await accounts.create_client(TokenRole.OWNER, "app")

    assert [await access.authenticate(token) is not None for token in tokens] == [False, True]


async def test_what_is_revoked_between_look_and_answer_brings_no_token(accounts: Accounts) -> None:
    """It would outlive the key, whose revocation ended the others."""
    key, client = await key_of(accounts), await client_of(accounts, "ci")
    await accounts.revoke_key(key.id)
    await accounts.create_client(TokenRole.VIEWER, "ci")

    for by in (key, client):
        with pytest.raises(FailedPrecondition):
            await accounts.issue(by, for_api=True, peer="")


async def key_of(accounts: Accounts, role: TokenRole = TokenRole.OWNER, name: str = "sdk") -> KeyRow:
    """Return a new key of a service account."""
    file = await accounts.create_key(role, name)
    return next(row for row in await accounts.list_keys() if row.id == file["keyId"])


async def client_of(accounts: Accounts, name: str, role: TokenRole = TokenRole.VIEWER) -> ClientRow:
    """Return a service account that has just signed in with a new secret."""
    client = await accounts.by_secret(name, await accounts.create_client(role, name))
    assert client is not None
    return client


async def test_who_lost_a_membership_gets_no_other_role_by_signing_in(accounts: Accounts, access: Access) -> None:
    key = await key_of(accounts, TokenRole.VIEWER)
    await access.remove_member(key.user_id, EDITOR)

    token = await accounts.issue(key, for_api=True, peer="")

    caller = await access.authenticate(token)
    assert caller is not None and not caller.is_member and caller.permissions == frozenset()


async def test_a_client_secret_replaces_the_one_before(accounts: Accounts) -> None:
    first = await accounts.create_client(TokenRole.OWNER, "ci")
    second = await accounts.create_client(TokenRole.OWNER, "ci")

    assert await accounts.by_secret("ci", first) is None
    assert await accounts.by_secret("ci", second) is not None
    with pytest.raises(NotFound):
        await accounts.by_secret("nobody", second)


@pytest.mark.parametrize(("by_secret", "amr"), [(True, ["pwd"]), (False, None)])
async def test_an_id_token_says_who_signed_in_and_how(
    accounts: Accounts, clock: Clock, by_secret: bool, amr: list[str] | None
) -> None:
    await accounts.create_client(TokenRole.OWNER, "ci")
    client = await accounts.by_secret("ci", await accounts.create_client(TokenRole.OWNER, "ci"))
    assert client is not None

    text = await accounts.id_token(client.user_id, US, "token", by_secret=by_secret)

    claims = json.loads(base64.urlsafe_b64decode(text.split(".")[1] + "=="))
    now_s = clock.us // 1_000_000
    assert (claims["iss"], claims["sub"], claims["aud"][1], claims["auth_time"]) == (US, client.user_id, "ci", now_s)
    assert claims["exp"] == now_s + 12 * 3600
    assert claims.get("amr") == amr


async def test_two_nodes_sign_with_one_key(database: Database, access: Access, clock: Clock) -> None:
    box = SecretBox([bytes(32)])
    here, there = (Accounts(database, box, access, _ids(n), clock) for n in (7_000, 8_000))

    assert await here.public_keys() == await there.public_keys()


async def test_roles_given_and_taken_count_for_tokens_that_are_out(access: Access) -> None:
    made = await access.create_token(TokenRole.SENDER, "app")
    user_id = made.row.user_id

    await access.add_member(user_id, ["IAM_OWNER_VIEWER"], EDITOR)
    caller = await access.authenticate(made.text)
    assert caller is not None and "iam.read" in caller.permissions
    await access.remove_member(user_id, EDITOR)

    caller = await access.authenticate(made.text)
    assert caller is not None and not caller.is_member and "iam.read" not in caller.permissions
    with pytest.raises(FailedPrecondition):
        await access.add_member(UserId("1"), [], EDITOR)
    await access.add_member(user_id, [], EDITOR)
    with pytest.raises(AlreadyExists):
        await access.add_member(user_id, ["IAM_OWNER"], EDITOR)


def dump(tx: Transaction) -> dict[str, list[Row]]:
    return {table: sorted(tx.fetch(f"SELECT * FROM {table}"), key=repr) for table in TABLES}


def rebuild(tx: Transaction) -> int:
    return projection.rebuild(tx, [AccessProjection()])


async def test_a_rebuild_gives_the_same_tables(
    database: Database, accounts: Accounts, access: Access, clock: Clock
) -> None:
    key, revoked = await key_of(accounts), await key_of(accounts)
    client = await client_of(accounts, "b")
    await accounts.issue(key, for_api=True, peer="x")
    clock.us += 13 * 3600 * 1_000_000
    for by in (key, revoked, client):
        await accounts.issue(by, for_api=False, peer="x")
    await accounts.revoke_key(revoked.id)
    await accounts.public_keys()
    await access.remove_member(key.user_id, EDITOR)
    before = await database.read(dump)

    assert await database.write(rebuild) > 0

    assert await database.read(dump) == before
