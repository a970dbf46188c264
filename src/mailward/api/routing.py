"""Mailward's own RoutingService: who takes over when the active provider cannot, and what each provider may get."""

from mailward.errors import NotFound
from mailward.ids import ProviderId
from mailward.proto.mailward.v1 import routing_pb2 as proto
from mailward.provider.commands import Providers
from mailward.provider.routing import ProviderLimits, SendLimits
from mailward.rpc.service import Call


class Routing:
    """The implementation that is registered for mailward.v1.RoutingService. The guard has checked the permissions."""

    def __init__(self, providers: Providers) -> None:
        self._providers = providers

    async def get_failover(self, request: proto.GetFailoverRequest, call: Call) -> proto.Failover:
        """Return who takes over."""
        return proto.Failover(provider_ids=await self._providers.failover())

    async def set_failover(self, request: proto.Failover, call: Call) -> proto.Failover:
        """Replace the list of those who take over."""
        ids = [ProviderId(id) for id in request.provider_ids]
        await self._providers.set_failover(ids, call.caller.user_id)
        return request

    async def get_provider_limits(self, request: proto.GetProviderLimitsRequest, call: Call) -> proto.ProviderLimits:
        """Return what a provider may get."""
        stored = await self._providers.stored(ProviderId(request.id))
        if stored is None:
            raise NotFound("ROUTING-provider", "no such email provider")
        limits = stored.limits
        return proto.ProviderLimits(
            id=request.id,
            per_second=limits.send.per_second,
            per_minute=limits.send.per_minute,
            per_day=limits.send.per_day,
            uncertain_retries=limits.uncertain_retries,
        )

    async def set_provider_limits(self, request: proto.ProviderLimits, call: Call) -> proto.ProviderLimits:
        """Replace what a provider may get."""
        send = SendLimits(per_second=request.per_second, per_minute=request.per_minute, per_day=request.per_day)
        retries = request.uncertain_retries if request.HasField("uncertain_retries") else None
        limits = ProviderLimits(send=send, uncertain_retries=retries)
        await self._providers.set_limits(ProviderId(request.id), limits, call.caller.user_id)
        return request
