"""Members of the instance (spec 8.2): who holds which roles."""

from mailward.access.access import Access
from mailward.access.members import MemberDetails
from mailward.access.queries import MemberOrder, MemberRow
from mailward.access.roles import MEMBER_PERMISSIONS
from mailward.api import convert
from mailward.ids import InstanceId, UserId
from mailward.proto.zitadel import admin_pb2 as admin
from mailward.proto.zitadel import member_pb2 as member
from mailward.proto.zitadel import user_pb2 as user
from mailward.proto.zitadel.object_pb2 import ListDetails, ObjectDetails
from mailward.rpc.service import Call

_ORDERS: dict[int, MemberOrder] = {
    member.MEMBER_FIELD_NAME_USER_ID: "user_id",
    member.MEMBER_FIELD_NAME_CREATION_DATE: "created_at_us",
    member.MEMBER_FIELD_NAME_CHANGE_DATE: "changed_at_us",
}


class MemberMethods:
    """Five methods of the AdminService."""

    access: Access

    async def list_iam_member_roles(
        self, request: admin.ListIAMMemberRolesRequest, call: Call
    ) -> admin.ListIAMMemberRolesResponse:
        """Return the roles that a member may hold."""
        roles = list(MEMBER_PERMISSIONS)
        return admin.ListIAMMemberRolesResponse(details=ListDetails(total_result=len(roles)), roles=roles)

    async def list_iam_members(self, request: admin.ListIAMMembersRequest, call: Call) -> admin.ListIAMMembersResponse:
        """Return a page of the members. Ours are machine users, without an email address, a first or a last name."""
        wanted = {query.user_id_query.user_id for query in request.queries if query.HasField("user_id_query")}
        for_humans = any(not query.HasField("user_id_query") for query in request.queries)
        if for_humans or len(wanted) > 1:
            return admin.ListIAMMembersResponse(details=ListDetails())
        rows, total = await self.access.list_members(
            user_id=wanted.pop() if wanted else None,
            order=_ORDERS.get(request.sorting_column, "created_at_us"),
            asc=request.query.asc,
            offset=request.query.offset,
            limit=request.query.limit,
        )
        # As in the other lists, the total is left out beyond the end (spec 4.4).
        details = ListDetails(total_result=total if rows else 0)
        return admin.ListIAMMembersResponse(details=details, result=[_shown(row, self.access.instance) for row in rows])

    async def add_iam_member(self, request: admin.AddIAMMemberRequest, call: Call) -> admin.AddIAMMemberResponse:
        """Make a user a member."""
        done = await self.access.add_member(UserId(request.user_id), request.roles, call.caller.user_id)
        return admin.AddIAMMemberResponse(
            details=ObjectDetails(
                sequence=done.sequence,
                creation_date=convert.timestamp(done.at_us),
                resource_owner=self.access.instance,
            )
        )

    async def update_iam_member(
        self, request: admin.UpdateIAMMemberRequest, call: Call
    ) -> admin.UpdateIAMMemberResponse:
        """Replace a member's roles."""
        done = await self.access.change_member(UserId(request.user_id), request.roles, call.caller.user_id)
        return admin.UpdateIAMMemberResponse(details=_changed(done, self.access.instance))

    async def remove_iam_member(
        self, request: admin.RemoveIAMMemberRequest, call: Call
    ) -> admin.RemoveIAMMemberResponse:
        """End a membership."""
        done = await self.access.remove_member(UserId(request.user_id), call.caller.user_id)
        return admin.RemoveIAMMemberResponse(details=_changed(done, self.access.instance))


def _changed(done: MemberDetails, instance: InstanceId) -> ObjectDetails:
    if not done.sequence:
        return ObjectDetails(resource_owner=instance)
    return ObjectDetails(sequence=done.sequence, change_date=convert.timestamp(done.at_us), resource_owner=instance)


def _shown(row: MemberRow, instance: InstanceId) -> member.Member:
    held = row.membership
    return member.Member(
        user_id=row.user_id,
        details=ObjectDetails(
            sequence=held.sequence,
            creation_date=convert.timestamp(held.created_at_us),
            change_date=convert.timestamp(held.changed_at_us),
            resource_owner=instance,
        ),
        roles=held.roles,
        preferred_login_name=row.name,
        display_name=row.name,
        user_type=user.TYPE_MACHINE,
        user_resource_owner=instance,
    )
