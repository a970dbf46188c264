"""Changes to email providers: load the slice, decide, append with the projection; secrets are sealed before that."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from mailward import log
from mailward.db.database import Database, Transaction
from mailward.eventstore import store
from mailward.eventstore.event import NewEvent
from mailward.eventstore.projection import Projection
from mailward.ids import InstanceId, ProviderId, UserId
from mailward.provider import aggregate, events, projection, queries
from mailward.provider.aggregate import (
    Activate,
    AddHTTP,
    AddSMTP,
    ChangeHTTP,
    ChangePassword,
    ChangeSMTP,
    Command,
    Deactivate,
    Remove,
    SetFailover,
    SetLimits,
)
from mailward.provider.configuring import OAuthChange, TokenLogin
from mailward.provider.payloads import Sealed
from mailward.provider.queries import HTTPSettings, ProviderPage, ProviderView, StoredRelay
from mailward.provider.relay import OLD_PASSWORD, OLD_SIGNING_KEY, Relay, RelayDefaults, hop_of, open_relay
from mailward.provider.routing import Plan, ProviderLimits
from mailward.provider.signing import fresh_signing_key
from mailward.provider.state import EmailProviders, HTTPConfig, SMTPConfig
from mailward.secretbox import SecretBox, SecretError, SecretText
from mailward.settings.projection import sender_must_match

T = TypeVar("T")

#: Fields, as parts of the place to which a secret is bound.
PASSWORD = "password"
SIGNING_KEY = "signing_key"
_REMEMBERED = 500  #: answers kept in memory
_REMEMBERED_PAGE = 100  #: items of the largest page that is kept


@dataclass(frozen=True, slots=True)
class Details:
    """As which event of the instance, and when, something last changed. Doors choose the date's name (spec 3.6)."""

    sequence: int
    at_us: int
    resource_owner: InstanceId


@dataclass(frozen=True, slots=True)
class Added:
    """A provider was added."""

    id: ProviderId
    details: Details
    signing_key: SecretText | None = None  #: of an HTTP provider


@dataclass(frozen=True, slots=True)
class ChangedHTTP:
    """An HTTP provider was changed."""

    details: Details
    signing_key: SecretText | None  #: the new one, when one was asked for


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """Who does something, where and when, and which read tables follow."""

    instance: InstanceId
    editor: UserId
    at_us: int
    projections: Sequence[Projection] = (projection.EmailProvidersProjection(),)
    domains: frozenset[str] = frozenset()  #: of the instance: what a sender must use where its domain policy says so


def execute(tx: Transaction, act: Act, command: Command) -> Details:
    """Do `command`; return the details of its last event, or, when nothing changed, of the provider's last one.

    For `Database.write`. Commands of one instance queue up at the lock, so each decides on what the one before left.
    Raises what `aggregate.decide` raises.
    """
    version = store.version(tx, events.AGGREGATE_TYPE, act.instance, lock=True)
    if isinstance(command, AddSMTP | AddHTTP):  # An id that is new has nothing to be loaded.
        state = EmailProviders()
    elif isinstance(command, SetFailover):
        state = projection.load_all(tx, act.instance, command.ids)
    else:
        state = projection.load(tx, act.instance, command.id)
    must_match = _must_match(tx, act.instance, version) if isinstance(command, AddSMTP | ChangeSMTP) else None
    if must_match:
        state = replace(state, sender_domains=act.domains)
    decided = aggregate.decide(state, command)
    if not decided:
        assert not isinstance(command, SetFailover)
        return Details(*projection.last_change(tx, act.instance, command.id), act.instance)
    recorded = store.append(
        tx,
        events.AGGREGATE_TYPE,
        act.instance,
        version,
        [NewEvent(events.type_of(event), events.to_payload(event)) for event in decided],
        editor=act.editor,
        at_us=act.at_us,
        projections=act.projections,
    )
    if must_match is not None:
        tx.memo[_POLICY] = (act.instance, recorded[-1].version, must_match)
    return Details(recorded[-1].version, recorded[-1].at_us, act.instance)


_POLICY = "domain policy"  #: in a connection's memo: (instance, its version, what its policy said then)


def _must_match(tx: Transaction, instance: InstanceId, version: int) -> bool:
    """Whether senders must use a domain of the instance. Not read again while nothing happened to the instance."""
    known = tx.memo.get(_POLICY)
    if known is not None and known[:2] == (instance, version):
        return bool(known[2])
    return sender_must_match(tx, instance)


@dataclass(frozen=True, slots=True)
class _Known:
    """What was last read of the way of mail: the active provider and those behind it; nothing when none is active."""

    stored: Sequence[StoredRelay]
    version: int  #: of the route when it was read
    until_us: int


class Providers:
    """The email providers of one instance, for all doors and for the worker. One per process."""

    def __init__(
        self,
        database: Database,
        secrets: SecretBox,
        *,
        instance: InstanceId,
        new_id: Callable[[], int],
        now_us: Callable[[], int],
        relay: RelayDefaults,
        domains: Collection[str] = (),
    ) -> None:
        """`domains`: of the instance; its domain policy may demand that senders use one of them."""
        self._database = database
        self._secrets = secrets
        self._instance = instance
        self._new_id = new_id
        self._now_us = now_us
        self.relay_defaults = relay
        self._domains = frozenset(domains)
        self._listeners: list[Callable[[], Awaitable[None]]] = []
        self._active = _Known([], version=-1, until_us=0)
        self._version = 0  # counts the changes made by this process
        self._route_version = 0  # counts those that may change the way of mail
        self._memory: dict[tuple[object, ...], Any] = {}  # answers as of `_memory_version`
        self._memory_version = 0

    @property
    def instance(self) -> InstanceId:
        return self._instance

    def subscribe(self, listener: Callable[[], Awaitable[None]]) -> None:
        """Await `listener` after a change made by this process, once it is durable and before its caller knows.

        So a client that has its answer can rely on the change. Not after an addition, which changes no mail's way. The
        listener must not raise.
        """
        self._listeners.append(listener)

    # --- changes

    async def add_smtp(
        self, config: SMTPConfig, password: SecretText | None, editor: UserId, *, oauth: TokenLogin | None = None
    ) -> Added:
        """Add an inactive SMTP provider; without `password` and `oauth` it never sends AUTH. Raises InvalidArgument."""
        id = ProviderId(str(self._new_id()))
        command = AddSMTP(id, config, self._seal(password, id, PASSWORD), self._token_login(oauth, id))
        return Added(id, await self._do(command, editor))

    async def change_smtp(
        self,
        id: ProviderId,
        config: SMTPConfig,
        password: SecretText | None,
        editor: UserId,
        *,
        oauth: TokenLogin | None = None,
    ) -> Details:
        """Replace all but the secret, that too unless `password` is None or empty. Raises InvalidArgument, NotFound."""
        command = ChangeSMTP(id, config, self._seal(password, id, PASSWORD), self._token_login(oauth, id))
        return await self._do(command, editor)

    async def change_password(self, id: ProviderId, password: SecretText | None, editor: UserId) -> Details:
        """Replace the active provider's password, or erase it (None, empty). Raises InvalidArgument, NotFound."""
        return await self._do(ChangePassword(id, self._seal(password, id, PASSWORD)), editor)

    async def add_http(self, config: HTTPConfig, editor: UserId) -> Added:
        """Add an inactive HTTP provider with a signing key of its own."""
        id = ProviderId(str(self._new_id()))
        key = fresh_signing_key()
        details = await self._do(AddHTTP(id, config, self._sealed(key, id, SIGNING_KEY)), editor)
        return Added(id, details, key)

    async def change_http(
        self, id: ProviderId, config: HTTPConfig, editor: UserId, *, new_signing_key: bool = False
    ) -> ChangedHTTP:
        """Replace endpoint and description, and the signing key when asked to. Raises InvalidArgument, NotFound.

        For an hour mail is signed with the key before too, so that its receiver can change over in peace.
        """
        key = fresh_signing_key() if new_signing_key else None
        details = await self._do(ChangeHTTP(id, config, self._seal(key, id, SIGNING_KEY)), editor)
        return ChangedHTTP(details, key)

    async def activate(self, id: ProviderId, editor: UserId) -> Details:
        """Make `id` the active provider. Raises InvalidArgument, NotFound, FailedPrecondition."""
        return await self._do(Activate(id), editor)

    async def deactivate(self, id: ProviderId, editor: UserId) -> Details:
        """Leave no provider active. Raises InvalidArgument, NotFound, FailedPrecondition."""
        return await self._do(Deactivate(id), editor)

    async def remove(self, id: ProviderId, editor: UserId) -> Details:
        """Remove a provider, active or not. Raises InvalidArgument, NotFound."""
        return await self._do(Remove(id), editor)

    async def set_limits(self, id: ProviderId, limits: ProviderLimits, editor: UserId) -> Details:
        """Set what `id` may get, all of it. Raises NotFound."""
        return await self._do(SetLimits(id, limits), editor)

    async def set_failover(self, ids: Sequence[ProviderId], editor: UserId) -> Details:
        """Set who takes over when the active provider cannot, in order. Raises NotFound, InvalidArgument."""
        return await self._do(SetFailover(tuple(ids)), editor)

    # --- questions

    async def failover(self) -> Sequence[ProviderId]:
        """Return who takes over when the active provider cannot, in order."""
        return await self._database.read(queries.failover, self._instance)

    async def get(self, id: ProviderId) -> ProviderView:
        """Return the provider `id`. Raises NotFound."""
        return await self._seen(queries.by_id, id)

    async def active(self) -> ProviderView:
        """Return the active provider. Raises NotFound."""
        return await self._seen(queries.active)

    async def list(self, offset: int = 0, limit: int = 0, asc: bool = False) -> ProviderPage:
        """Return up to `limit` (0: all) providers after the first `offset`, in the order of creation."""
        if not 0 < limit <= _REMEMBERED_PAGE:
            return await self._database.read(queries.page, self._instance, offset, limit, asc)
        return await self._seen(queries.page, offset, limit, asc)

    async def stored(self, id: ProviderId) -> StoredRelay | None:
        """Return what is needed to send through `id`, secrets sealed; None when there is no such provider."""
        return await self._database.read(queries.relay, self._instance, id)

    # --- for the worker

    async def relay(self) -> Relay | None:
        """Return the active provider as the transport needs it, None when none is active.

        What this process changed is seen at once, a change by another one within `relay_defaults.ttl_us`.
        """
        stored = await self._route()
        return self._opened(stored[0]) if stored else None

    async def plan(self) -> tuple[Relay | None, Plan]:
        """Return what `relay` does, and the providers that mail may go through, in order.

        Those that cannot be used as they are stored are left out.
        """
        stored = await self._route()
        opened = [(self._opened(one), one) for one in stored]
        hops = [hop_of(relay, one) for relay, one in opened]
        return opened[0][0] if opened else None, tuple(hop for hop in hops if hop is not None)

    def _opened(self, stored: StoredRelay) -> Relay:
        secrets = (self.open_password, self.open_signing_key, self.open_secrets)
        return open_relay(stored, self.relay_defaults, *secrets)

    async def _route(self) -> Sequence[StoredRelay]:
        known, now = self._active, self._now_us()
        if known.version != self._route_version or not now < known.until_us <= now + self.relay_defaults.ttl_us:
            # The version from before the read: a change during it makes what was read stale at once.
            version = self._route_version
            stored = await self._database.read(queries.route, self._instance)
            self._active = known = _Known(stored, version, now + self.relay_defaults.ttl_us)
        return known.stored

    # --- secrets

    def signing_key(self, view: ProviderView) -> SecretText | None:
        """Return the signing key of an HTTP provider, which the email family shows; None for an SMTP provider.

        None too when it cannot be opened: a lost master key must not make lists fail. The worker says what is wrong.
        """
        if not isinstance(view.config, HTTPSettings):
            return None
        try:
            return self._secrets.open(view.config.signing_key, self._instance, view.id, SIGNING_KEY)
        except SecretError:
            return None

    def open_password(self, relay: StoredRelay) -> SecretText | None:
        """Return the password of an SMTP provider, None when it has none. Raises secretbox.SecretError."""
        if relay.password is None:
            return None
        return self._secrets.open(relay.password, self._instance, relay.id, PASSWORD)

    def open_signing_key(self, relay: StoredRelay) -> SecretText | None:
        """Return the signing key of an HTTP provider, None for an SMTP provider. Raises secretbox.SecretError."""
        if relay.signing_key is None:
            return None
        return self._secrets.open(relay.signing_key, self._instance, relay.id, SIGNING_KEY)

    def open_secrets(self, relay: StoredRelay) -> dict[str, SecretText]:
        """Return the secrets beside password and signing key by name, the old ones during their grace time among them.

        Raises secretbox.SecretError.
        """
        opened = {
            name: self._secrets.open(sealed, self._instance, relay.id, name) for name, sealed in relay.secrets.items()
        }
        if self._now_us() < relay.old_until_us:
            old = (OLD_PASSWORD, PASSWORD, relay.old_password), (OLD_SIGNING_KEY, SIGNING_KEY, relay.old_signing_key)
            for name, field, sealed in old:
                if sealed is not None:
                    opened[name] = self._secrets.open(sealed, self._instance, relay.id, field)
        return opened

    def seal(self, secrets: Mapping[str, SecretText], id: ProviderId) -> dict[str, Sealed]:
        """Return `secrets`, by the names in provider/options.py, as they are stored with `id`."""
        return {name: self._sealed(secret, id, name) for name, secret in secrets.items()}

    async def do(self, command: Command, editor: UserId) -> Details:
        """Do a command that has no method here; its secrets are sealed. Raises what the aggregate raises."""
        return await self._do(command, editor)

    # --- inside

    async def _seen(self, query: Callable[..., T], *args: Any) -> T:
        """Return query(tx, instance, *args), from memory if nothing changed since it was last asked.

        With SQLite one process owns the providers, so its own changes are all there are. With PostgreSQL there are
        other nodes, whose changes a read must see at once.
        """
        if self._database.dialect != "sqlite":
            return await self._database.read(query, self._instance, *args)
        if self._memory_version != self._version or len(self._memory) >= _REMEMBERED:
            self._memory, self._memory_version = {}, self._version
        key = (query, *args)
        if key in self._memory:
            return self._memory[key]  # type: ignore[no-any-return]
        memory = self._memory  # From before the read: a change during it begins a new one.
        answer: T = await self._database.read(query, self._instance, *args)
        memory[key] = answer
        return answer

    async def _do(self, command: Command, editor: UserId) -> Details:
        act = Act(instance=self._instance, editor=editor, at_us=self._now_us(), domains=self._domains)
        details = await self._database.write(execute, act, command)
        self._version += 1
        provider_id = "" if isinstance(command, SetFailover) else command.id
        log.provider_changed(provider_id, type(command).__name__, editor=editor)
        if not isinstance(command, AddSMTP | AddHTTP):  # What is added is inactive and behind nobody: no mail's way.
            self._route_version += 1
            for listener in self._listeners:
                await listener()
        return details

    def _token_login(self, login: TokenLogin | None, id: ProviderId) -> OAuthChange | None:
        return None if login is None else OAuthChange(login.oauth, self.seal(login.secrets, id))

    def _seal(self, secret: SecretText | None, id: ProviderId, field: str) -> Sealed | None:
        return self._sealed(secret, id, field) if secret else None

    def _sealed(self, secret: SecretText, id: ProviderId, field: str) -> Sealed:
        return Sealed(self._secrets.seal(secret, self._instance, id, field))
