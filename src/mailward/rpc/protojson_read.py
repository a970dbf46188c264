"""JSON into messages, by the rules of protojson; one table of readers for each message type."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, cast

from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.timestamp_pb2 import Timestamp

from mailward.rpc.json_strings import LongString, take_out
from mailward.rpc.scalars import (
    KINDS,
    Read,
    UnknownName,
    Unreadable,
    json_kind,
    read_duration,
    read_timestamp,
    scalar_reader,
)


class JsonFault(Exception):
    """The text is no JSON, or no JSON of this message. Its own text never repeats what was sent."""

    def __init__(self, message: str, rule: str, pointer: str = "") -> None:
        """`rule`: "malformed_json", "unknown_field", "duplicate_field" or "invalid_value". `pointer`: RFC 6901."""
        super().__init__(message)
        self.message = message
        self.rule = rule
        self.pointer = pointer


def parse(message_class: type[Message], body: bytes, *, refuse_unknown: bool = False) -> Message:
    """Return the message that `body` holds; an empty body is an empty message. Raises JsonFault and nothing else.

    What follows the first JSON value is not looked at. `refuse_unknown`: fields and enum names that the message does
    not know are faults; otherwise they are ignored.
    """
    return _parse(message_class, _decode(body, _DECODER), refuse_unknown)


def parse_large(message_class: type[Message], blocks: Iterable[bytearray], *, refuse_unknown: bool = False) -> Message:
    """As `parse`, for a body in blocks, of which no more than one is kept beside what is read from it."""
    text, long = take_out(blocks)
    return _parse(message_class, _decode(text, _decoder(long)), refuse_unknown)


def _parse(message_class: type[Message], value: Any, refuse_unknown: bool) -> Message:
    if value is _NOTHING:
        return message_class()
    read = _reader(cast(Descriptor, message_class.DESCRIPTOR), refuse_unknown)
    try:
        return read(value)
    except Unreadable as fault:
        raise JsonFault(f"proto: unexpected token: the body must be an object, {fault}", "malformed_json") from None
    except RecursionError:
        raise JsonFault("proto: nested too deeply", "malformed_json") from None


def set_from_text(message: Message, field: FieldDescriptor, text: str) -> None:
    """Set `field` (scalar, enum, Timestamp or Duration; repeated: add) from a path or a query. Raises Unreadable."""
    name = field.name
    if field.message_type is not None:
        known = _WELL_KNOWN.get(field.message_type.full_name)
        if known is None or field.is_repeated:
            raise Unreadable("this field cannot be given here")
        getattr(message, name).CopyFrom(known(text))
        return
    value: Any = text
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        value = {"true": True, "1": True, "false": False, "0": False}.get(text.lower(), text)
    elif field.enum_type is not None and re.fullmatch("[0-9]{1,10}", text, re.ASCII):
        value = int(text)
        if value not in field.enum_type.values_by_number:
            raise UnknownName("no value of this enum has that number")
    converted = scalar_reader(field)(value)
    if field.is_repeated:
        getattr(message, name).append(converted)
    else:
        setattr(message, name, converted)


class _Object(list[tuple[str, Any]]):
    """A JSON object as its pairs, in order and with repetitions. Arrays are plain lists."""

    __slots__ = ()


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_Object, parse_constant=_refuse_constant)


def _decoder(long: Mapping[str, LongString]) -> json.JSONDecoder:
    """Return a decoder that knows the words that stand for `long` strings."""

    def put_back(pairs: list[tuple[str, Any]]) -> _Object:
        return _Object([(key, long.get(value, value) if type(value) is str else value) for key, value in pairs])

    return json.JSONDecoder(object_pairs_hook=put_back, parse_constant=_refuse_constant)


_START = re.compile(r"[ \t\n\r]*")
_NOTHING = object()


def _decode(body: bytes | bytearray, decoder: json.JSONDecoder) -> Any:
    try:
        text = body.decode()
        start = _START.match(text)
        assert start is not None
        if start.end() == len(text):
            return _NOTHING
        return decoder.raw_decode(text, start.end())[0]
    except UnicodeDecodeError as error:
        raise JsonFault(f"malformed JSON: byte {error.start} is not UTF-8", "malformed_json") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}:{error.colno}"
        raise JsonFault(f"malformed JSON ({where}): {error.msg}", "malformed_json") from None
    except RecursionError:
        raise JsonFault("malformed JSON: nested too deeply", "malformed_json") from None
    except ValueError:  # NaN and the like, or an integer of thousands of digits.
        raise JsonFault("malformed JSON: a number that JSON or we do not know", "malformed_json") from None


class _Field(NamedTuple):
    name: str
    read: Read
    kind: str
    oneof: str  #: "" outside a oneof
    takes_null: bool


#: Turns a decoded JSON value into a message. Raises Unreadable if it is no object, JsonFault for what is in it.
_MessageReader = Callable[[Any], Message]

_readers: dict[tuple[str, bool], _MessageReader] = {}


def _reader(descriptor: Descriptor, refuse_unknown: bool) -> _MessageReader:
    known = _readers.get((descriptor.full_name, refuse_unknown))
    if known is None:
        known = _readers[descriptor.full_name, refuse_unknown] = _make_reader(descriptor, refuse_unknown)
    return known


def _make_reader(descriptor: Descriptor, refuse_unknown: bool) -> _MessageReader:
    if descriptor.full_name in _WELL_KNOWN:
        return _WELL_KNOWN[descriptor.full_name]
    if descriptor.file.package == "google.protobuf":
        return _by_json_format(GetMessageClass(descriptor))
    message_class = GetMessageClass(descriptor)
    fields: dict[str, _Field] = {}

    def read(pairs: Any) -> Message:
        if type(pairs) is not _Object:
            raise Unreadable(f"got {json_kind(pairs)}")
        values: dict[str, Any] = {}
        oneofs: set[str] = set()
        for key, value in pairs:
            field = fields.get(key)
            if field is None:
                if refuse_unknown:
                    raise JsonFault("this field does not exist", "unknown_field", _pointer(key))
                continue
            if value is None and not field.takes_null:
                continue
            name = field.name
            if name in values:
                raise JsonFault(f'proto: duplicate field "{key}"', "duplicate_field", _pointer(key))
            if field.oneof:
                if field.oneof in oneofs:
                    raise JsonFault(
                        f'proto: field "{key}": oneof {field.oneof} is already set', "duplicate_field", _pointer(key)
                    )
                oneofs.add(field.oneof)
            try:
                values[name] = field.read(value)
            except UnknownName as fault:
                if refuse_unknown:
                    raise _invalid(field, key, fault) from None
            except Unreadable as fault:
                raise _invalid(field, key, fault) from None
            except JsonFault as fault:
                raise JsonFault(fault.message, fault.rule, _pointer(key) + fault.pointer) from None
        return message_class(**values)

    # Filled on first use, not before: a message may hold itself.
    def read_first(pairs: Any) -> Message:
        if not fields:
            fields.update(_fields(descriptor, refuse_unknown))
            _readers[descriptor.full_name, refuse_unknown] = read
        return read(pairs)

    return read_first


def _invalid(field: _Field, key: str, fault: Unreadable) -> JsonFault:
    return JsonFault(
        f"proto: invalid value for {field.kind} field {key}: {fault}", "invalid_value", _pointer(key) + _inner(fault)
    )


def _inner(fault: Unreadable) -> str:
    """Return the pointer within a list or map, which the readers below put beside the text."""
    return str(fault.args[1]) if len(fault.args) > 1 else ""


def _pointer(key: str) -> str:
    """Return the pointer to `key`, which is the caller's: it may be long, or hold half a surrogate pair."""
    shown = key if len(key) <= 200 else key[:200] + "…"
    return "/" + shown.encode(errors="replace").decode().replace("~", "~0").replace("/", "~1")


def _fields(descriptor: Descriptor, refuse_unknown: bool) -> dict[str, _Field]:
    """Return the fields by both of their names."""
    found: dict[str, _Field] = {}
    for field in descriptor.fields:
        oneof = field.containing_oneof
        entry = _Field(
            name=field.name,
            read=_field_reader(field, refuse_unknown),
            kind=KINDS[field.cpp_type] if field.type != FieldDescriptor.TYPE_BYTES else "bytes",
            oneof="" if oneof is None else oneof.name,
            takes_null=field.message_type is not None and field.message_type.full_name == "google.protobuf.Value",
        )
        found[field.name] = found[field.json_name] = entry
    return found


def _field_reader(field: FieldDescriptor, refuse_unknown: bool) -> Read:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return _map_reader(field.message_type, refuse_unknown)
    one = scalar_reader(field) if field.message_type is None else _lazy(field.message_type, refuse_unknown)
    return _list_reader(one, refuse_unknown) if field.is_repeated else one


def _lazy(descriptor: Descriptor, refuse_unknown: bool) -> Read:
    return lambda value: _reader(descriptor, refuse_unknown)(value)


def _list_reader(one: Read, refuse_unknown: bool) -> Read:
    def read(values: Any) -> list[Any]:
        if type(values) is not list:
            raise Unreadable(f"got {json_kind(values)}")
        items: list[Any] = []
        for index, value in enumerate(values):
            try:
                items.append(one(value))
            except UnknownName as fault:
                if refuse_unknown:
                    raise Unreadable(fault.args[0], f"/{index}") from None
            except Unreadable as fault:
                raise Unreadable(fault.args[0], f"/{index}") from None
            except JsonFault as fault:
                raise JsonFault(fault.message, fault.rule, f"/{index}{fault.pointer}") from None
        return items

    return read


def _map_reader(entry: Descriptor, refuse_unknown: bool) -> Read:
    key_field, value_field = entry.fields_by_name["key"], entry.fields_by_name["value"]
    if key_field.cpp_type != FieldDescriptor.CPPTYPE_STRING or value_field.message_type is not None:
        raise NotImplementedError(f"{entry.full_name}: only maps from text to scalars are read")
    read_key, read_value = scalar_reader(key_field), scalar_reader(value_field)

    def read(pairs: Any) -> dict[str, Any]:
        if type(pairs) is not _Object:
            raise Unreadable(f"got {json_kind(pairs)}")
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                raise JsonFault("proto: duplicate map key", "duplicate_field", _pointer(key))
            try:
                found[read_key(key)] = read_value(value)
            except Unreadable as fault:
                raise Unreadable(fault.args[0], _pointer(key)) from None
        return found

    return read


def _read_timestamp(value: Any) -> Message:
    seconds, nanos = read_timestamp(value)
    return Timestamp(seconds=seconds, nanos=nanos)


def _read_duration(value: Any) -> Message:
    seconds, nanos = read_duration(value)
    return Duration(seconds=seconds, nanos=nanos)


_WELL_KNOWN: dict[str, _MessageReader] = {
    "google.protobuf.Timestamp": _read_timestamp,
    "google.protobuf.Duration": _read_duration,
}


def _by_json_format(message_class: type[Message]) -> _MessageReader:
    """Leave the rarer well-known types to protobuf itself."""

    def read(value: Any) -> Message:
        try:
            return json_format.ParseDict(_plain(value), message_class())
        except (json_format.Error, ValueError, TypeError, OverflowError):
            raise Unreadable(f"no {message_class.DESCRIPTOR.name}") from None

    return read


def _plain(value: Any) -> Any:
    if type(value) is _Object:
        return {key: _plain(inner) for key, inner in value}
    if type(value) is LongString:
        return value.text()
    return [_plain(inner) for inner in value] if type(value) is list else value
