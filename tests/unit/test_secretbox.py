"""Secrets at rest: what opens them, what does not, and what they show of themselves."""

import base64
import logging
import os
import pickle
import stat
import traceback
from pathlib import Path

import pytest

from mailward.secretbox import (
    MasterKeyError,
    SecretBox,
    SecretError,
    SecretText,
    load_or_create_master_key,
    parse_master_key,
)

CANARY = "canary-7f3a-horse"
KEY, OTHER = bytes(range(32)), bytes(range(1, 33))
PLACE = ("298765432109876543", "298765432109880000", "password")


def test_what_was_sealed_opens_at_the_same_place() -> None:
    box = SecretBox([KEY])

    assert box.open(box.seal(SecretText(CANARY), *PLACE), *PLACE).reveal() == CANARY


@pytest.mark.parametrize("text", ["", "ü€😀", "x" * 100_000, "\0\r\n", "\ud800"])
def test_any_text_is_kept_as_it_is(text: str) -> None:
    box = SecretBox([KEY])

    assert box.open(box.seal(SecretText(text), *PLACE), *PLACE).reveal() == text


@pytest.mark.parametrize(
    "place",
    [
        ("298765432109876543", "298765432109880001", "password"),
        ("298765432109876543", "298765432109880000", "signing_key"),
        ("298765432109876543", "298765432109880000"),
        ("2987654321098765432", "98765432109880000", "password"),
    ],
)
def test_a_sealed_secret_moved_elsewhere_does_not_open(place: tuple[str, ...]) -> None:
    """Who can write to the database must not make one provider use the password of another."""
    box = SecretBox([KEY])
    sealed = box.seal(SecretText(CANARY), *PLACE)

    with pytest.raises(SecretError, match="another place"):
        box.open(sealed, *place)


def test_the_same_secret_never_looks_the_same() -> None:
    box = SecretBox([KEY])

    assert box.seal(SecretText(CANARY), *PLACE) != box.seal(SecretText(CANARY), *PLACE)


def test_a_retired_key_opens_and_the_current_one_seals() -> None:
    """So a master key is rotated: add the new one in front, seal everything anew, drop the old one."""
    old = SecretBox([KEY]).seal(SecretText(CANARY), *PLACE)
    box = SecretBox([OTHER, KEY])

    assert box.open(old, *PLACE).reveal() == CANARY
    assert not box.is_current(old)
    assert box.is_current(box.seal(SecretText(CANARY), *PLACE))


def test_an_unknown_key_is_named_by_its_id() -> None:
    sealed = SecretBox([KEY]).seal(SecretText(CANARY), *PLACE)

    with pytest.raises(SecretError, match=r"sealed with key [0-9a-f]{16}, which is not in the keyring"):
        SecretBox([OTHER]).open(sealed, *PLACE)


@pytest.mark.parametrize("index", [0, 1, 9, 21, -1])
def test_a_changed_byte_is_noticed(index: int) -> None:
    box = SecretBox([KEY])
    blob = bytearray(base64.b64decode(box.seal(SecretText(CANARY), *PLACE)))
    blob[index] ^= 1

    with pytest.raises(SecretError):
        box.open(base64.b64encode(blob).decode(), *PLACE)


@pytest.mark.parametrize("sealed", ["", "not base64!", "AQ==", "ü"])
def test_what_was_never_sealed_is_refused(sealed: str) -> None:
    with pytest.raises(SecretError):
        SecretBox([KEY]).open(sealed, *PLACE)


def test_an_empty_keyring_is_refused() -> None:
    with pytest.raises(MasterKeyError):
        SecretBox([])


def test_a_key_of_another_length_is_refused() -> None:
    with pytest.raises(MasterKeyError):
        SecretBox([b"short"])


# --- SecretText


def test_a_secret_shows_itself_only_when_asked(caplog: pytest.LogCaptureFixture) -> None:
    secret = SecretText(CANARY)
    logging.getLogger("test").warning("%s %r", secret, {"password": secret})
    try:
        raise ValueError(secret)
    except ValueError:
        shown = traceback.format_exc()

    shown += f"{secret} {secret!r} {secret!s:>20} {[secret]}" + str.format("{}", secret) + caplog.text

    assert CANARY not in shown
    assert secret.reveal() == CANARY


def test_a_secret_is_not_pickled() -> None:
    """Arguments of writes travel to another process some day: sealed, or not at all."""
    with pytest.raises(TypeError, match="seal it first"):
        pickle.dumps(SecretText(CANARY))


def test_secrets_compare_by_content() -> None:
    """A pool of connections must notice a new password."""
    assert SecretText("a") == SecretText("a")
    assert hash(SecretText("a")) == hash(SecretText("a"))
    assert SecretText("a") != SecretText("b")
    assert SecretText("a") != "a"
    assert not SecretText("")


# --- master key


@pytest.mark.parametrize(
    "text",
    [
        KEY.hex(),
        KEY.hex().upper() + "\n",
        base64.b64encode(KEY).decode(),
        base64.b64encode(KEY).decode().rstrip("="),
        base64.urlsafe_b64encode(bytes([255] * 32)).decode(),
    ],
)
def test_a_master_key_is_hex_or_base64(text: str) -> None:
    assert parse_master_key(text) in (KEY, bytes([255] * 32))


@pytest.mark.parametrize("text", ["", "abc", "g" * 64, KEY.hex()[:-2], base64.b64encode(KEY * 2).decode(), "ü" * 32])
def test_anything_else_is_no_master_key(text: str) -> None:
    with pytest.raises(MasterKeyError) as caught:
        parse_master_key(text)
    assert len(text) < 4 or text not in str(caught.value)


def test_a_missing_key_file_is_made_once(tmp_path: Path) -> None:
    path = tmp_path / "master.key"

    key = load_or_create_master_key(path)

    assert len(key) == 32
    assert load_or_create_master_key(path) == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["master.key"]


def test_a_file_that_holds_no_key_is_an_error_and_stays(tmp_path: Path) -> None:
    """Overwriting it would lose what was sealed with it."""
    path = tmp_path / "master.key"
    path.write_text("half a k")

    with pytest.raises(MasterKeyError, match=r"master\.key"):
        load_or_create_master_key(path)
    assert path.read_text() == "half a k"


@pytest.mark.parametrize("content", [b"", b"\xff\xfe"])
def test_an_empty_or_binary_key_file_is_an_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "master.key"
    path.write_bytes(content)

    with pytest.raises(MasterKeyError, match=r"master\.key"):
        load_or_create_master_key(path)


def test_a_key_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MasterKeyError, match="cannot be read or made"):
        load_or_create_master_key(tmp_path)


def test_a_folder_that_is_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MasterKeyError, match="cannot be read or made"):
        load_or_create_master_key(tmp_path / "none" / "master.key")
