"""grpc.health.v1.Health: what gRPC clients and load balancers ask before they send calls."""

from collections.abc import Callable, Collection

from mailward.proto.grpc.health.v1 import health_pb2
from mailward.rpc.service import Call, Code, RpcError


class Health:
    """The implementation that is registered for grpc.health.v1.Health; needs no token."""

    def __init__(self, is_ready: Callable[[], bool], services: Collection[str]) -> None:
        """`is_ready`: whether calls can be served now. `services`: full names, asked at every check."""
        self._is_ready = is_ready
        self._services = services

    async def check(self, request: health_pb2.HealthCheckRequest, call: Call) -> health_pb2.HealthCheckResponse:
        """Return the state of the server, which is that of each of its services. NOT_FOUND for an unknown one."""
        if request.service and request.service not in self._services:
            raise RpcError(Code.NOT_FOUND, "unknown service")
        status = (
            health_pb2.HealthCheckResponse.SERVING if self._is_ready() else health_pb2.HealthCheckResponse.NOT_SERVING
        )
        return health_pb2.HealthCheckResponse(status=status)
