"""What can be set for an instance as a whole, its defaults, and the events that say so."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

from mailward.eventstore.event import NewEvent
from mailward.settings.languages import DEFAULT_LANGUAGE

AGGREGATE_TYPE = "instance"


@dataclass(frozen=True, slots=True, kw_only=True)
class Language:
    """The language of those who ask for none."""

    ADDED: ClassVar[str] = "instance.default.language.set"
    CHANGED: ClassVar[str] = ADDED

    language: str = DEFAULT_LANGUAGE  #: one of languages.LANGUAGES

    @property
    def name(self) -> str:
        return "language"


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainPolicy:
    """What domains in addresses and login names must fulfil. Ours is only the last of the three."""

    ADDED: ClassVar[str] = "instance.policy.domain.added"
    CHANGED: ClassVar[str] = "instance.policy.domain.changed"

    user_login_must_be_domain: bool = False
    validate_org_domains: bool = False
    smtp_sender_address_matches_instance_domain: bool = False

    @property
    def name(self) -> str:
        return "domain_policy"


@dataclass(frozen=True, slots=True, kw_only=True)
class NotificationPolicy:
    """Which notifications users get. Kept for whoever reads it; we send none by ourselves."""

    ADDED: ClassVar[str] = "instance.policy.notification.added"
    CHANGED: ClassVar[str] = "instance.policy.notification.changed"

    password_change: bool = True

    @property
    def name(self) -> str:
        return "notification_policy"


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretGenerator:
    """How one kind of generated secret looks. Kept for whoever reads it; our own keys are always as strong."""

    ADDED: ClassVar[str] = "instance.secret.generator.added"
    CHANGED: ClassVar[str] = "instance.secret.generator.changed"

    generator_type: int = 0  #: a number of ZITADEL's SecretGeneratorType; 0: of signing keys, which has no name there
    length: int = 0  #: characters
    expiry: int = 0  #: nanoseconds; 0: without end
    include_lower_letters: bool = False
    include_upper_letters: bool = False
    include_digits: bool = False
    include_symbols: bool = False

    @property
    def name(self) -> str:
        return f"secret_generator.{self.generator_type}"


Value = Language | DomainPolicy | NotificationPolicy | SecretGenerator

_HOUR_NS = 3_600 * 1_000_000_000


def _code(generator_type: int, length: int, expiry: int, *, letters: bool = True, lower: bool = False) -> Value:
    return SecretGenerator(
        generator_type=generator_type,
        length=length,
        expiry=expiry,
        include_lower_letters=lower,
        include_upper_letters=letters,
        include_digits=True,
    )


#: What a new instance has.
DEFAULTS: tuple[Value, ...] = (
    Language(),
    _code(1, 6, 72 * _HOUR_NS),  # init code
    _code(2, 6, _HOUR_NS),  # verify email
    _code(3, 6, _HOUR_NS),  # verify phone
    _code(4, 6, _HOUR_NS),  # password reset
    _code(5, 12, _HOUR_NS, lower=True),  # passwordless
    _code(6, 64, 0, lower=True),  # secret of an application
    _code(7, 8, _HOUR_NS // 12, letters=False),  # one-time password by SMS
    _code(8, 8, _HOUR_NS // 12, letters=False),  # one-time password by email
    _code(0, 36, 0, lower=True),  # signing key
    DomainPolicy(),
    NotificationPolicy(),
)
#: Every type of event of this room.
TYPES: Mapping[str, type[Value]] = {
    name: kind
    for kind in (Language, DomainPolicy, NotificationPolicy, SecretGenerator)
    for name in (kind.ADDED, kind.CHANGED)
}
_IDENTITY = "generator_type"  #: the field that says which one of its kind it is: in every payload


def added(value: Value) -> NewEvent:
    """Return the event by which `value` is there. Zero values are left out."""
    return NewEvent(value.ADDED, {_key(name): item for name, item in _items(value) if item})


def changed(old: Value, new: Value) -> NewEvent | None:
    """Return the event that makes `old` to `new`: only what differs, zero values included. None: nothing does."""
    before = dict(_items(old))
    payload = {_key(name): item for name, item in _items(new) if item != before[name]}
    if not payload:
        return None
    return NewEvent(new.CHANGED, payload | {_key(name): item for name, item in _items(new) if name == _IDENTITY})


def blank_of(type: str, payload: Mapping[str, Any]) -> Value | None:
    """Return the value that an event is about, with nothing set; None when the event is none of this room.

    So was a value before its `added` event, which leaves out what is zero.
    """
    kind = TYPES.get(type)
    if kind is None:
        return None
    zeros = {field.name: _zero(field.default) for field in fields(kind)}
    return kind(**zeros | {_IDENTITY: payload.get(_key(_IDENTITY), 0)} if kind is SecretGenerator else zeros)


def after(value: Value, payload: Mapping[str, Any]) -> Value:
    """Return `value` after an event of its own with this payload."""
    return replace(value, **{name: payload[_key(name)] for name in _names(value) if _key(name) in payload})


def to_stored(value: Value) -> dict[str, Any]:
    """Return all fields of `value`, JSON-able."""
    return dict(_items(value))


def from_stored(name: str, stored: Mapping[str, Any]) -> Value:
    """Return the value that was stored under `name`."""
    return _STORED[name.partition(".")[0]](**stored)


_STORED: Mapping[str, type[Value]] = {
    "language": Language,
    "domain_policy": DomainPolicy,
    "notification_policy": NotificationPolicy,
    "secret_generator": SecretGenerator,
}


def _names(value: Value) -> list[str]:
    return sorted(field.name for field in fields(value))


def _items(value: Value) -> list[tuple[str, Any]]:
    return [(name, getattr(value, name)) for name in _names(value)]


def _zero(default: Any) -> Any:
    return type(default)()


def _key(name: str) -> str:
    """Return the key of a field in a payload: "include_digits" → "includeDigits"."""
    first, *others = name.split("_")
    return first + "".join(other.capitalize() for other in others)
