"""Between events and what is stored of them: a wire name and a payload of JSON, with the wire's keys (spec 3.9)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, NewType, TypeVar

Sealed = NewType("Sealed", str)
"""A secret as stored: base64 of what `secretbox` sealed. Says nothing to whoever lacks the master key."""

E = TypeVar("E")


@dataclass(frozen=True, slots=True)
class Form:
    """How one field looks in a payload, where that is not the value itself."""

    write: Callable[[Any], Any]
    read: Callable[[Any], Any]


def sealed_form(key_label: str) -> Form:
    """Return the form in which ZITADEL shows an encrypted value.

    Algorithm and KeyID are labels that its clients compare; cipher and key id of ours are inside "Crypted".
    """
    return Form(
        lambda sealed: {"Algorithm": "aes", "Crypted": sealed, "CryptoType": 0, "KeyID": key_label},
        lambda value: Sealed(str(value["Crypted"])),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Codec(Generic[E]):
    """Writes and reads one family of events, which are dataclasses."""

    types: Mapping[str, type[E]]  #: by wire name; a name is for ever
    keys: Mapping[str, str]  #: field -> key in the payload, in the order of the keys
    partial: tuple[type[E], ...]  #: say only what changed; there "" and false are what it changed to
    forms: Mapping[str, Form] = field(default_factory=dict)  #: by field

    def type_of(self, event: E) -> str:
        """Return the wire name, e.g. "instance.smtp.config.added"."""
        return next(name for name, cls in self.types.items() if cls is type(event))

    def to_payload(self, event: E) -> dict[str, Any]:
        """Return the JSON-able payload, keys sorted. Zero values are left out; of a partial event only None is."""
        partial = isinstance(event, self.partial)
        payload = {}
        for name, key in self.keys.items():
            value = getattr(event, name, None)
            if value is not None and (partial or value):
                form = self.forms.get(name)
                payload[key] = form.write(value) if form else value
        return payload

    def from_payload(self, type: str, payload: Mapping[str, Any]) -> E | None:
        """Return the event that was stored as `type` and `payload`, or None when it is none of this family's.

        Raises ValueError when the payload does not fit its type: then the log was written by something else.
        """
        cls = self.types.get(type)
        if cls is None:
            return None
        fields: Mapping[str, Any] = cls.__dataclass_fields__  # type: ignore[attr-defined]
        values = {
            name: self.forms[name].read(payload[key]) if name in self.forms else payload[key]
            for name, key in self.keys.items()
            if name in fields and key in payload
        }
        try:
            return cls(**values)
        except TypeError as error:
            raise ValueError(f"an event {type!r} lacks a field: {error}") from None
