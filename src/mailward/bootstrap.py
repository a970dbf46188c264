"""The composition root: settings in, a running gateway out. The only module that knows everybody."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from ipaddress import ip_network
from pathlib import Path

from mailward import log, metrics
from mailward.access.access import Access
from mailward.access.accounts import Accounts
from mailward.access.audit import Audit
from mailward.access.commands import SYSTEM
from mailward.access.tokens import Caller
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
from mailward.config import Settings
from mailward.db.database import Database, Transaction
from mailward.delivery.census import Census
from mailward.delivery.control import Control
from mailward.delivery.elsewhere import Elsewhere
from mailward.delivery.housekeeping import Housekeeper, Keep
from mailward.delivery.lease import Owner
from mailward.delivery.life import Life, Pace
from mailward.delivery.retry import RetryPolicy
from mailward.delivery.submission import Submissions
from mailward.delivery.waiting import reason_to_wait
from mailward.delivery.worker import Worker
from mailward.errors import InvalidArgument, MailwardError, Unavailable
from mailward.ids import MessageId
from mailward.provider.commands import Providers
from mailward.provider.extension import Extension
from mailward.provider.relay import RelayDefaults
from mailward.provider.sms_commands import SMSProviders
from mailward.provider.testing import ProviderTests
from mailward.provider.watch import RelayWatch
from mailward.rpc.app import App
from mailward.rpc.http import Handler
from mailward.rpc.limits import Limits
from mailward.rpc.port import HttpPort
from mailward.rpc.rest import RestGateway
from mailward.rpc.service import Registry
from mailward.settings.commands import InstanceSettings
from mailward.smtpd.door import House, SmtpdSettings
from mailward.smtpd.listener import SmtpListener
from mailward.smtpd.tls import self_signed, server_context
from mailward.store import data_dir, locked, node_name, now_us, open_store, secret_box, write_private
from mailward.transport import smtp
from mailward.transport.base import Deadlines
from mailward.transport.policy import address_check
from mailward.transport.ways import transport_to

OWNER_TOKEN_FILE = "owner.token"


@dataclass(frozen=True, slots=True)
class Gateway:
    """A running gateway, as whoever started it sees it."""

    scheme: str  #: "http" or "https"
    http_address: str  #: "host:port", the real port also when 0 was asked for
    smtp_address: str  #: "host:port"; "" when there is no SMTP door
    owner_token_file: Path
    access: Access
    #: Set when nothing can be stored any more, because the store process has ended.
    store_lost: asyncio.Event


@asynccontextmanager
async def gateway(settings: Settings) -> AsyncIterator[Gateway]:
    """Run a gateway until the block ends, then stop it within `shutdown_s`.

    Doors close first, then the worker, then the store: what was acknowledged is on disk, what is on the wire finishes.
    """
    async with AsyncExitStack() as stack:
        folder = data_dir(settings)
        stack.enter_context(locked(folder))
        store = await stack.enter_async_context(open_store(settings, writer="process"))
        life = _life(settings, store.database, node_name(folder))
        await life.begin()
        ids = life.ids
        access = Access(store.database, ids, now_us, store.access.instance)
        token_file = folder / OWNER_TOKEN_FILE
        first = await access.ensure_owner()
        if first is not None:
            write_private(token_file, first.text)

        instance_settings = InstanceSettings(store.database, instance=access.instance, now_us=now_us)
        await instance_settings.start(SYSTEM)
        stack.push_async_callback(instance_settings.stop)

        secrets = secret_box(settings)
        providers = Providers(
            store.database,
            secrets,
            instance=access.instance,
            new_id=ids,
            now_us=now_us,
            relay=_relay_defaults(settings),
            domains=_domains(settings),
        )
        stack.push_async_callback(life.stop)
        watch, worker = await _start_worker(settings, store.database, providers, life)
        # A stop has one deadline for everything; the doors leave half of it to mail that is on the wire.
        stack.push_async_callback(watch.stop)
        if isinstance(worker, Worker):
            stack.push_async_callback(worker.stop, settings.shutdown_s / 2)
        submissions = Submissions(store.database, worker, now_us, settings.lifetime_s)

        def draw_id() -> MessageId:
            return MessageId(ids())

        house = House(authenticate=_login(access), submit=submissions.submit, draw_id=draw_id, now_us=now_us)
        listener = SmtpListener(_smtpd_settings(settings, folder), house)
        smtp_address = await _listen_smtp(settings, listener) if settings.role in ("all", "smtp") else ""
        stack.push_async_callback(listener.stop, settings.shutdown_s / 2)

        sms = SMSProviders(store.database, secrets, instance=access.instance, new_id=ids, now_us=now_us)
        check = address_check(settings.egress_deny)
        tests = ProviderTests(providers, partial(smtp.test, check=check), new_id=ids, now_us=now_us)
        limits = MessageLimits(message_bytes=settings.max_message_bytes, recipients=settings.max_recipients)
        messages = Messages(
            store.database,
            submissions,
            draw_id=ids,
            now_us=now_us,
            hostname=settings.host,
            waits_for=lambda: (reason_to_wait(watch.current) if not watch.plan else "") or worker.waits_for(),
            limits=limits,
        )
        census = Census(store.database, now_us)
        census.start()
        stack.push_async_callback(census.stop)
        keep = Keep(content_days=settings.content_days, message_days=settings.message_days)
        housekeeper = Housekeeper(store.database, keep, now_us)
        housekeeper.start()
        stack.push_async_callback(housekeeper.stop)
        control = Control(store.database, worker, submissions, instance=access.instance, draw_id=draw_id, now_us=now_us)
        hand = Queue(store.database, control, census, waits_for=lambda: reason_to_wait(watch.current))
        hosts = Hosts(settings.external_domain)
        quick = partial(Quick, access, submissions, hosts=hosts, draw_id=ids, now_us=now_us, limits=limits)
        admin = Admin(providers, tests, sms, instance_settings, Audit(store.database), access)
        extended = ProviderMethods(providers, tests, Extension(providers, tests, partial(smtp.login, check=check)))
        guard = Guard(access, hosts)
        oauth = OAuth(access, Accounts(store.database, secrets, access, ids, now_us), hosts)
        services = partial(registry, guard, admin, messages, Routing(providers), extended, hand)
        app = _app(settings, store.database, guard, access, services, quick, oauth.routes())
        port = HttpPort(
            app,
            max_body=app.max_body,
            finish=app.finish,
            converse=app.converse,
            limits=Limits(connections=settings.max_connections),
        )
        http_address = await _listen_http(settings, port)
        stack.push_async_callback(port.stop, settings.shutdown_s / 2)

        metrics.build_info.labels(version("mailward")).set(1)
        log.write(
            "info", "server.started", http=http_address, smtp=smtp_address, role=settings.role,
            node=life.owner.node, epoch=life.owner.epoch,
        )  # fmt: skip
        yield Gateway(
            scheme="https" if settings.tls_cert else "http",
            http_address=http_address,
            smtp_address=smtp_address,
            owner_token_file=token_file,
            access=access,
            store_lost=store.database.lost,
        )
        log.write("info", "server.stopping")


def _life(settings: Settings, database: Database, name: str) -> Life:
    pace = Pace(heartbeat_s=settings.heartbeat_s, dead_after_s=settings.node_dead_after_s)
    return Life(database, name, _policy(settings), now_us=now_us, monotonic=time.monotonic, pace=pace)


def _policy(settings: Settings) -> RetryPolicy:
    return RetryPolicy(
        schedule_s=settings.retry_schedule_s,
        lifetime_s=settings.lifetime_s,
        uncertain_retries=settings.uncertain_retries,
    )


def _domains(settings: Settings) -> tuple[str, ...]:
    """Return the instance's domains, which senders must use when its domain policy says so."""
    return (*settings.external_domain, "localhost", *([settings.hostname] if settings.hostname else []))


def _relay_defaults(settings: Settings) -> RelayDefaults:
    return RelayDefaults(
        ehlo_name=settings.host,
        cleartext_auth=settings.allow_cleartext_auth,
        ca_file=settings.ca_file,
        max_connections=settings.relay_connections,
        deadlines=Deadlines(command_s=settings.command_s, final_s=settings.final_reply_s),
    )


async def _start_worker(
    settings: Settings, database: Database, providers: Providers, life: Life
) -> tuple[RelayWatch, Worker | Elsewhere]:
    worker: Worker | None = None

    def changed() -> None:
        if worker is not None:
            worker.relay_changed()

    async def reborn(owner: Owner) -> None:
        if worker is not None:
            await worker.live_again(owner)

    watch = RelayWatch(providers, changed)
    await watch.start()
    if settings.role in ("all", "worker"):
        worker = Worker(
            database,
            life.owner,
            life.ids,
            plan=lambda: watch.plan,
            transport=partial(transport_to, check=address_check(settings.egress_deny)),
            now_us=now_us,
            policy=_policy(settings),
            is_sure=life.is_sure,
            doubt=life.doubt,
        )
        worker.start()
    life.start(reborn)
    return watch, worker or Elsewhere()


def _app(
    settings: Settings,
    database: Database,
    guard: Guard,
    access: Access,
    registry_of: Callable[..., Registry],
    quick: Callable[[RestGateway], Quick],
    sign_in: Mapping[str, Handler],
) -> App:
    serves_api = settings.role in ("all", "api")
    # Without the API: health and metrics alone.
    services = registry_of(max_message_bytes=settings.max_message_bytes) if serves_api else Registry(guard)
    rest = RestGateway(services)

    async def store_answers() -> str | None:
        try:
            await database.read(_ping)
        except MailwardError as error:
            return error.message
        return None

    routes = plain_routes(services, {"database": store_answers}, version=version("mailward"))
    if serves_api:
        routes |= {**sign_in, me.PATH: me.Me(access, guard, rest)}
    shortcuts = {PATH: quick(rest)} if serves_api else None
    return App(services, rest, routes, rest_limit=rest.max_body, shortcuts=shortcuts)


def _ping(tx: Transaction) -> None:
    tx.fetch("SELECT 1")


async def _listen_http(settings: Settings, port: HttpPort) -> str:
    host, number = settings.http_address
    context = _certificate(settings)
    try:
        number = await port.start(host, number, context)
    except OSError as error:
        raise Unavailable("BOOT-http", f"cannot listen on {settings.http} (--http): {error.strerror}") from None
    return _shown(host, number)


async def _listen_smtp(settings: Settings, listener: SmtpListener) -> str:
    if settings.smtp_address is None:
        return ""
    host, number = settings.smtp_address
    try:
        (_, number), *_ = await listener.start(host, number)
    except OSError as error:
        raise Unavailable("BOOT-smtp", f"cannot listen on {settings.smtp} (--smtp): {error.strerror}") from None
    return _shown(host, number)


def _shown(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _certificate(settings: Settings) -> ssl.SSLContext | None:
    """Return the context of the operator's certificate, None when there is none. Raises InvalidArgument."""
    if not settings.tls_cert:
        return None
    try:
        return server_context(Path(settings.tls_cert), Path(settings.tls_key))
    except (OSError, ValueError) as error:
        raise InvalidArgument("BOOT-tls", f"cannot use --tls-cert {settings.tls_cert}: {error}") from None


def _smtpd_settings(settings: Settings, folder: Path) -> SmtpdSettings:
    context = _certificate(settings)
    if context is None:
        context = server_context(self_signed(folder, settings.host, datetime.now(UTC)))
    return SmtpdSettings(
        hostname=settings.host,
        max_size_bytes=settings.max_message_bytes,
        max_recipients=settings.max_recipients,
        max_connections=settings.max_connections,
        open_networks=tuple(ip_network(network) for network in settings.smtp_open_from),
        tls=context,
    )


def _login(access: Access) -> Callable[[str, str, str], Awaitable[Caller | None]]:
    """Return how the SMTP door finds out who calls: the password is the token, the user name is free text."""

    async def authenticate(user: str, token: str, peer: str) -> Caller | None:
        return await access.authenticate(token)

    return authenticate
