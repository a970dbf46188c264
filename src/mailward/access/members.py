"""Memberships of the instance: who may do what on it (spec 8.2). Functions for Database.write."""

from collections.abc import Sequence
from dataclasses import dataclass

from mailward.access import events, queries
from mailward.access.projection import AccessProjection
from mailward.access.roles import MEMBER_PERMISSIONS
from mailward.db.database import Transaction
from mailward.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from mailward.eventstore import store
from mailward.eventstore.event import NewEvent
from mailward.ids import InstanceId, UserId


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeMember:
    """Who is to be a member, with which roles, by whose will."""

    instance: InstanceId
    user_id: UserId
    roles: tuple[str, ...] = ()
    editor: UserId
    at_us: int


@dataclass(frozen=True, slots=True)
class MemberDetails:
    """As which event of the instance, and when, a membership last changed; zeros when it never did."""

    sequence: int
    at_us: int


def add(tx: Transaction, command: ChangeMember) -> MemberDetails:
    """Make a user a member, perhaps without roles. Raises InvalidArgument, FailedPrecondition, AlreadyExists."""
    if not _are_known(command.roles):
        raise InvalidArgument("INSTANCE-4m0fS", "Member is invalid")
    version = store.version(tx, events.INSTANCE, command.instance, lock=True)
    if queries.user_by_id(tx, command.user_id) is None:
        raise FailedPrecondition("INSTA-GSXOn", "User could not be found")
    if queries.member_roles(tx, command.user_id) is not None:
        raise AlreadyExists("INSTA-pFDwe", "Errors.Instance.Member.AlreadyExists")
    return _append(tx, command, version, events.member_added(command.user_id, command.roles))


def change(tx: Transaction, command: ChangeMember) -> MemberDetails:
    """Replace a member's roles; the same ones again change nothing. Raises InvalidArgument, NotFound."""
    if not command.roles:
        raise InvalidArgument("INSTANCE-LiaZi", "Member is invalid")
    if not _are_known(command.roles):
        raise InvalidArgument("INSTANCE-3m9fs", "Member is invalid")
    version = store.version(tx, events.INSTANCE, command.instance, lock=True)
    known = queries.membership(tx, command.user_id)
    if known is None or known.roles is None:
        raise NotFound("INSTANCE-D8JxR", "Errors.NotFound")
    if known.roles == command.roles:
        return MemberDetails(known.sequence, known.changed_at_us)
    return _append(tx, command, version, events.member_changed(command.user_id, command.roles))


def remove(tx: Transaction, command: ChangeMember) -> MemberDetails:
    """End a membership. Whoever is no member stays so: then nothing is written."""
    version = store.version(tx, events.INSTANCE, command.instance, lock=True)
    known = queries.membership(tx, command.user_id)
    if known is None:
        return MemberDetails(0, 0)
    if known.roles is None:
        return MemberDetails(known.sequence, known.changed_at_us)
    return _append(tx, command, version, events.member_removed(command.user_id))


def _are_known(roles: Sequence[str]) -> bool:
    return all(role in MEMBER_PERMISSIONS for role in roles)


def _append(tx: Transaction, command: ChangeMember, version: int, event: NewEvent) -> MemberDetails:
    recorded = store.append(
        tx,
        events.INSTANCE,
        command.instance,
        version,
        [event],
        editor=command.editor,
        at_us=command.at_us,
        projections=(AccessProjection(),),
    )
    return MemberDetails(recorded[-1].version, recorded[-1].at_us)
