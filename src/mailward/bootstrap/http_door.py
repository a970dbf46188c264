"""The HTTP door: REST, gRPC and gRPC-Web on one port, with health and metrics."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from mailward.access.audit import Audit
from mailward.api import me
from mailward.api.access import Guard
from mailward.api.admin import Admin
from mailward.api.hosts import Hosts
from mailward.api.messages import MessageLimits, Messages
from mailward.api.oauth import OAuth
from mailward.api.plain import plain_routes
from mailward.api.providers import ProviderMethods
from mailward.api.queue import Queue
from mailward.api.quick import PATH, Quick
from mailward.api.routing import Routing
from mailward.api.services import registry
from mailward.bootstrap.control_plane import ControlPlane
from mailward.bootstrap.data_plane import DataPlane
from mailward.bootstrap.listening import Certificate, shown
from mailward.config import Settings
from mailward.db.database import Database, Transaction
from mailward.errors import MailwardError, Unavailable
from mailward.peer import networks
from mailward.rpc.app import App
from mailward.rpc.forwarded import Proxies
from mailward.rpc.limits import Limits
from mailward.rpc.port import HttpPort
from mailward.rpc.rest import RestGateway
from mailward.rpc.service import Registry
from mailward.store import now_us


@asynccontextmanager
async def http_door(
    settings: Settings, certificate: Certificate, database: Database, control: ControlPlane, data: DataPlane
) -> AsyncIterator[str]:
    """Listen until the block ends, at the "host:port" that it is given; without the API in nodes that have none.

    Raises Unavailable when the address cannot be had, InvalidArgument for a certificate that cannot be used.
    """
    app = _app(settings, database, control, data)
    proxies = Proxies(networks(settings.trusted_proxies), settings.trusted_proxy_header)
    port = HttpPort(
        proxies.before(app),
        max_body=app.max_body,
        finish=app.finish,
        converse=app.converse,
        limits=Limits(connections=settings.max_connections),
    )
    host, number = settings.http_address
    context = certificate.context()
    try:
        number = await port.start(host, number, context)
    except OSError as error:
        raise Unavailable("BOOT-http", f"cannot listen on {settings.http} (--http): {error.strerror}") from None
    try:
        yield shown(host, number)
    finally:
        await port.stop(settings.shutdown_s / 2)


def _app(settings: Settings, database: Database, control: ControlPlane, data: DataPlane) -> App:
    hosts = Hosts(settings.external_domain)
    guard = Guard(control.access, hosts)
    limits = MessageLimits(message_bytes=settings.max_message_bytes, recipients=settings.max_recipients)
    serves_api = settings.role in ("all", "api")
    # Without the API: health and metrics alone.
    services = _services(settings, database, control, data, guard, limits) if serves_api else Registry(guard)
    rest = RestGateway(services)

    async def store_answers() -> str | None:
        try:
            await database.read(_ping)
        except MailwardError as error:
            return error.message
        return None

    routes = plain_routes(services, {"database": store_answers}, version=version("mailward"))
    if not serves_api:
        return App(services, rest, routes, rest_limit=rest.max_body)
    access = control.access
    routes |= {**OAuth(access, control.accounts, hosts).routes(), me.PATH: me.Me(access, guard, rest)}
    quick = Quick(access, data.submissions, rest, hosts=hosts, draw_id=data.draw_id, now_us=now_us, limits=limits)
    return App(services, rest, routes, rest_limit=rest.max_body, shortcuts={PATH: quick})


def _services(
    settings: Settings,
    database: Database,
    control: ControlPlane,
    data: DataPlane,
    guard: Guard,
    limits: MessageLimits,
) -> Registry:
    messages = Messages(
        database,
        data.submissions,
        draw_id=data.draw_id,
        now_us=now_us,
        hostname=settings.host,
        waits_for=data.waits_for,
        limits=limits,
    )
    return registry(
        guard,
        Admin(control.providers, control.tests, control.sms, control.settings, Audit(database), control.access),
        messages,
        Routing(control.providers),
        ProviderMethods(control.providers, control.tests, control.extension),
        Queue(database, data.control, data.census, waits_for=data.route_waits_for),
        max_message_bytes=settings.max_message_bytes,
    )


def _ping(tx: Transaction) -> None:
    tx.fetch("SELECT 1")
