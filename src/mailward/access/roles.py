"""What a role permits: ZITADEL's instance roles as members hold them, and the roles that a token is made with."""

from collections.abc import Iterable
from enum import StrEnum


class TokenRole(StrEnum):
    """What an operator asks for when making a token; kept with the token."""

    OWNER = "owner"  #: its user is a member with IAM_OWNER
    VIEWER = "viewer"  #: its user is a member with IAM_OWNER_VIEWER
    SENDER = "sender"  #: its user is no member: it submits, and reads what it submitted itself


#: The member role that comes with a token role; a sender gets none.
MEMBER_ROLE = {TokenRole.OWNER: "IAM_OWNER", TokenRole.VIEWER: "IAM_OWNER_VIEWER"}

MESSAGE_SEND = "message.send"
MESSAGE_READ = "message.read"
MESSAGE_MANAGE = "message.manage"  #: cancel, retry, replay, resolve anybody's
MESSAGE_READ_ALL = "message.read.all"  #: beside message.read: not only the messages that the caller submitted

IAM_WRITE = "iam.write"  #: manage providers

_READ = frozenset({"iam.read", "iam.policy.read", "iam.member.read", "events.read"})
_READ_MESSAGES = frozenset({MESSAGE_READ, MESSAGE_READ_ALL})
_WRITE = frozenset({IAM_WRITE, "iam.policy.write", "iam.policy.delete", "iam.member.write", "iam.member.delete"})

#: Permissions per member role, in the order in which ZITADEL lists the roles of an instance.
MEMBER_PERMISSIONS: dict[str, frozenset[str]] = {
    "IAM_OWNER": _READ | _WRITE | _READ_MESSAGES | {MESSAGE_SEND, MESSAGE_MANAGE},
    "IAM_OWNER_VIEWER": _READ | _READ_MESSAGES,
    "IAM_ORG_MANAGER": frozenset(),
    "IAM_USER_MANAGER": frozenset(),
    "IAM_ADMIN_IMPERSONATOR": frozenset(),
    "IAM_END_USER_IMPERSONATOR": frozenset(),
    "IAM_LOGIN_CLIENT": frozenset({"iam.read", "iam.policy.read", "iam.member.read"}),
}

_SENDER = frozenset({MESSAGE_SEND, MESSAGE_READ})


def permissions(token_role: TokenRole, member_roles: Iterable[str]) -> frozenset[str]:
    """Return what a caller with a token of `token_role` and the memberships `member_roles` may do.

    Owner and viewer tokens permit nothing by themselves: taking the membership away takes everything away.
    """
    granted = _SENDER if token_role is TokenRole.SENDER else frozenset()
    return granted.union(*(MEMBER_PERMISSIONS.get(role, frozenset()) for role in member_roles))
