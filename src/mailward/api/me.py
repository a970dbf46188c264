"""GET /auth/v1/users/me: how a client learns who it is (spec 8.2)."""

from datetime import UTC, datetime

import orjson

from mailward.access.access import Access
from mailward.access.queries import UserRow
from mailward.api.access import Guard
from mailward.api.errors import to_rpc
from mailward.errors import MailwardError
from mailward.ids import InstanceId
from mailward.rpc.http import Request, Response
from mailward.rpc.rest import RestGateway
from mailward.rpc.service import Call, Code, RpcError

PATH = "/auth/v1/users/me"


class Me:
    """The route's handler."""

    def __init__(self, access: Access, guard: Guard, rest: RestGateway) -> None:
        self._access = access
        self._guard = guard
        self._rest = rest

    async def __call__(self, request: Request) -> Response:
        """Answer the caller's own user, in ZITADEL's shape."""
        if request.method != "GET":
            refusal = RpcError(Code.UNIMPLEMENTED, "Method Not Allowed", http_status=405)
            return self._rest.refuse(request, refusal)
        call = Call(method=PATH, metadata=dict(request.headers), protocol="rest", peer=request.peer)
        try:
            caller = await self._guard.anybody(call)
            user = await self._access.user(caller.user_id)
        except RpcError as error:
            return self._rest.refuse(request, error)
        except MailwardError as error:
            return self._rest.refuse(request, to_rpc(error, call))
        assert user is not None, "users are never removed"
        body = orjson.dumps({"user": _shown(user, self._access.instance)})
        return Response(200, [("content-type", "application/json"), ("cache-control", "no-store")], body)


def _shown(user: UserRow, instance: InstanceId) -> dict[str, object]:
    return {
        "id": user.id,
        "details": {
            "sequence": str(user.sequence),
            "creationDate": _time(user.created_at_us),
            "changeDate": _time(user.changed_at_us),
            "resourceOwner": instance,
        },
        "state": "USER_STATE_ACTIVE",
        "userName": user.name,
        "loginNames": [user.name],
        "preferredLoginName": user.name,
        "machine": {"name": user.name},
    }


def _time(at_us: int) -> str:
    seconds, rest_us = divmod(at_us, 1_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest_us:06d}Z"
