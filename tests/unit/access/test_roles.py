"""What each role permits."""

import pytest

from mailward.access.roles import MEMBER_PERMISSIONS, MEMBER_ROLE, TokenRole, permissions


def test_an_owner_may_do_everything_that_anybody_may() -> None:
    everything = frozenset().union(*MEMBER_PERMISSIONS.values()) | permissions(TokenRole.SENDER, [])

    assert permissions(TokenRole.OWNER, [MEMBER_ROLE[TokenRole.OWNER]]) == everything


def test_a_viewer_reads_and_changes_nothing() -> None:
    granted = permissions(TokenRole.VIEWER, [MEMBER_ROLE[TokenRole.VIEWER]])

    assert granted == {
        "iam.read",
        "iam.policy.read",
        "iam.member.read",
        "events.read",
        "message.read",
        "message.read.all",
    }


def test_a_sender_submits_and_reads_but_not_what_others_submitted() -> None:
    assert permissions(TokenRole.SENDER, []) == {"message.send", "message.read"}


def test_a_sender_that_becomes_a_member_has_both() -> None:
    granted = permissions(TokenRole.SENDER, ["IAM_OWNER_VIEWER"])

    assert {"message.send", "iam.read"} <= granted
    assert "iam.write" not in granted


@pytest.mark.parametrize("role", [TokenRole.OWNER, TokenRole.VIEWER])
def test_a_token_permits_nothing_once_the_membership_is_gone(role: TokenRole) -> None:
    """Taking a role away takes it from the tokens that are already out."""
    assert permissions(role, []) == frozenset()


def test_a_role_of_a_newer_version_permits_nothing() -> None:
    assert permissions(TokenRole.OWNER, ["IAM_FROM_TOMORROW"]) == frozenset()
