"""The form of a token and what is kept of it."""

import hashlib
import re

import pytest

from mailward.access.tokens import Caller, digest, new_token
from mailward.ids import UserId


def test_a_token_has_256_random_bits_behind_its_prefix() -> None:
    tokens = {new_token() for _ in range(100)}

    assert len(tokens) == 100
    assert all(re.fullmatch(r"mw_[A-Za-z0-9_-]{43}", token) for token in tokens)


def test_of_a_token_only_its_sha_256_is_kept() -> None:
    token = new_token()

    assert digest(token) == hashlib.sha256(token.encode()).digest()


@pytest.mark.parametrize(
    "text", ["", "mw_", "no-such-token", "mw_" + "a" * 42, "mw_" + "a" * 44, "MW_" + "a" * 43, "mw_" + "ü" * 43]
)
def test_what_does_not_look_like_a_token_has_no_digest(text: str) -> None:
    """Garbage costs neither a hash nor a look into the database."""
    assert digest(text) is None


@pytest.mark.parametrize(
    ("permissions", "confined"), [({"message.read"}, True), ({"message.read", "message.read.all"}, False)]
)
def test_a_caller_is_confined_to_its_own_messages_unless_it_may_read_all(permissions: set[str], confined: bool) -> None:
    caller = Caller(UserId("1"), "2", "ci", frozenset(), frozenset(permissions), False)

    assert caller.sees_only == ("1" if confined else None)
