"""Any message of a class, for hypothesis."""

from typing import Any, cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import strategies as st

_F = FieldDescriptor
_RANGES = {
    _F.CPPTYPE_INT32: (-(1 << 31), (1 << 31) - 1),
    _F.CPPTYPE_UINT32: (0, (1 << 32) - 1),
    _F.CPPTYPE_INT64: (-(1 << 63), (1 << 63) - 1),
    _F.CPPTYPE_UINT64: (0, (1 << 64) - 1),
}
_TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)


def values(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    if field.message_type is not None:
        return messages(GetMessageClass(field.message_type))
    if field.enum_type is not None:
        return st.sampled_from([value.number for value in field.enum_type.values] + [77])
    if field.type == _F.TYPE_BYTES:
        return st.binary(max_size=8)
    if field.cpp_type in _RANGES:
        return st.integers(*_RANGES[field.cpp_type])
    if field.cpp_type == _F.CPPTYPE_DOUBLE:
        return st.floats(allow_nan=False, allow_infinity=False)
    return st.booleans() if field.cpp_type == _F.CPPTYPE_BOOL else _TEXT


def messages(message_class: type[Message]) -> st.SearchStrategy[Message]:
    """Any message of the class, valid or not by the rules."""
    if message_class.DESCRIPTOR.full_name == "google.protobuf.Timestamp":
        seconds = st.integers(-62_135_596_800, 253_402_300_799)
        return st.builds(message_class, seconds=seconds, nanos=st.integers(0, 999_999_999))
    fields: dict[str, st.SearchStrategy[Any]] = {}
    for field in cast(Descriptor, message_class.DESCRIPTOR).fields:
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            fields[field.name] = st.dictionaries(_TEXT, _TEXT, max_size=2)
        elif field.is_repeated:
            fields[field.name] = st.lists(values(field), max_size=2)
        else:
            fields[field.name] = values(field)
    return st.fixed_dictionaries({}, optional=fields).map(lambda chosen: message_class(**chosen))
