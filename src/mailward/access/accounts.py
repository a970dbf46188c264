"""Service accounts: keys and secrets with which programs sign in, and the access tokens they get (spec 8.5)."""

import asyncio
import hashlib
import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from mailward import jwt
from mailward.access import account_queries, assertion, commands, events
from mailward.access.access import Access
from mailward.access.account_queries import ClientRow, KeyRow, SigningKeyRow
from mailward.access.assertion import BadAssertion
from mailward.access.projection import AccessProjection
from mailward.access.roles import TokenRole
from mailward.access.tokens import digest, new_token
from mailward.db.database import Database, Transaction
from mailward.errors import FailedPrecondition, NotFound
from mailward.eventstore import store
from mailward.eventstore.event import Editor, NewEvent
from mailward.ids import InstanceId, UserId
from mailward.secretbox import SecretBox, SecretText

#: How long an access token is good.
LIFETIME_S = 12 * 3600
_PROJECTIONS = (AccessProjection(),)
_SIGNING_KEY = "signing_key"


@dataclass(frozen=True, slots=True, kw_only=True)
class Give:
    """Something to sign in with, for the user called `name`; see commands.ForUser."""

    instance: InstanceId
    user_id: UserId
    role: TokenRole
    name: str
    editor: UserId = commands.SYSTEM
    at_us: int


def give(tx: Transaction, command: Give, event: NewEvent) -> UserId:
    """Give a key or a secret. Raises what commands.give raises."""
    return commands.give(tx, command, event)


def revoke_key(tx: Transaction, key_id: str, editor: UserId, at_us: int) -> KeyRow:
    """Revoke a key and the access tokens that it brought for good. Raises NotFound."""
    store.lock_appends(tx)
    key = account_queries.key(tx, key_id)
    if key is None:
        raise NotFound("ACCESS-Ky4Rm", f"no key has the id {key_id!r}")
    version = store.version(tx, events.USER, key.user_id, lock=True)
    event = events.key_removed(key_id)
    store.append(tx, events.USER, key.user_id, version, [event], editor=editor, at_us=at_us, projections=_PROJECTIONS)
    return key


@dataclass(frozen=True, slots=True, kw_only=True)
class SignIn:
    """An access token that a service account is to get."""

    by: KeyRow | ClientRow  #: what it signed in with
    token_id: str
    digest: bytes
    for_api: bool
    peer: str  #: address that asked for it, for the record
    at_us: int


def sign_in(tx: Transaction, command: SignIn) -> None:
    """Issue an access token, with what the user's memberships make of it.

    Raises FailedPrecondition when the key or secret was revoked since it was looked at: its tokens ended then.
    """
    by, user_id = command.by, command.by.user_id
    version = store.version(tx, events.USER, user_id, lock=True)
    if isinstance(by, KeyRow):
        key_id, is_good = by.id, account_queries.key(tx, by.id) is not None
    else:
        key_id, is_good = None, account_queries.client(tx, by.client_id) == by
    if not is_good:
        raise FailedPrecondition("ACCESS-Rv7Ks", "the key or secret was revoked at this moment")
    event = events.token_added(
        command.token_id,
        command.digest,
        commands.role_of(tx, user_id),
        command.at_us + LIFETIME_S * 1_000_000,
        for_api=command.for_api,
        key_id=key_id,
    )
    store.append(
        tx,
        events.USER,
        user_id,
        version,
        [event],
        editor=Editor(user_id, command.peer),
        at_us=command.at_us,
        projections=_PROJECTIONS,
    )


def keep_signing_key(tx: Transaction, instance: InstanceId, new: SigningKeyRow, at_us: int) -> SigningKeyRow:
    """Keep `new` unless another node was first; return the key that signs."""
    version = store.version(tx, events.INSTANCE, instance, lock=True)
    known = account_queries.signing_keys(tx)
    if known:
        return known[-1]
    event = events.signing_key_added(new.id, new.public_key, new.private_key)
    store.append(
        tx,
        events.INSTANCE,
        instance,
        version,
        [event],
        editor=commands.SYSTEM,
        at_us=at_us,
        projections=_PROJECTIONS,
    )
    return new


class Accounts:
    """The service accounts of one instance."""

    def __init__(
        self, db: Database, box: SecretBox, access: Access, ids: Callable[[], int], now_us: Callable[[], int]
    ) -> None:
        self._db = db
        self._box = box
        self._access = access
        self._ids = ids
        self._now_us = now_us
        #: By id: user and public key in PEM, of keys that signed somebody in at this node.
        self._public_keys: dict[str, tuple[UserId, str]] = {}

    async def create_key(self, role: TokenRole, name: str, expires_in_us: int | None = None) -> dict[str, str]:
        """Make a key and return ZITADEL's key file. The private key is in it and nowhere else."""
        private, public = await asyncio.to_thread(assertion.new_key)
        key_id, give_to = str(self._ids()), self._give(role, name)
        expires_at_us = None if expires_in_us is None else give_to.at_us + expires_in_us
        user_id = await self._db.write(give, give_to, events.key_added(key_id, public, expires_at_us))
        file = {"type": "serviceaccount", "keyId": key_id, "key": private, "userId": user_id}
        return file if expires_at_us is None else {**file, "expirationDate": _rfc3339(expires_at_us)}

    async def list_keys(self) -> list[KeyRow]:
        """Return all keys that were not revoked."""
        return await self._db.read(account_queries.keys)

    async def revoke_key(self, key_id: str) -> KeyRow:
        """Revoke a key and the access tokens that it brought. Raises NotFound."""
        key = await self._db.write(revoke_key, key_id, commands.SYSTEM, self._now_us())
        await self._access.changed()
        return key

    async def create_client(self, role: TokenRole, name: str) -> str:
        """Give the service account `name` a new secret and return it.

        An earlier one, and the access tokens that it brought, are good no longer.
        """
        secret = secrets.token_urlsafe(32)
        await self._db.write(give, self._give(role, name), events.secret_set(_sha256(secret)))
        await self._access.changed()
        return secret

    async def by_assertion(self, text: str, issuer: str) -> KeyRow:
        """Return the key by which an assertion signs its user in. Raises BadAssertion."""
        claim = assertion.read(text)
        key = await self._db.read(account_queries.key, claim.key_id)
        now_us = self._now_us()
        if key is None or (key.expires_at_us is not None and key.expires_at_us <= now_us):
            self._public_keys.pop(claim.key_id, None)
        if key is None or key.user_id != claim.user_id:
            raise BadAssertion("no key of this user has the id that the assertion names (kid)")
        if key.expires_at_us is not None and key.expires_at_us <= now_us:
            raise BadAssertion("the key has expired")
        assertion.check(claim, key.public_key, issuer, now_us // 1_000_000)
        self._public_keys[key.id] = key.user_id, key.public_key
        return key

    def signed_in_before(self, text: str, issuer: str) -> bool:
        """Whether an assertion is by a key that signed somebody in at this node: known without a look at the store.

        Its signature is checked: an id of a key alone, which is no secret, proves nothing.
        """
        try:
            claim = assertion.read(text)
            user_id, public_key = self._public_keys[claim.key_id]
            assertion.check(claim, public_key, issuer, self._now_us() // 1_000_000)
        except (BadAssertion, KeyError):
            return False
        return claim.user_id == user_id

    async def by_secret(self, client_id: str, secret: str) -> ClientRow | None:
        """Return the client that id and secret sign in; None for a wrong secret. Raises NotFound for an unknown id."""
        client = await self._db.read(account_queries.client, client_id)
        if client is None:
            raise NotFound("ACCESS-Cl8Nf", "client not found")
        right = client.secret_digest is not None and hmac.compare_digest(client.secret_digest, _sha256(secret))
        return client if right else None

    async def issue(self, by: KeyRow | ClientRow, *, for_api: bool, peer: str) -> str:
        """Return a new access token for who signed in `by` this. It is recorded who did, and from where.

        Raises FailedPrecondition when `by` was revoked meanwhile.
        """
        text = new_token()
        hashed = digest(text)
        assert hashed is not None
        await self._db.write(
            sign_in,
            SignIn(
                by=by,
                token_id=str(self._ids()),
                digest=hashed,
                for_api=for_api,
                peer=peer,
                at_us=self._now_us(),
            ),
        )
        return text

    async def signing_key(self) -> SigningKeyRow:
        """Return the key that signs id tokens; made when it is needed first."""
        known = await self._db.read(account_queries.signing_keys)
        if known:
            return known[-1]
        private, public = await asyncio.to_thread(assertion.new_key)
        key_id, instance = str(self._ids()), self._access.instance
        sealed = self._box.seal(SecretText(private), instance, key_id, _SIGNING_KEY)
        new = SigningKeyRow(key_id, public, sealed)
        return await self._db.write(keep_signing_key, instance, new, self._now_us())

    async def public_keys(self) -> list[dict[str, str]]:
        """Return the keys that id tokens may be signed with, as JSON web keys."""
        await self.signing_key()
        return [assertion.jwk(row.id, row.public_key) for row in await self._db.read(account_queries.signing_keys)]

    async def id_token(self, user_id: UserId, issuer: str, access_token: str, *, by_secret: bool) -> str:
        """Return the statement that the user signed in here, for clients that ask for `openid`.

        `by_secret`: by a client secret, which RFC 8176 calls "pwd"; an assertion has no word of its own there.
        """
        key = await self.signing_key()
        user = await self._access.user(user_id)
        name, now_s = user.name if user else "", self._now_us() // 1_000_000
        private = self._box.open(key.private_key, self._access.instance, key.id, _SIGNING_KEY)
        claims = {
            "iss": issuer,
            "sub": user_id,
            "aud": [self._access.instance, name],
            "exp": now_s + LIFETIME_S,
            "iat": now_s,
            "auth_time": now_s,
            "azp": name,
            "client_id": name,
            "at_hash": assertion.half_hash(access_token),
        } | ({"amr": ["pwd"]} if by_secret else {})
        return await asyncio.to_thread(jwt.sign, private.reveal(), {"kid": key.id}, claims)

    def _give(self, role: TokenRole, name: str) -> Give:
        return Give(
            instance=self._access.instance,
            user_id=UserId(str(self._ids())),
            role=role,
            name=name,
            at_us=self._now_us(),
        )


def _sha256(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def _rfc3339(at_us: int) -> str:
    return datetime.fromtimestamp(at_us // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
