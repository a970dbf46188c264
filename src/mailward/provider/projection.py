"""The read table of email providers, written with the events; it is also what commands decide on (SQL)."""

import json
from collections.abc import Iterable

from mailward.db.database import Transaction
from mailward.eventstore.event import RecordedEvent
from mailward.ids import InstanceId, ProviderId
from mailward.provider import events
from mailward.provider import options as opt
from mailward.provider.events import (
    FailoverSet,
    HTTPConfigAdded,
    HTTPConfigChanged,
    LimitsSet,
    ProviderActivated,
    ProviderConfigured,
    ProviderDeactivated,
    ProviderRemoved,
    RefreshTokenRotated,
    SMTPConfigAdded,
    SMTPConfigChanged,
    SMTPPasswordChanged,
)
from mailward.provider.state import EmailProviders, HTTPConfig, HTTPProvider, Provider, SMTPConfig, SMTPProvider

#: For how long the secret before a change is used too: a password where the new one is refused, a signing key always.
GRACE_US = 3600 * 1_000_000


class EmailProvidersProjection:
    """Tables `email_providers` and `email_provider_totals`."""

    name = "email_providers"

    def apply(self, tx: Transaction, event: RecordedEvent) -> None:
        """Write what `event` changes; events of other rooms are ignored."""
        if event.aggregate_type != events.AGGREGATE_TYPE:
            return
        match events.from_payload(event.type, event.payload):
            case SMTPConfigAdded() as added:
                _add_smtp(tx, event, added)
            case HTTPConfigAdded() as added:
                _add_http(tx, event, added)
            case SMTPConfigChanged() as changed:
                _change_smtp(tx, event, changed)
            case SMTPPasswordChanged() as changed:
                _change_password(tx, event, changed)
            case ProviderConfigured() as configured:
                _configure(tx, event, configured)
            case RefreshTokenRotated() as rotated:
                _rotate_refresh_token(tx, event, rotated)
            case HTTPConfigChanged() as changed:
                _change_http(tx, event, changed)
            case ProviderActivated() as activated:
                _activate(tx, event, activated.id)
            case ProviderDeactivated() as deactivated:
                _set_state(tx, event, deactivated.id, "inactive")
            case ProviderRemoved() as removed:
                _remove(tx, event, removed.id)
            case LimitsSet() as limits:
                _set_limits(tx, event, limits)
            case FailoverSet() as failover:
                _set_failover(tx, event, failover)
            case None:
                pass

    def reset(self, tx: Transaction) -> None:
        """Empty the tables, so that all events can be applied again."""
        tx.put("DELETE FROM email_providers")
        tx.put("DELETE FROM email_provider_totals")


_LOAD = """
    SELECT id, kind, state, description, sender_address, sender_name, reply_to, tls, host, username, password,
           endpoint, signing_key, options, secrets
      FROM email_providers WHERE instance = :instance AND id = :id
"""


def load(tx: Transaction, instance: InstanceId, id: ProviderId) -> EmailProviders:
    """Return the slice of the instance's providers that a command about `id` decides on: that one, if it exists.

    Whether it is the active one is all that any rule asks about the others.
    """
    row = tx.fetch_one(_LOAD, instance=instance, id=id)
    if row is None:
        return EmailProviders()
    id, kind, state, description, *rest = row
    sender_address, sender_name, reply_to, tls, host, user, password, endpoint, signing_key, options, secrets = rest
    provider: Provider
    if kind == "smtp":
        config = SMTPConfig(
            sender_address=sender_address,
            sender_name=sender_name,
            host=host,
            tls=bool(tls),
            user=user,
            reply_to=reply_to,
            description=description,
        )
        provider = SMTPProvider(config, password)
        if options is not None:
            provider = SMTPProvider(config, password, opt.from_plain(json.loads(options)), json.loads(secrets))
    else:
        provider = HTTPProvider(HTTPConfig(endpoint=endpoint, description=description), signing_key)
    return EmailProviders({id: provider}, active=id if state == "active" else None)


def load_all(tx: Transaction, instance: InstanceId, ids: Iterable[ProviderId]) -> EmailProviders:
    """Return the slice that holds those of `ids` that exist."""
    found: dict[ProviderId, Provider] = {}
    for id in ids:
        found.update(load(tx, instance, id).providers)
    return EmailProviders(found)


_LAST_CHANGE = "SELECT sequence, change_us FROM email_providers WHERE instance = :instance AND id = :id"


def last_change(tx: Transaction, instance: InstanceId, id: ProviderId) -> tuple[int, int]:
    """Return (sequence, time) of the last event that touched an existing provider."""
    row = tx.fetch_one(_LAST_CHANGE, instance=instance, id=id)
    assert row is not None, "only a command about an existing provider can change nothing"
    return row[0], row[1]


_COUNT = """
    INSERT INTO email_provider_totals (instance, total, view_us) VALUES (:instance, :by, :at)
    ON CONFLICT (instance) DO UPDATE SET total = email_provider_totals.total + :by, view_us = :at
"""


def _count(tx: Transaction, event: RecordedEvent, by: int) -> None:
    """Keep the total, so that no list has to count, and the time of the view."""
    tx.put(_COUNT, instance=event.aggregate_id, by=by, at=event.at_us)


_ADD_SMTP = """
    INSERT INTO email_providers
           (instance, id, kind, state, description, added_sequence, sequence, creation_us, change_us,
            sender_address, sender_name, reply_to, tls, host, username, password, secret_host, secret_tls, secret_user)
    VALUES (:instance, :id, 'smtp', 'inactive', :description, :sequence, :sequence, :at, :at,
            :sender_address, :sender_name, :reply_to, :tls, :host, :user, :password,
            :secret_host, :secret_tls, :secret_user)
"""


def _add_smtp(tx: Transaction, event: RecordedEvent, added: SMTPConfigAdded) -> None:
    sealed = added.password is not None
    tx.put(
        _ADD_SMTP,
        instance=event.aggregate_id,
        id=added.id,
        description=added.description,
        sequence=event.version,
        at=event.at_us,
        sender_address=added.sender_address,
        sender_name=added.sender_name,
        reply_to=added.reply_to,
        tls=int(added.tls),
        host=added.host,
        user=added.user,
        password=added.password,
        secret_host=added.host if sealed else None,
        secret_tls=int(added.tls) if sealed else None,
        secret_user=added.user if sealed else None,
    )
    _count(tx, event, +1)


_ADD_HTTP = """
    INSERT INTO email_providers
           (instance, id, kind, state, description, added_sequence, sequence, creation_us, change_us,
            endpoint, signing_key)
    VALUES (:instance, :id, 'http', 'inactive', :description, :sequence, :sequence, :at, :at,
            :endpoint, :signing_key)
"""


def _add_http(tx: Transaction, event: RecordedEvent, added: HTTPConfigAdded) -> None:
    tx.put(
        _ADD_HTTP,
        instance=event.aggregate_id,
        id=added.id,
        description=added.description,
        sequence=event.version,
        at=event.at_us,
        endpoint=added.endpoint,
        signing_key=added.signing_key,
    )
    _count(tx, event, +1)


_CHANGE_SMTP = """
    UPDATE email_providers
       SET description = COALESCE(:description, description),
           sender_address = COALESCE(:sender_address, sender_address),
           sender_name = COALESCE(:sender_name, sender_name), reply_to = COALESCE(:reply_to, reply_to),
           tls = COALESCE(:tls, tls), host = COALESCE(:host, host), username = COALESCE(:user, username),
           old_password = CASE WHEN :moved = 1 THEN NULL ELSE old_password END,
           sequence = :sequence, change_us = :at
     WHERE instance = :instance AND id = :id AND kind = 'smtp'
"""


def _change_smtp(tx: Transaction, event: RecordedEvent, changed: SMTPConfigChanged) -> None:
    # An old password was for the old destination: it goes nowhere else.
    moved = changed.host is not None or changed.tls is not None or changed.user is not None
    tx.put(
        _CHANGE_SMTP,
        instance=event.aggregate_id,
        id=changed.id,
        description=changed.description,
        sender_address=changed.sender_address,
        sender_name=changed.sender_name,
        reply_to=changed.reply_to,
        tls=None if changed.tls is None else int(changed.tls),
        host=changed.host,
        user=changed.user,
        moved=int(moved),
        sequence=event.version,
        at=event.at_us,
    )
    if changed.password is not None:
        _change_password(tx, event, SMTPPasswordChanged(changed.id, changed.password))
    else:
        _count(tx, event, 0)


# A password is entered for the destination that the provider has at that moment. The one before is kept for a while,
# but only if it was entered for the same one: whoever changes the host must not be sent it.
_CHANGE_PASSWORD = """
    UPDATE email_providers
       SET old_password = CASE WHEN secret_host = host AND secret_tls = tls AND secret_user = username
                                    AND :erased = 0 THEN password END,
           old_until_us = :old_until_us,
           password = :password, secret_host = host, secret_tls = tls, secret_user = username,
           sequence = :sequence, change_us = :at
     WHERE instance = :instance AND id = :id AND kind = 'smtp'
"""


def _change_password(tx: Transaction, event: RecordedEvent, changed: SMTPPasswordChanged) -> None:
    tx.put(
        _CHANGE_PASSWORD,
        instance=event.aggregate_id,
        id=changed.id,
        password=changed.password,
        erased=int(changed.password is None),  # Who erases a password wants no AUTH.
        old_until_us=event.at_us + GRACE_US,
        sequence=event.version,
        at=event.at_us,
    )
    _count(tx, event, 0)


_CONFIGURE = """
    UPDATE email_providers SET options = :options, secrets = :secrets, sequence = :sequence, change_us = :at
     WHERE instance = :instance AND id = :id AND kind = 'smtp'
"""


def _configure(tx: Transaction, event: RecordedEvent, configured: ProviderConfigured) -> None:
    tx.put(
        _CONFIGURE,
        instance=event.aggregate_id,
        id=configured.id,
        options=json.dumps(opt.to_plain(configured.options)),
        secrets=json.dumps(dict(configured.secrets)),
        sequence=event.version,
        at=event.at_us,
    )
    _count(tx, event, 0)


_SECRETS = "SELECT secrets FROM email_providers WHERE instance = :instance AND id = :id"

_SET_SECRETS = "UPDATE email_providers SET secrets = :secrets WHERE instance = :instance AND id = :id"


def _rotate_refresh_token(tx: Transaction, event: RecordedEvent, rotated: RefreshTokenRotated) -> None:
    """Replace it, and leave sequence and time: no setting changed, so connections and what is known of it stay."""
    row = tx.fetch_one(_SECRETS, instance=event.aggregate_id, id=rotated.id)
    if row is not None and row[0] is not None:
        secrets = json.dumps({**json.loads(row[0]), opt.REFRESH_TOKEN: rotated.refresh_token})
        tx.put(_SET_SECRETS, instance=event.aggregate_id, id=rotated.id, secrets=secrets)
    _count(tx, event, 0)


_CHANGE_HTTP = """
    UPDATE email_providers
       SET description = COALESCE(:description, description), endpoint = COALESCE(:endpoint, endpoint),
           old_signing_key = CASE WHEN :rotated = 1 THEN signing_key ELSE old_signing_key END,
           old_until_us = CASE WHEN :rotated = 1 THEN :old_until_us ELSE old_until_us END,
           signing_key = COALESCE(:signing_key, signing_key), sequence = :sequence, change_us = :at
     WHERE instance = :instance AND id = :id AND kind = 'http'
"""


def _change_http(tx: Transaction, event: RecordedEvent, changed: HTTPConfigChanged) -> None:
    tx.put(
        _CHANGE_HTTP,
        instance=event.aggregate_id,
        id=changed.id,
        description=changed.description,
        endpoint=changed.endpoint,
        rotated=int(changed.signing_key is not None),
        old_until_us=event.at_us + GRACE_US,
        signing_key=changed.signing_key,
        sequence=event.version,
        at=event.at_us,
    )
    _count(tx, event, 0)


# Before the new one becomes active: the unique index allows one at a time.
_MAKE_OTHERS_INACTIVE = """
    UPDATE email_providers SET state = 'inactive', sequence = :sequence, change_us = :at
     WHERE instance = :instance AND state = 'active' AND id <> :id
"""


def _activate(tx: Transaction, event: RecordedEvent, id: ProviderId) -> None:
    tx.put(_MAKE_OTHERS_INACTIVE, instance=event.aggregate_id, id=id, sequence=event.version, at=event.at_us)
    _set_state(tx, event, id, "active")


_SET_STATE = """
    UPDATE email_providers SET state = :state, sequence = :sequence, change_us = :at
     WHERE instance = :instance AND id = :id
"""


def _set_state(tx: Transaction, event: RecordedEvent, id: ProviderId, state: str) -> None:
    tx.put(_SET_STATE, instance=event.aggregate_id, id=id, state=state, sequence=event.version, at=event.at_us)
    _count(tx, event, 0)


_REMOVE = "DELETE FROM email_providers WHERE instance = :instance AND id = :id"


def _remove(tx: Transaction, event: RecordedEvent, id: ProviderId) -> None:
    _count(tx, event, -tx.execute(_REMOVE, instance=event.aggregate_id, id=id))


_SET_LIMITS = """
    UPDATE email_providers
       SET per_second = :per_second, per_minute = :per_minute, per_day = :per_day,
           uncertain_retries = :uncertain_retries,
           sequence = :sequence, change_us = :at
     WHERE instance = :instance AND id = :id
"""


def _set_limits(tx: Transaction, event: RecordedEvent, limits: LimitsSet) -> None:
    tx.put(
        _SET_LIMITS,
        instance=event.aggregate_id,
        id=limits.id,
        per_second=limits.per_second,
        per_minute=limits.per_minute,
        per_day=limits.per_day,
        uncertain_retries=limits.uncertain_retries,
        sequence=event.version,
        at=event.at_us,
    )
    _count(tx, event, 0)


_NO_FAILOVER = """
    UPDATE email_providers SET failover_rank = NULL WHERE instance = :instance AND failover_rank IS NOT NULL
"""

_SET_RANK = "UPDATE email_providers SET failover_rank = :rank WHERE instance = :instance AND id = :id"


def _set_failover(tx: Transaction, event: RecordedEvent, failover: FailoverSet) -> None:
    tx.put(_NO_FAILOVER, instance=event.aggregate_id)
    for rank, id in enumerate(failover.ids):
        tx.put(_SET_RANK, instance=event.aggregate_id, id=id, rank=rank)
