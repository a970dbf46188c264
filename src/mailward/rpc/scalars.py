"""Scalar values of JSON, of paths and of query strings as protobuf has them."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from mailward.rpc.json_strings import LongString, from_base64

_F = FieldDescriptor


class Unreadable(Exception):
    """The value is none of its type. The text says why and never holds the value, which may be a secret."""


#: Turns a decoded JSON value into what a message takes; raises Unreadable.
Read = Callable[[Any], Any]

_BOUNDS = {
    _F.CPPTYPE_INT32: (-(1 << 31), (1 << 31) - 1),
    _F.CPPTYPE_UINT32: (0, (1 << 32) - 1),
    _F.CPPTYPE_INT64: (-(1 << 63), (1 << 63) - 1),
    _F.CPPTYPE_UINT64: (0, (1 << 64) - 1),
}
#: What people call the types.
KINDS = {
    _F.CPPTYPE_INT32: "int32",
    _F.CPPTYPE_UINT32: "uint32",
    _F.CPPTYPE_INT64: "int64",
    _F.CPPTYPE_UINT64: "uint64",
    _F.CPPTYPE_DOUBLE: "double",
    _F.CPPTYPE_FLOAT: "float",
    _F.CPPTYPE_BOOL: "bool",
    _F.CPPTYPE_ENUM: "enum",
    _F.CPPTYPE_STRING: "string",
    _F.CPPTYPE_MESSAGE: "message",
}


def scalar_reader(field: FieldDescriptor) -> Read:
    """Return the reader for one value of `field`, which is of a scalar or enum type."""
    if field.cpp_type in _BOUNDS:
        return _int_reader(*_BOUNDS[field.cpp_type])
    if field.cpp_type == _F.CPPTYPE_BOOL:
        return read_bool
    if field.cpp_type == _F.CPPTYPE_ENUM:
        return _enum_reader(field)
    if field.cpp_type == _F.CPPTYPE_STRING:
        return read_bytes if field.type == _F.TYPE_BYTES else read_string
    return read_float


def read_string(value: Any) -> str:
    """Text without NUL, which no database column here could hold, and without half a surrogate pair."""
    if type(value) is LongString:
        try:
            value = value.text()
        except ValueError:
            raise Unreadable("no text") from None
    if type(value) is not str:
        raise Unreadable(f"got {json_kind(value)}")
    if "\0" in value:
        raise Unreadable("U+0000 is not allowed")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise Unreadable("half a surrogate pair is no character") from None
    return value


def read_bool(value: Any) -> bool:
    if value is True or value is False:
        return bool(value)
    raise Unreadable(f"got {json_kind(value)}")


def read_bytes(value: Any) -> bytes:
    """Base64 in the standard or the URL-safe alphabet, padded or not."""
    try:
        if type(value) is LongString:
            return value.octets()
        if type(value) is str:
            return from_base64(value)
    except ValueError:
        raise Unreadable("no base64") from None
    raise Unreadable(f"got {json_kind(value)}")


def read_float(value: Any) -> float:
    if isinstance(value, str):
        if value in _SPECIAL_FLOATS:
            return float(value)
        if not _NUMBER.fullmatch(value):
            raise Unreadable("no number")
        return float(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    raise Unreadable(f"got {json_kind(value)}")


_SPECIAL_FLOATS = frozenset({"NaN", "Infinity", "-Infinity"})
# Exponents of four digits and more would make a number that takes minutes to write out.
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,99})(?:\.[0-9]{1,99})?(?:[eE][+-]?[0-9]{1,3})?")


def _int_reader(low: int, high: int) -> Read:
    def read(value: Any) -> int:
        number = value if type(value) is int else _whole(value)
        if low <= number <= high:
            return number
        raise Unreadable("out of range")

    return read


def _whole(value: Any) -> int:
    """Return the integer that "10", 1.0, "1.0" or 1e2 is."""
    if type(value) is float:
        if not value.is_integer():
            raise Unreadable("not a whole number")
        return int(value)
    if type(value) is not str:
        raise Unreadable(f"got {json_kind(value)}")
    if not _NUMBER.fullmatch(value):
        raise Unreadable("no number")
    mantissa, _, exponent = value.lower().partition("e")
    digits, _, fraction = mantissa.partition(".")
    power = int(exponent or "0") - len(fraction)
    number = int(digits + fraction)
    if power >= 0:
        return number * int(10**power)
    whole, rest = divmod(abs(number), int(10**-power))
    if rest:
        raise Unreadable("not a whole number")
    return -whole if value[0] == "-" else whole


def _enum_reader(field: FieldDescriptor) -> Read:
    """Read a name, or a number; a number needs no name, since newer clients may know more of them."""
    assert field.enum_type is not None
    numbers = {value.name: value.number for value in field.enum_type.values}
    read_number = _int_reader(*_BOUNDS[_F.CPPTYPE_INT32])

    def read(value: Any) -> int:
        if type(value) is str:
            number = numbers.get(value)
            if number is None:
                raise UnknownName("no value of this enum has that name")
            return number
        return int(read_number(value))

    return read


class UnknownName(Unreadable):
    """A name that the enum does not have; where unknown fields are ignored, so is this."""


_TIMESTAMP = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_YEAR_1, _YEAR_9999 = -62_135_596_800, 253_402_300_799


def read_timestamp(value: Any) -> tuple[int, int]:
    """Return (seconds since the epoch, nanoseconds) of RFC 3339 text."""
    parts = _TIMESTAMP.fullmatch(value) if type(value) is str else None
    if parts is None:
        raise Unreadable("no RFC 3339 time like 2030-01-31T12:00:00Z")
    try:
        since = datetime.fromisoformat(parts[1] + parts[3].replace("Z", "+00:00")) - _EPOCH
    except ValueError:
        raise Unreadable("no such moment") from None
    seconds = since.days * 86_400 + since.seconds
    if not _YEAR_1 <= seconds <= _YEAR_9999:  # The offset may lead out of the calendar.
        raise Unreadable("no such moment")
    return seconds, int((parts[2] or "").ljust(9, "0"))


_DURATION = re.compile(r"(-?)(\d{1,12})(?:\.(\d{1,9}))?s", re.ASCII)


def read_duration(value: Any) -> tuple[int, int]:
    """Return (seconds, nanoseconds) of text like "90.5s"; both have the sign."""
    parts = _DURATION.fullmatch(value) if type(value) is str else None
    if parts is None or int(parts[2]) > 315_576_000_000:
        raise Unreadable("no duration like 90.5s")
    sign = -1 if parts[1] else 1
    return sign * int(parts[2]), sign * int((parts[3] or "").ljust(9, "0"))


def timestamp_text(seconds: int, nanos: int) -> str:
    """Return RFC 3339 in UTC with 0, 3, 6 or 9 decimals. Raises ValueError outside the years 1 to 9999."""
    return f"{_second(seconds)}{_fraction(nanos)}Z"


@lru_cache(maxsize=1024)  # Rows of one list are often of the same seconds, and this is a quarter of writing one.
def _second(seconds: int) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat()[:19]
    except (OverflowError, OSError):
        raise ValueError("timestamp out of range") from None


def duration_text(seconds: int, nanos: int) -> str:
    """Return e.g. "0s", "90.500s"."""
    sign = "-" if seconds < 0 or nanos < 0 else ""
    return f"{sign}{abs(seconds)}{_fraction(abs(nanos))}s"


def _fraction(nanos: int) -> str:
    if nanos == 0:
        return ""
    if nanos % 1_000_000 == 0:
        return f".{nanos // 1_000_000:03d}"
    return f".{nanos // 1000:06d}" if nanos % 1000 == 0 else f".{nanos:09d}"


def json_kind(value: Any) -> str:
    """Name the type of a decoded JSON value, without the value."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a bool"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str | LongString):
        return "a string"
    return "an array" if type(value) is list else "an object"
