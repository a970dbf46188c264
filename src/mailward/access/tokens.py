"""Bearer tokens, of which only the SHA-256 is kept, and the caller that a token stands for."""

import hashlib
import re
import secrets
from dataclasses import dataclass

from mailward.access.roles import IAM_WRITE, MESSAGE_READ_ALL
from mailward.ids import UserId

PREFIX = "mw_"
_FORM = re.compile(r"mw_[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, and what they may do at this moment."""

    user_id: UserId
    token_id: str  #: 18 decimal digits
    name: str  #: of the user, e.g. "owner"
    roles: frozenset[str]  #: member roles, e.g. {"IAM_OWNER"}; empty also for a member without roles
    permissions: frozenset[str]  #: e.g. {"iam.read", "message.send"}
    is_member: bool  #: has a membership of the instance, be it without roles

    @property
    def sees_only(self) -> UserId | None:
        """The sender whose messages this caller is confined to; None when it may see everybody's."""
        return None if MESSAGE_READ_ALL in self.permissions else self.user_id

    @property
    def manages_providers(self) -> bool:
        return IAM_WRITE in self.permissions


def new_token() -> str:
    """Return a new token text, e.g. "mw_" and 43 letters of base64url. Shown once, kept nowhere."""
    return PREFIX + secrets.token_urlsafe(32)


def digest(token: str) -> bytes | None:
    """Return the SHA-256 of `token`, or None when it is not of the form of a token.

    No salt and no slow hash: 256 random bits cannot be guessed, and a slow one would let anybody keep us busy.
    """
    return hashlib.sha256(token.encode()).digest() if _FORM.fullmatch(token) else None
