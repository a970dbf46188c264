"""From a bearer token to a caller who has the method's permission (spec 2.5)."""

from dataclasses import replace

from google.protobuf.descriptor import MethodDescriptor

from mailward.access.access import Access
from mailward.access.guesses import Door
from mailward.access.roles import MESSAGE_SEND
from mailward.access.tokens import Caller
from mailward.api.errors import zitadel_error
from mailward.api.hosts import Hosts
from mailward.eventstore.event import Editor
from mailward.ids import UserId
from mailward.proto.zitadel import options_pb2
from mailward.rpc.service import Call, Code, RpcError

_SCHEME = "Bearer "
_OURS = ("zitadel.", "mailward.")  #: not health and reflection, which answer any host
_AUTHENTICATED = "authenticated"  #: the permission that every known caller has


class Guard:
    """An rpc.service.Guard: asks the access room who calls, and the method's options what that takes.

    For ZITADEL's services the order of the checks, the codes and the ids are its own, and the texts untranslated; for
    ours there are no memberships, only permissions.
    """

    def __init__(self, access: Access, hosts: Hosts | None = None) -> None:
        """`hosts`: which are ours; None: all."""
        self._access = access
        self._hosts = hosts or Hosts(())
        self._permissions: dict[str, str] = {}  #: by full name of the method; "": nobody needs to be known

    async def __call__(self, method: MethodDescriptor, call: Call) -> Caller | None:
        """Return the caller; None for a method that is open to all. Raises RpcError, Unavailable."""
        permission = self._permission(method)
        if method.full_name.startswith(_OURS):
            self._check_host(call)
        if not permission:
            return None
        of_zitadel = method.full_name.startswith("zitadel.")
        caller = await self._caller(call, of_zitadel)
        if of_zitadel:
            self._admit(caller, permission, call)
        elif permission != _AUTHENTICATED and permission not in caller.permissions:
            raise RpcError(Code.PERMISSION_DENIED, f"this token lacks the permission {permission}")
        if permission == MESSAGE_SEND:
            return caller  # A message is no change: its row says who sent it.
        # Who changes something does it from somewhere: the log keeps the address.
        return replace(caller, user_id=UserId(Editor(caller.user_id, call.peer)))

    async def anybody(self, call: Call) -> Caller:
        """Return who calls a route of ZITADEL's that asks for no permission. Raises RpcError, Unavailable."""
        self._check_host(call)
        caller = await self._caller(call, of_zitadel=True)
        self._admit(caller, _AUTHENTICATED, call)
        return caller

    def _check_host(self, call: Call) -> None:
        stranger = self._hosts.stranger(call.metadata)
        if stranger is not None:
            raise RpcError(
                Code.NOT_FOUND,
                f"unable to set instance using origin {stranger} (ExternalDomain is {', '.join(self._hosts.domains)}): "
                "Instance not found. Check the host name, or add it by --external-domain",
            )

    def _permission(self, method: MethodDescriptor) -> str:
        known = self._permissions.get(method.full_name)
        if known is None:
            option = method.GetOptions().Extensions[options_pb2.auth_option]
            known = self._permissions[method.full_name] = option.permission
        return known

    async def _caller(self, call: Call, of_zitadel: bool) -> Caller:
        header = call.metadata.get("authorization", "")
        if not header:
            raise RpcError(Code.UNAUTHENTICATED, "auth header missing")
        door: Door = "http" if call.protocol == "rest" else "grpc"
        if not header.startswith(_SCHEME) or len(header) == len(_SCHEME):
            await self._access.refuse(door, call.peer, "no bearer token")
            raise _refusal(of_zitadel, "AUTH-toLo1", "invalid auth header", "invalid auth header")
        caller = await self._access.admit(header[len(_SCHEME) :], door, call.peer)
        if caller is None:
            key, text = "Errors.Token.Invalid", "the token is unknown, expired or revoked"
            raise _refusal(of_zitadel, "AUTH-7fs1e", key, text)
        return caller

    def _admit(self, caller: Caller, permission: str, call: Call) -> None:
        organisation = call.metadata.get("x-zitadel-orgid", "")
        if organisation and organisation != self._access.instance:
            raise zitadel_error(Code.PERMISSION_DENIED, "AUTH-Bs7Ds", "Organisation doesn't exist")
        if permission == _AUTHENTICATED:
            return
        if not caller.is_member:
            raise zitadel_error(Code.NOT_FOUND, "AUTHZ-cdgFk", "membership not found")
        if permission not in caller.permissions:
            raise zitadel_error(Code.PERMISSION_DENIED, "AUTH-5mWD2", "No matching permissions found")


def _refusal(of_zitadel: bool, id: str, key: str, text: str) -> RpcError:
    return zitadel_error(Code.UNAUTHENTICATED, id, key) if of_zitadel else RpcError(Code.UNAUTHENTICATED, text)
