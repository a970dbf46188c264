"""Which kinds of events and aggregates there are, and what they are called (spec 7.2, 7.3)."""

from mailward.access import events as access
from mailward.api.texts import translate
from mailward.delivery import operators
from mailward.proto.zitadel import event_pb2
from mailward.proto.zitadel.message_pb2 import LocalizedMessage
from mailward.provider import events as email
from mailward.provider import sms_events as sms
from mailward.settings import values as settings

_OF_ACCESS = tuple(
    name for word, name in vars(access).items() if word.isupper() and isinstance(name, str) and "." in name
)
#: All that this server writes, sorted, as ListEventTypes lists them.
EVENT_TYPES = tuple(sorted({*email.TYPES, *sms.TYPES, *settings.TYPES, *operators.EVENT_TYPES, *_OF_ACCESS}))
AGGREGATE_TYPES = ("instance", operators.AGGREGATE_TYPE, "user")

#: Where ZITADEL has a text. For the others its clients see the key.
_EVENTS = {
    "instance.smtp.config.added": "SMTP configuration added",
    "instance.smtp.config.changed": "SMTP configuration changed",
    "instance.smtp.config.activated": "SMTP configuration activated",
    "instance.smtp.config.deactivated": "SMTP configuration deactivated",
    "instance.smtp.config.password.changed": "Password of SMTP configuration changed",
    "instance.smtp.config.removed": "SMTP configuration removed",
}
_AGGREGATES = {"instance": "Instance", "user": "User"}


def event_type(type: str, language: str) -> event_pb2.EventType:
    """Return a kind of event with its name in `language`; the key where there is no name."""
    return event_pb2.EventType(type=type, localized=_localized(f"EventTypes.{type}", _EVENTS.get(type), language))


def aggregate_type(type: str, language: str) -> event_pb2.AggregateType:
    """Return a kind of aggregate with its name in `language`; the key where there is no name."""
    localized = _localized(f"AggregateTypes.{type}", _AGGREGATES.get(type), language)
    return event_pb2.AggregateType(type=type, localized=localized)


def _localized(key: str, name: str | None, language: str) -> LocalizedMessage:
    return LocalizedMessage(key=key, localized_message=translate(name, language) if name else key)
