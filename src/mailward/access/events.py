"""Events of users, their tokens and their memberships. A name is forever; a payload only grows.

Names and payload keys are ZITADEL's where it has them. A user's events belong to the aggregate ("user", its id), the
memberships to ("instance", the instance's id). Zero values are left out.
"""

from collections.abc import Sequence

from mailward.access.roles import TokenRole
from mailward.eventstore.event import NewEvent
from mailward.ids import UserId

USER = "user"  #: aggregate type
INSTANCE = "instance"  #: aggregate type

MACHINE_ADDED = "user.machine.added"  #: {userName, name, role}
PAT_ADDED = "user.pat.added"  #: {tokenId, digest (SHA-256, hex), role, expiration? (µs since 1970)}
PAT_REMOVED = "user.pat.removed"  #: {tokenId}
TOKEN_ADDED = "user.token.added"  #: {tokenId, digest, role, expiration, forAPI?, keyId?}: a service account signed in
KEY_ADDED = "user.machine.key.added"  #: {keyId, publicKey (PEM), expirationDate? (µs since 1970)}
KEY_REMOVED = "user.machine.key.removed"  #: {keyId}
SECRET_SET = "user.machine.secret.set"  #: {digest (SHA-256, hex)}
SIGNING_KEY_ADDED = "instance.signing.key.added"  #: {keyId, publicKey (PEM), privateKey (sealed)}
MEMBER_ADDED = "instance.member.added"  #: {userId, roles?}
MEMBER_CHANGED = "instance.member.changed"  #: {userId, roles}
MEMBER_REMOVED = "instance.member.removed"  #: {userId}
ADDRESS_LIMITED = "mailward.access.address.limited"  #: {network, door}

#: Keys of payloads by whose values somebody could pass for somebody: they are in the log and shown to nobody.
HIDDEN = frozenset({"digest", "privateKey"})


def machine_added(name: str, role: TokenRole) -> NewEvent:
    """A machine user called `name` exists from now on, made for `role`: what it signs in with permits that at most.

    People are shown the first one as "Owner".
    """
    shown = "Owner" if name == "owner" else name
    return NewEvent(MACHINE_ADDED, {"userName": name, "name": shown, "role": role.value})


def pat_added(token_id: str, digest: bytes, role: TokenRole, expires_at_us: int | None) -> NewEvent:
    """The user may sign in with the token whose SHA-256 is `digest`, until `expires_at_us` (None: without end)."""
    payload: dict[str, object] = {"tokenId": token_id, "digest": digest.hex(), "role": role.value}
    if expires_at_us is not None:
        payload["expiration"] = expires_at_us
    return NewEvent(PAT_ADDED, payload)


def pat_removed(token_id: str) -> NewEvent:
    """The token is good for nothing from now on."""
    return NewEvent(PAT_REMOVED, {"tokenId": token_id})


def token_added(
    token_id: str, digest: bytes, role: TokenRole, expires_at_us: int, *, for_api: bool, key_id: str | None
) -> NewEvent:
    """The service account signed in and holds the access token whose SHA-256 is `digest`.

    `key_id`: of the key that it signed in with; None: with its client secret.
    """
    payload: dict[str, object] = {
        "tokenId": token_id,
        "digest": digest.hex(),
        "role": role.value,
        "expiration": expires_at_us,
    }
    if for_api:
        payload["forAPI"] = True
    if key_id is not None:
        payload["keyId"] = key_id
    return NewEvent(TOKEN_ADDED, payload)


def key_added(key_id: str, public_key: str, expires_at_us: int | None) -> NewEvent:
    """Assertions signed with the private half of `public_key` (PEM) sign the user in."""
    payload: dict[str, object] = {"keyId": key_id, "publicKey": public_key}
    if expires_at_us is not None:
        payload["expirationDate"] = expires_at_us
    return NewEvent(KEY_ADDED, payload)


def key_removed(key_id: str) -> NewEvent:
    """The key signs nobody in any more, and the access tokens that it brought are good for nothing."""
    return NewEvent(KEY_REMOVED, {"keyId": key_id})


def secret_set(digest: bytes) -> NewEvent:
    """The client secret whose SHA-256 is `digest` signs the user in; earlier ones and what they brought do not."""
    return NewEvent(SECRET_SET, {"digest": digest.hex()})


def signing_key_added(key_id: str, public_key: str, private_key: str) -> NewEvent:
    """The instance signs id tokens with this key; `private_key` is sealed."""
    return NewEvent(SIGNING_KEY_ADDED, {"keyId": key_id, "publicKey": public_key, "privateKey": private_key})


def member_added(user_id: UserId, roles: Sequence[str]) -> NewEvent:
    """The user belongs to the instance, in `roles` (may be none)."""
    payload: dict[str, object] = {"userId": user_id}
    if roles:
        payload["roles"] = list(roles)
    return NewEvent(MEMBER_ADDED, payload)


def member_changed(user_id: UserId, roles: Sequence[str]) -> NewEvent:
    """The member's roles are `roles` instead of what they were."""
    return NewEvent(MEMBER_CHANGED, {"userId": user_id, "roles": list(roles)})


def member_removed(user_id: UserId) -> NewEvent:
    """The user belongs to the instance no longer."""
    return NewEvent(MEMBER_REMOVED, {"userId": user_id})


def address_limited(network: str, door: str) -> NewEvent:
    """Sign-ins from `network` failed too often; five such records at once, then one in ten minutes."""
    return NewEvent(ADDRESS_LIMITED, {"network": network, "door": door})
