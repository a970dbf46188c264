"""Messages into JSON, by the rules of protojson: zero values are left out, 64-bit integers are strings."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any, cast

import orjson
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from mailward.rpc.scalars import duration_text, timestamp_text

_F = FieldDescriptor
#: Turns what a message holds into what orjson takes.
_Write = Callable[[Any], Any]


def write(message: Message, *, proto_names: bool = False) -> bytes:
    """Return `message` as JSON, UTF-8, no blanks. `proto_names`: snake_case as in the .proto file, not camelCase."""
    return orjson.dumps(to_plain(message, proto_names=proto_names))


def to_plain(message: Message, *, proto_names: bool = False) -> Any:
    """Return what `write` writes as dicts, lists and scalars."""
    return _writer(cast(Descriptor, message.DESCRIPTOR), proto_names)(message)


_writers: dict[tuple[str, bool], _Write] = {}


def _writer(descriptor: Descriptor, proto_names: bool) -> _Write:
    known = _writers.get((descriptor.full_name, proto_names))
    if known is None:
        known = _writers[descriptor.full_name, proto_names] = _make_writer(descriptor, proto_names)
    return known


def _make_writer(descriptor: Descriptor, proto_names: bool) -> _Write:
    if descriptor.full_name in _WELL_KNOWN:
        return _WELL_KNOWN[descriptor.full_name]
    if descriptor.file.package == "google.protobuf":
        return lambda message: json_format.MessageToDict(message)
    # Made when a field is first met: a message may hold itself, and most fields of the large ones are never used.
    fields: dict[FieldDescriptor, tuple[str, _Write | None]] = {}

    def write_message(message: Any) -> dict[str, Any]:
        found = {}
        for field, value in message.ListFields():
            try:
                name, convert = fields[field]
            except KeyError:
                name = field.name if proto_names else field.json_name
                convert = _field_writer(field, proto_names)
                fields[field] = (name, convert)
            found[name] = value if convert is None else convert(value)
        return found

    return write_message


def _field_writer(field: FieldDescriptor, proto_names: bool) -> _Write | None:
    """Return None where the value goes into JSON as it is."""
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        key, value = (field.message_type.fields_by_name[name] for name in ("key", "value"))
        one = _one_writer(value, proto_names) or (lambda item: item)
        text = _key_text if key.cpp_type == _F.CPPTYPE_BOOL else str
        return lambda pairs: {text(name): one(pairs[name]) for name in pairs}
    one_writer = _one_writer(field, proto_names)
    if not field.is_repeated:
        return one_writer
    return list if one_writer is None else lambda values: [one_writer(value) for value in values]


def _one_writer(field: FieldDescriptor, proto_names: bool) -> _Write | None:
    if field.message_type is not None:
        return _writer(field.message_type, proto_names)
    if field.enum_type is not None:
        names = {value.number: value.name for value in reversed(field.enum_type.values)}
        return lambda number: names.get(number, number)
    if field.cpp_type in (_F.CPPTYPE_INT64, _F.CPPTYPE_UINT64):
        return str
    if field.type == _F.TYPE_BYTES:
        return lambda raw: base64.b64encode(raw).decode()
    if field.cpp_type in (_F.CPPTYPE_DOUBLE, _F.CPPTYPE_FLOAT):
        return _number
    return None


def _key_text(value: bool) -> str:
    return "true" if value else "false"


def _number(value: float) -> int | float | str:
    """Whole numbers are written without ".0", and those that JSON does not know as text."""
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "Infinity" if value > 0 else "-Infinity"
    return int(value) if value.is_integer() and abs(value) < 1e15 else value


def _write_value(value: Any) -> Any:
    match value.WhichOneof("kind"):
        case "struct_value":
            return _write_struct(value.struct_value)
        case "list_value":
            return _write_list(value.list_value)
        case "number_value":
            return _number(value.number_value)
        case "string_value":
            return value.string_value
        case "bool_value":
            return value.bool_value
    return None


def _write_struct(struct: Any) -> dict[str, Any]:
    return {name: _write_value(struct.fields[name]) for name in sorted(struct.fields)}


def _write_list(values: Any) -> list[Any]:
    return [_write_value(value) for value in values.values]


_WELL_KNOWN: dict[str, _Write] = {
    "google.protobuf.Timestamp": lambda moment: timestamp_text(moment.seconds, moment.nanos),
    "google.protobuf.Duration": lambda span: duration_text(span.seconds, span.nanos),
    "google.protobuf.Struct": _write_struct,
    "google.protobuf.ListValue": _write_list,
    "google.protobuf.Value": _write_value,
}
