"""Which services there are, under which paths, in which style."""

from dataclasses import replace
from functools import partial

from mailward.api.admin import Admin
from mailward.api.errors import on_error
from mailward.api.health import Health
from mailward.api.messages import Messages
from mailward.api.providers import ProviderMethods
from mailward.api.queue import Queue
from mailward.api.routing import Routing
from mailward.proto.grpc.health.v1 import health_pb2
from mailward.proto.mailward.v1 import messages_pb2, providers_pb2, queue_pb2, routing_pb2
from mailward.proto.zitadel import admin_pb2
from mailward.rpc.service import GATEWAY, PROBLEM, Guard, Registry

_BASE64_GROWTH = 1.4  #: how much larger a message is as base64 than its content
_FIELDS_BYTES = 1 << 20  #: for everything but the content

_ACCEPTED = replace(PROBLEM, statuses={"SendMessage": 202})


def registry(
    guard: Guard,
    admin: Admin,
    messages: Messages,
    routing: Routing,
    providers: ProviderMethods,
    queue: Queue,
    *,
    max_message_bytes: int,
) -> Registry:
    """Return the services of a gateway that takes messages of up to `max_message_bytes`."""
    services = Registry(guard, partial(on_error, language=lambda: admin.settings.language()))
    services.add(admin_pb2.DESCRIPTOR.services_by_name["AdminService"], admin, prefix="/admin/v1", style=GATEWAY)
    services.add(
        messages_pb2.DESCRIPTOR.services_by_name["MessageService"],
        messages,
        style=_ACCEPTED,
        max_message_bytes=int(max_message_bytes * _BASE64_GROWTH) + _FIELDS_BYTES,
    )
    services.add(routing_pb2.DESCRIPTOR.services_by_name["RoutingService"], routing, style=PROBLEM)
    services.add(providers_pb2.DESCRIPTOR.services_by_name["ProviderService"], providers, style=PROBLEM)
    services.add(
        queue_pb2.DESCRIPTOR.services_by_name["QueueService"],
        queue,
        style=replace(PROBLEM, statuses={"ReplayMessage": 202}),
    )
    health = Health(lambda: True, services.services.keys())
    services.add(health_pb2.DESCRIPTOR.services_by_name["Health"], health)
    return services
