"""What is asked of the read table of email providers (SQL)."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from mailward.db.database import Row, Transaction
from mailward.errors import NotFound
from mailward.ids import InstanceId, ProviderId
from mailward.provider import options as opt
from mailward.provider.options import NOTHING_SET, Options
from mailward.provider.payloads import Sealed
from mailward.provider.routing import ProviderLimits, SendLimits

State = Literal["active", "inactive"]
Kind = Literal["smtp", "http"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SMTPSettings:
    """What an SMTP provider shows of itself. The password is never among it."""

    sender_address: str
    sender_name: str
    reply_to: str
    tls: bool
    host: str  #: "host:port"
    user: str
    options: Options = NOTHING_SET  #: what the wire cannot say
    secrets: frozenset[str] = frozenset()  #: names of those that are stored, "password" among them
    old_until_us: int | None = None  #: until when the password before the last change is a fall-back


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPSettings:
    """What an HTTP provider shows of itself. `commands.Providers` opens the signing key for the email family."""

    endpoint: str
    signing_key: Sealed


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderView:
    """One provider as the API shows it."""

    id: ProviderId
    instance: InstanceId  #: the resource owner
    state: State
    description: str
    sequence: int  #: of the last event that touched it, an activation of another one too
    creation_us: int
    change_us: int
    config: SMTPSettings | HTTPSettings


@dataclass(frozen=True, slots=True)
class ProviderPage:
    """A part of the list, in the order of creation."""

    items: list[ProviderView]
    total: int  #: of all; 0 too when the offset is beyond the end, as the original has it (spec 4.4)
    view_us: int  #: time of the last event that changed the table; 0 when there was none


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRelay:
    """What is needed to send through a provider, its secrets still sealed."""

    id: ProviderId
    kind: Kind
    description: str
    sender_address: str = ""
    sender_name: str = ""
    tls: bool = False
    host: str = ""
    user: str = ""
    password: Sealed | None = None
    #: Where the password was entered for: (host, tls, user). Differs from the above after a change without a password.
    bound_to: tuple[str, bool, str] | None = None
    endpoint: str = ""
    signing_key: Sealed | None = None
    sequence: int = 0  #: of the last event that touched it
    limits: ProviderLimits = field(default_factory=ProviderLimits)
    old_password: Sealed | None = None  #: for the same destination
    old_signing_key: Sealed | None = None
    old_until_us: int = 0
    options: Options = NOTHING_SET
    secrets: Mapping[str, Sealed] = field(default_factory=dict)  #: beside the password, by the names in `options`


_VIEW = """id, instance, kind, state, description, sequence, creation_us, change_us,
           sender_address, sender_name, reply_to, tls, host, username, endpoint, signing_key,
           options, secrets, password IS NOT NULL, CASE WHEN old_password IS NULL THEN NULL ELSE old_until_us END"""

_BY_ID = f"SELECT {_VIEW} FROM email_providers WHERE instance = :instance AND id = :id"  # noqa: S608 a constant

_ACTIVE = f"SELECT {_VIEW} FROM email_providers WHERE instance = :instance AND state = 'active'"  # noqa: S608


def by_id(tx: Transaction, instance: InstanceId, id: ProviderId) -> ProviderView:
    """Return the provider `id`. Raises NotFound."""
    return _found(tx.fetch_one(_BY_ID, instance=instance, id=id))


def active(tx: Transaction, instance: InstanceId) -> ProviderView:
    """Return the active provider. Raises NotFound when none is."""
    return _found(tx.fetch_one(_ACTIVE, instance=instance))


_TOTAL = "SELECT total, view_us FROM email_provider_totals WHERE instance = :instance"

_PAGE = f"""
    SELECT {_VIEW} FROM email_providers
     WHERE instance = :instance ORDER BY added_sequence LIMIT :limit OFFSET :offset
"""  # noqa: S608


def page(tx: Transaction, instance: InstanceId, offset: int = 0, limit: int = 0, asc: bool = False) -> ProviderPage:
    """Return up to `limit` (0: all) providers after the first `offset`, oldest first.

    `asc` has no effect, as in the original. The total is kept by the projection, so a page costs the same beside
    100,000 providers.
    """
    row = tx.fetch_one(_TOTAL, instance=instance)
    total, view_us = row if row is not None else (0, 0)
    if offset >= total:
        return ProviderPage([], 0, view_us)
    rows = tx.fetch(_PAGE, instance=instance, limit=limit or total, offset=offset)
    return ProviderPage([_view(row) for row in rows], total, view_us)


_RELAY = """id, kind, description, sender_address, sender_name, tls, host, username, password,
            secret_host, secret_tls, secret_user, endpoint, signing_key, sequence, per_second, per_minute, per_day,
            uncertain_retries, old_password, old_signing_key, old_until_us, options, secrets"""

_RELAY_BY_ID = f"SELECT {_RELAY} FROM email_providers WHERE instance = :instance AND id = :id"  # noqa: S608

_ACTIVE_RELAY = f"SELECT {_RELAY} FROM email_providers WHERE instance = :instance AND state = 'active'"  # noqa: S608

_FAILOVER = f"""
    SELECT {_RELAY} FROM email_providers WHERE instance = :instance AND failover_rank IS NOT NULL
     ORDER BY failover_rank
"""  # noqa: S608


def relay(tx: Transaction, instance: InstanceId, id: ProviderId) -> StoredRelay | None:
    """Return what is needed to send through `id`, or None when there is no such provider."""
    return _relay(tx.fetch_one(_RELAY_BY_ID, instance=instance, id=id))


def active_relay(tx: Transaction, instance: InstanceId) -> StoredRelay | None:
    """Return what is needed to send through the active provider, or None when none is active."""
    return _relay(tx.fetch_one(_ACTIVE_RELAY, instance=instance))


def route(tx: Transaction, instance: InstanceId) -> list[StoredRelay]:
    """Return the active provider and, behind it, those that take over, in order; nothing when none is active."""
    active = active_relay(tx, instance)
    if active is None:
        return []
    others = [_relay(row) for row in tx.fetch(_FAILOVER, instance=instance)]
    return [active, *(other for other in others if other is not None and other.id != active.id)]


_FAILOVER_IDS = """
    SELECT id FROM email_providers WHERE instance = :instance AND failover_rank IS NOT NULL ORDER BY failover_rank
"""


def failover(tx: Transaction, instance: InstanceId) -> list[ProviderId]:
    """Return the ids of those that take over, in order."""
    return [ProviderId(id) for (id,) in tx.fetch(_FAILOVER_IDS, instance=instance)]


def _found(row: Row | None) -> ProviderView:
    if row is None:
        raise NotFound("QUERY-fwofw", "SMTP configuration not found")
    return _view(row)


def _view(row: Row) -> ProviderView:
    id, instance, kind, state, description, sequence, creation_us, change_us, *rest = row
    sender_address, sender_name, reply_to, tls, host, user, endpoint, signing_key, *rest = rest
    options, secrets, has_password, old_until_us = rest
    config: SMTPSettings | HTTPSettings
    if kind == "smtp":
        config = SMTPSettings(
            sender_address=sender_address,
            sender_name=sender_name,
            reply_to=reply_to,
            tls=bool(tls),
            host=host,
            user=user,
            options=NOTHING_SET if options is None else opt.from_plain(json.loads(options)),
            secrets=frozenset(() if secrets is None else json.loads(secrets))
            | ({"password"} if has_password else set()),
            old_until_us=old_until_us,
        )
    else:
        config = HTTPSettings(endpoint=endpoint, signing_key=signing_key)
    return ProviderView(
        id=id,
        instance=instance,
        state=state,
        description=description,
        sequence=sequence,
        creation_us=creation_us,
        change_us=change_us,
        config=config,
    )


def _relay(row: Row | None) -> StoredRelay | None:
    if row is None:
        return None
    id, kind, description, sender_address, sender_name, tls, host, user, password, *rest = row
    secret_host, secret_tls, secret_user, endpoint, signing_key, sequence, *rest = rest
    per_second, per_minute, per_day, uncertain_retries, *rest = rest
    old_password, old_signing_key, old_until_us, options, secrets = rest
    return StoredRelay(
        id=id,
        kind=kind,
        description=description,
        sender_address=sender_address,
        sender_name=sender_name,
        tls=bool(tls),
        host=host,
        user=user,
        password=password,
        bound_to=(secret_host, bool(secret_tls), secret_user) if password is not None else None,
        endpoint=endpoint,
        signing_key=signing_key,
        sequence=sequence,
        limits=ProviderLimits(
            send=SendLimits(per_second=per_second, per_minute=per_minute, per_day=per_day),
            uncertain_retries=uncertain_retries,
        ),
        old_password=old_password,
        old_signing_key=old_signing_key,
        old_until_us=old_until_us or 0,
        options=NOTHING_SET if options is None else opt.from_plain(json.loads(options)),
        secrets={} if secrets is None else json.loads(secrets),
    )
