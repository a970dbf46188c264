"""Secrets at rest: AES-256-GCM under keys derived from a master key, each bound to the place where it lives."""

import base64
import binascii
import hmac
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from mailward.errors import MailwardError

MASTER_KEY_BYTES = 32
_VERSION = b"\x01"
_KEY_ID_BYTES = 8
_NONCE_BYTES = 12
_HEAD_BYTES = len(_VERSION) + _KEY_ID_BYTES + _NONCE_BYTES


class SecretError(MailwardError):
    """A secret cannot be sealed or opened: no such key, another place, damaged. Never holds the secret."""


class MasterKeyError(Exception):
    """The master key cannot be used; the text says what to do. Meant for whoever starts the server."""


class SecretText:
    """A text that shows itself only to `reveal()`: not to repr, str, format, pickle or a traceback with locals."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the text itself. Call it as late as possible."""
        return self._text

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SecretText):
            return NotImplemented
        return hmac.compare_digest(
            self._text.encode(errors="surrogatepass"), other._text.encode(errors="surrogatepass")
        )

    def __hash__(self) -> int:
        return hash((SecretText, self._text))

    def __repr__(self) -> str:
        return "SecretText(***)"

    def __str__(self) -> str:
        return "***"

    def __format__(self, spec: str) -> str:
        return format("***", spec)

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a SecretText is not pickled; seal it first")


class SecretBox:
    """Seals and opens secrets with a keyring: the first key seals, every key opens."""

    def __init__(self, master_keys: Sequence[bytes]) -> None:
        """`master_keys`: 32 bytes each; the first is the current one, others are retired. Raises MasterKeyError."""
        if not master_keys:
            raise MasterKeyError("the keyring is empty: at least one master key is needed")
        ring = [_derive(key) for key in master_keys]
        self._current = ring[0]
        self._ring = dict(ring)

    def seal(self, secret: SecretText, *place: str) -> str:
        """Return base64 text that only `open` with the same `place` turns back.

        `place` says where the secret lives: instance, provider, field. A sealed text copied elsewhere does not open.
        """
        key_id, cipher = self._current
        nonce = os.urandom(_NONCE_BYTES)
        body = cipher.encrypt(nonce, secret.reveal().encode(errors="surrogatepass"), _associated(place))
        return base64.b64encode(_VERSION + key_id + nonce + body).decode()

    def open(self, sealed: str, *place: str) -> SecretText:
        """Return the secret. Raises SecretError: the key is unknown, the place another, or the text damaged."""
        blob = _blob(sealed)
        key_id = blob[len(_VERSION) : len(_VERSION) + _KEY_ID_BYTES]
        cipher = self._ring.get(key_id)
        if cipher is None:
            raise SecretError(
                "SECRET-q3Vd",
                f"a stored secret was sealed with key {key_id.hex()}, which is not in the keyring: add that master key",
            )
        nonce = blob[_HEAD_BYTES - _NONCE_BYTES : _HEAD_BYTES]
        try:
            return SecretText(
                cipher.decrypt(nonce, blob[_HEAD_BYTES:], _associated(place)).decode(errors="surrogatepass")
            )
        except InvalidTag:
            raise SecretError(
                "SECRET-Zt8m", f"the stored secret of {'/'.join(place)} is damaged, or was stored for another place"
            ) from None

    def is_current(self, sealed: str) -> bool:
        """Return whether `sealed` was sealed with the current key: if not, a rotation has to seal it anew."""
        return _blob(sealed)[len(_VERSION) : len(_VERSION) + _KEY_ID_BYTES] == self._current[0]


def parse_master_key(text: str) -> bytes:
    """Return the 32 bytes in `text`: 64 hex digits, or base64 of any kind. Raises MasterKeyError."""
    text = "".join(text.split())
    try:
        key = bytes.fromhex(text) if len(text) == 2 * MASTER_KEY_BYTES else _from_base64(text)
    except (ValueError, binascii.Error):
        raise MasterKeyError("the master key is neither 64 hex digits nor base64 of 32 bytes") from None
    if len(key) != MASTER_KEY_BYTES:
        raise MasterKeyError(
            f"the master key must be {MASTER_KEY_BYTES} bytes, as 64 hex digits or base64; this is {len(key)}"
        )
    return key


def load_or_create_master_key(path: Path) -> bytes:
    """Return the key in the file `path`; when there is none, make one first (mode 0600, durable before it is used).

    Raises MasterKeyError when the file cannot be read, cannot be made, or does not hold a key.
    """
    try:
        if not path.exists():
            _create(path)
        text = path.read_text("ascii")
    except UnicodeDecodeError:
        raise MasterKeyError(f"{path}: not text; it must hold 32 bytes as 64 hex digits or base64") from None
    except OSError as error:
        raise MasterKeyError(f"{path}: cannot be read or made: {error.strerror}") from None
    try:
        return parse_master_key(text)
    except MasterKeyError as error:
        raise MasterKeyError(f"{path}: {error}") from None


def _create(path: Path) -> None:
    """Write a fresh key to `path`, whole or not at all: written aside with O_EXCL, fsynced, then linked into place.

    When another process was faster, its key stays.
    """
    aside = path.with_name(f"{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    file = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(file, "wb") as out:
            out.write(base64.b64encode(os.urandom(MASTER_KEY_BYTES)) + b"\n")
            out.flush()
            os.fsync(out.fileno())
        try:
            os.link(aside, path)
        except FileExistsError:
            return
    finally:
        aside.unlink()
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _derive(master: bytes) -> tuple[bytes, AESGCM]:
    """Return (key id, cipher). Both come from the master key by HKDF, so the id tells nothing about either key."""
    if len(master) != MASTER_KEY_BYTES:
        raise MasterKeyError(f"a master key must be {MASTER_KEY_BYTES} bytes, this is {len(master)}")
    key_id = HKDF(SHA256(), _KEY_ID_BYTES, None, b"mailward secretbox 1: key id").derive(master)
    key = HKDF(SHA256(), 32, None, b"mailward secretbox 1: sealing key").derive(master)
    return key_id, AESGCM(key)


def _associated(place: tuple[str, ...]) -> bytes:
    """Return `place` as bytes; the lengths keep ("a", "bc") apart from ("ab", "c")."""
    return b"".join(len(part.encode()).to_bytes(4) + part.encode() for part in place)


def _blob(sealed: str) -> bytes:
    try:
        blob = base64.b64decode(sealed, validate=True)
    except (ValueError, binascii.Error):
        blob = b""
    if len(blob) < _HEAD_BYTES or blob[: len(_VERSION)] != _VERSION:
        raise SecretError(
            "SECRET-n5Wk", "a stored secret is damaged: it does not have the form in which secrets are sealed"
        )
    return blob


def _from_base64(text: str) -> bytes:
    return base64.b64decode(
        text.rstrip("=").replace("-", "+").replace("_", "/") + "=" * (-len(text.rstrip("=")) % 4), validate=True
    )
