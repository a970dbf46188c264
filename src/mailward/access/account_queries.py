"""What is asked about the keys and secrets of service accounts, and the instance's own keys (SQL)."""

from dataclasses import dataclass

from mailward.db.database import Transaction
from mailward.ids import UserId


@dataclass(frozen=True, slots=True)
class KeyRow:
    """A key of a service account; its private half is known to the holder alone."""

    id: str
    user_id: UserId
    name: str  #: of the user
    public_key: str  #: PEM
    created_at_us: int
    expires_at_us: int | None  #: None: without end


_KEYS = """
    SELECT machine_keys.id, users.id, users.name, machine_keys.public_key, machine_keys.created_at_us,
           machine_keys.expires_at_us
      FROM machine_keys JOIN users ON users.id = machine_keys.user_id
"""


def key(tx: Transaction, key_id: str) -> KeyRow | None:
    """Return the key with this id, or None."""
    row = tx.fetch_one(_KEYS + " WHERE machine_keys.id = :id", id=key_id)
    return KeyRow(*row) if row else None


def keys(tx: Transaction) -> list[KeyRow]:
    """Return all keys that were not revoked, oldest first."""
    return [KeyRow(*row) for row in tx.fetch(_KEYS + " ORDER BY machine_keys.created_at_us, machine_keys.id")]


@dataclass(frozen=True, slots=True)
class ClientRow:
    """A user that may sign in with a secret, or might if it had one."""

    client_id: str  #: the user's name
    user_id: UserId
    secret_digest: bytes | None  #: SHA-256


def client(tx: Transaction, client_id: str) -> ClientRow | None:
    """Return the user with this name, or None."""
    row = tx.fetch_one("SELECT id, secret_digest FROM users WHERE name = :name", name=client_id)
    return ClientRow(client_id, UserId(row[0]), None if row[1] is None else bytes(row[1])) if row else None


@dataclass(frozen=True, slots=True)
class SigningKeyRow:
    """A key of the instance, for id tokens."""

    id: str
    public_key: str  #: PEM
    private_key: str  #: PEM, sealed


_SIGNING_KEYS = "SELECT id, public_key, private_key FROM signing_keys ORDER BY created_at_us, id"


def signing_keys(tx: Transaction) -> list[SigningKeyRow]:
    """Return the instance's keys, oldest first; the last one signs."""
    return [SigningKeyRow(*row) for row in tx.fetch(_SIGNING_KEYS)]
