"""The rules in validate.proto as closures, one for each message, with the texts of protoc-gen-validate."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor, OneofDescriptor
from google.protobuf.message import Message

from mailward.proto.validate import validate_pb2 as rules_pb2
from mailward.rpc.emailrule import email_fault


class Violation(Exception):
    """The first rule that a message breaks."""

    def __init__(self, message: str, rule: str, pointer: str) -> None:
        """`message`: e.g. "invalid AddSMTPConfigRequest.Host: value length must be ...".

        `rule`: a word for programs, e.g. "length" or "required". `pointer`: RFC 6901, proto field names, e.g. "/to/0".
        """
        super().__init__(message)
        self.message = message
        self.rule = rule
        self.pointer = pointer


#: Raises Violation if the message breaks a rule. Fields are checked in the order of their declaration, oneofs last.
Validator = Callable[[Message], None]

#: Returns None for a value that is right, otherwise (rule, reason).
_Check = Callable[[Any], tuple[str, str] | None]

_validators: dict[str, Validator] = {}


def validator(descriptor: Descriptor) -> Validator:
    """Return the validator of the messages that `descriptor` describes; it is compiled once."""
    known = _validators.get(descriptor.full_name)
    if known is None:
        known = _validators[descriptor.full_name] = _compile(descriptor)
    return known


def _compile(descriptor: Descriptor) -> Validator:
    plain = [field for field in descriptor.fields if _real_oneof(field) is None]
    steps = [step for field in plain if (step := _field_step(field)) is not None]
    steps += [step for oneof in descriptor.oneofs if (step := _oneof_step(oneof)) is not None]

    def validate(message: Message) -> None:
        for step in steps:
            step(message)

    return validate


def _real_oneof(field: FieldDescriptor) -> OneofDescriptor | None:
    """Return the oneof that `field` is a member of; `optional` in proto3 makes one that does not count."""
    oneof = field.containing_oneof
    return None if oneof is None or (len(oneof.fields) == 1 and oneof.name == f"_{field.name}") else oneof


def _oneof_step(oneof: OneofDescriptor) -> Validator | None:
    if _real_oneof(oneof.fields[0]) is None:
        return None
    members = {field.name: member for field in oneof.fields if (member := _field_step(field)) is not None}
    required = oneof.GetOptions().Extensions[rules_pb2.required]
    if not members and not required:
        return None
    text = f"invalid {oneof.containing_type.name}.{_go_name(oneof.name)}: value is required"
    name = oneof.name

    def step(message: Message) -> None:
        chosen = message.WhichOneof(name)
        if chosen is None:
            if required:
                raise Violation(text, "required", "")
        elif chosen in members:
            members[chosen](message)

    return step


def _field_step(field: FieldDescriptor) -> Validator | None:
    """Return what checks `field` within its message, or None when there is nothing to check."""
    rules = field.GetOptions().Extensions[rules_pb2.rules]
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return _map_step(field, rules.map)
    if field.is_repeated:
        return _repeated_step(field, rules)
    if field.message_type is not None:
        return _message_step(field, rules)
    checks = _checks(field, rules)
    if not checks:
        return None
    get = attrgetter(field.name)
    name = field.name
    fail = _failure(field)
    if field.has_presence:

        def step_if_set(message: Message) -> None:
            if message.HasField(name):
                for check in checks:
                    if (found := check(get(message))) is not None:
                        raise fail(found)

        return step_if_set

    if len(checks) == 1:
        check = checks[0]

        def step_once(message: Message) -> None:
            if (found := check(get(message))) is not None:
                raise fail(found)

        return step_once

    def step(message: Message) -> None:
        value = get(message)
        for check in checks:
            if (found := check(value)) is not None:
                raise fail(found)

    return step


def _message_step(field: FieldDescriptor, rules: rules_pb2.FieldRules) -> Validator | None:
    assert field.message_type is not None
    checks = _checks(field, rules)
    required = rules.message.required or rules.duration.required
    embedded = None if rules.message.skip or not _has_rules(field.message_type, set()) else field.message_type
    if not checks and not required and embedded is None:
        return None
    get = attrgetter(field.name)
    name = field.name
    fail = _failure(field)

    def step(message: Message) -> None:
        if not message.HasField(name):
            if required:
                raise fail(("required", "value is required"))
            return
        value = get(message)
        for check in checks:
            if (found := check(value)) is not None:
                raise fail(found)
        if embedded is not None:
            _embedded(embedded, value, fail)

    return step


def _repeated_step(field: FieldDescriptor, rules: rules_pb2.FieldRules) -> Validator | None:
    low, high = rules.repeated.min_items, _bound(rules.repeated, "max_items")
    items = _checks(field, rules.repeated.items)
    embedded = field.message_type if field.message_type and _has_rules(field.message_type, set()) else None
    if not low and high is None and not items and embedded is None:
        return None
    get = attrgetter(field.name)
    fail = _failure(field)
    count = _count(low, high, "item")

    def step(message: Message) -> None:
        values = get(message)
        if (found := count(values)) is not None:
            raise fail(found)
        if not items and embedded is None:
            return
        for index, value in enumerate(values):
            for check in items:
                if (found := check(value)) is not None:
                    raise fail(found, f"[{index}]", f"/{index}")
            if embedded is not None:
                _embedded(embedded, value, fail, f"[{index}]", f"/{index}")

    return step


def _map_step(field: FieldDescriptor, rules: rules_pb2.MapRules) -> Validator | None:
    assert field.message_type is not None
    low, high = rules.min_pairs, _bound(rules, "max_pairs")
    keys = _checks(field.message_type.fields_by_name["key"], rules.keys)
    entry = field.message_type.fields_by_name["value"]
    values = _checks(entry, rules.values)
    embedded = entry.message_type if entry.message_type and _has_rules(entry.message_type, set()) else None
    if not low and high is None and not keys and not values and embedded is None:
        return None
    get = attrgetter(field.name)
    fail = _failure(field)
    count = _count(low, high, "pair")

    def step(message: Message) -> None:
        pairs = get(message)
        if (found := count(pairs)) is not None:
            raise fail(found)
        for key, value in pairs.items():
            where = f"[{key}]", "/" + str(key).replace("~", "~0").replace("/", "~1")
            for check in keys:
                if (found := check(key)) is not None:
                    raise fail(found, *where)
            for check in values:
                if (found := check(value)) is not None:
                    raise fail(found, *where)
            if embedded is not None:
                _embedded(embedded, value, fail, *where)

    return step


def _failure(field: FieldDescriptor) -> Callable[..., Violation]:
    assert field.containing_type is not None
    head = f"invalid {field.containing_type.name}.{_go_name(field.name)}"

    def fail(found: tuple[str, str], item: str = "", item_pointer: str = "", inner: str = "") -> Violation:
        return Violation(f"{head}{item}: {found[1]}", found[0], f"/{field.name}{item_pointer}{inner}")

    return fail


def _embedded(
    descriptor: Descriptor, value: Message, fail: Callable[..., Violation], item: str = "", item_pointer: str = ""
) -> None:
    try:
        validator(descriptor)(value)
    except Violation as inner:
        reason = f"embedded message failed validation | caused by: {inner.message}"
        raise fail((inner.rule, reason), item, item_pointer, inner.pointer) from None


def _has_rules(descriptor: Descriptor, seen: set[str]) -> bool:
    """Whether anything within messages of this kind may break a rule."""
    if descriptor.full_name in seen:
        return False
    seen.add(descriptor.full_name)
    if any(oneof.GetOptions().Extensions[rules_pb2.required] for oneof in descriptor.oneofs):
        return True
    return any(
        field.GetOptions().HasExtension(rules_pb2.rules)
        or (field.message_type is not None and _has_rules(field.message_type, seen))
        for field in descriptor.fields
    )


def _go_name(name: str) -> str:
    """Return a field's name in Go: "reply_to_address" → "ReplyToAddress"."""
    return "".join(part[:1].upper() + part[1:] for part in name.split("_"))


def _bound(rules: Message, name: str) -> int | None:
    return getattr(rules, name) if rules.HasField(name) else None


def _count(low: int, high: int | None, unit: str) -> _Check:
    if high is None:
        reason = f"value must contain at least {low} {unit}(s)"
    elif low:
        reason = f"value must contain between {low} and {high} {unit}s, inclusive"
    else:
        reason = f"value must contain no more than {high} {unit}(s)"
    return lambda values: None if low <= len(values) and (high is None or len(values) <= high) else ("count", reason)


def _checks(field: FieldDescriptor, rules: rules_pb2.FieldRules) -> list[_Check]:
    """Return the checks of one value of `field`."""
    match rules.WhichOneof("type"):
        case "string":
            return _string_checks(rules.string)
        case "bytes":
            return _length_checks(rules.bytes, "bytes")
        case "enum":
            return _enum_checks(field, rules.enum)
        case "int32":
            return _range_checks(rules.int32)
        case "uint32":
            return _range_checks(rules.uint32)
        case "duration" if rules.duration.HasField("const"):
            return [_duration_check(rules.duration)]
    return []


def _string_checks(rules: rules_pb2.StringRules) -> list[_Check]:
    checks = _length_checks(rules, "runes")
    if rules.HasField("max_bytes"):
        most = rules.max_bytes
        too_long = ("length", f"value length must be at most {most} bytes")
        # A surrogate cannot occur: the parser of protobuf and ours both refuse it.
        checks.append(lambda value: too_long if len(value) > most or len(value.encode()) > most else None)
    if rules.email:
        checks.append(_email_check)
    return checks


def _email_check(value: str) -> tuple[str, str] | None:
    cause = email_fault(value)
    return None if cause is None else ("email", f"value must be a valid email address | caused by: {cause}")


def _length_checks(rules: rules_pb2.StringRules | rules_pb2.BytesRules, unit: str) -> list[_Check]:
    low, high = _bound(rules, "min_len"), _bound(rules, "max_len")
    if low is not None and high is not None:
        found = ("length", f"value length must be between {low} and {high} {unit}, inclusive")
        least, most = low, high
        return [lambda value: None if least <= len(value) <= most else found]
    if high is not None:
        most, found = high, ("length", f"value length must be at most {high} {unit}")
        return [lambda value: None if len(value) <= most else found]
    if low:
        least, found = low, ("length", f"value length must be at least {low} {unit}")
        return [lambda value: None if len(value) >= least else found]
    return []


def _enum_checks(field: FieldDescriptor, rules: rules_pb2.EnumRules) -> list[_Check]:
    assert field.enum_type is not None
    names = {value.number: value.name for value in field.enum_type.values}
    checks: list[_Check] = []
    if rules.not_in:
        forbidden = frozenset(rules.not_in)
        shown = " ".join(names.get(number, str(number)) for number in rules.not_in)
        listed = ("not_allowed", f"value must not be in list [{shown}]")
        checks.append(lambda value: listed if value in forbidden else None)
    if rules.defined_only:
        defined = frozenset(names)
        unknown = ("not_defined", "value must be one of the defined enum values")
        checks.append(lambda value: None if value in defined else unknown)
    return checks


def _range_checks(rules: rules_pb2.Int32Rules | rules_pb2.UInt32Rules) -> list[_Check]:
    low, high = _bound(rules, "gte"), _bound(rules, "lte")
    above, below = _bound(rules, "gt"), _bound(rules, "lt")
    if low is not None and high is not None:
        reason = f"value must be inside range [{low}, {high}]"
    elif low is not None:
        reason = f"value must be greater than or equal to {low}"
    elif high is not None:
        reason = f"value must be less than or equal to {high}"
    elif above is not None:
        reason = f"value must be greater than {above}"
    else:
        reason = f"value must be less than {below}"

    def check(value: int) -> tuple[str, str] | None:
        if (
            (low is not None and value < low)
            or (high is not None and value > high)
            or (above is not None and value <= above)
            or (below is not None and value >= below)
        ):
            return "range", reason
        return None

    return [check]


def _duration_check(rules: rules_pb2.DurationRules) -> _Check:
    wanted = (rules.const.seconds, rules.const.nanos)
    found = ("not_allowed", f"value must equal {rules.const.ToJsonString()}")
    return lambda value: None if (value.seconds, value.nanos) == wanted else found
