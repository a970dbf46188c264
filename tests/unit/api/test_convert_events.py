"""What the events API asks of the log, and what it shows of an event."""

from typing import Any

from google.protobuf.json_format import MessageToDict, ParseDict

from mailward.access.audit import Entry
from mailward.api.convert_events import search_of, shown
from mailward.eventstore.event import RecordedEvent
from mailward.eventstore.search import Search
from mailward.ids import InstanceId
from mailward.proto.zitadel import admin_pb2 as admin

INSTANCE = InstanceId("298765432109876543")
MOMENT_US = 1_700_000_000_123_456
MOMENT = "2023-11-14T22:13:20.123456Z"


def asked(**request: Any) -> Search:
    found = search_of(ParseDict(request, admin.ListEventsRequest()), INSTANCE)
    assert found is not None
    return found


def test_nothing_asked_is_everything_newest_first_up_to_a_thousand() -> None:
    assert asked() == Search(limit=1000)
    assert asked(limit=4_294_967_295, resourceOwner=INSTANCE) == Search(limit=1000)
    assert asked(limit=7, asc=True) == Search(limit=7, newest_first=False)


def test_everything_belongs_to_the_instance() -> None:
    assert search_of(admin.ListEventsRequest(resource_owner="nope"), INSTANCE) is None


def test_from_is_where_to_start_in_the_direction_asked_for() -> None:
    assert (asked(asc=True, **{"from": MOMENT}).after_us, asked(**{"from": MOMENT}).before_us) == (MOMENT_US,) * 2
    assert asked(creationDate=MOMENT) == asked(**{"from": MOMENT})
    assert asked(asc=True, creationDate=MOMENT).before_us is None


def test_a_range_is_open_where_it_is_not_given_and_excludes_both_ends() -> None:
    since, until = asked(range={"since": MOMENT}), asked(range={"until": MOMENT})

    assert (since.after_us, since.before_us) == (MOMENT_US, None)
    assert (until.after_us, until.before_us) == (None, MOMENT_US)
    assert asked(range={}) == asked()


def test_a_date_between_two_microseconds_excludes_neither() -> None:
    between = "2023-11-14T22:13:20.123456500Z"

    wanted = asked(range={"since": between, "until": between})

    assert (wanted.after_us, wanted.before_us) == (MOMENT_US, MOMENT_US + 1)


def test_a_sequence_is_where_to_start_and_zero_asks_for_nothing() -> None:
    assert (asked(sequence=5).before_version, asked(sequence=5, asc=True).after_version) == (5, 5)
    assert (asked(sequence=0).before_version, asked(sequence=0, asc=True).after_version) == (None, 0)
    assert asked(sequence=(1 << 64) - 1).before_version == (1 << 63) - 1


def entry(type: str, payload: dict[str, Any], editor: str = "7", name: str = "Owner") -> Entry:
    event = RecordedEvent("instance", INSTANCE, 12, 40, type, payload, editor, MOMENT_US, "192.0.2.1:99")
    return Entry(event, name, payload)


def test_an_event_shows_who_did_it_when_and_what() -> None:
    event = shown(entry("instance.smtp.config.activated", {"id": "1"}), INSTANCE, "en")

    assert MessageToDict(event) == {
        "editor": {"userId": "7", "displayName": "Owner", "service": "zitadel"},
        "aggregate": {
            "id": INSTANCE,
            "type": {
                "type": "instance",
                "localized": {"key": "AggregateTypes.instance", "localizedMessage": "Instance"},
            },
            "resourceOwner": INSTANCE,
        },
        "sequence": "12",
        "creationDate": MOMENT,
        "payload": {"id": "1"},
        "type": {
            "type": "instance.smtp.config.activated",
            "localized": {
                "key": "EventTypes.instance.smtp.config.activated",
                "localizedMessage": "SMTP configuration activated",
            },
        },
    }


def test_what_the_command_line_did_is_not_said_to_be_of_zitadels_service() -> None:
    assert shown(entry("user.pat.removed", {}, "SYSTEM", "SYSTEM"), INSTANCE, "en").editor.service == "mailward"


def test_a_payload_of_nothing_is_absent_and_a_new_password_has_no_id() -> None:
    assert not shown(entry("instance.policy.domain.added", {}), INSTANCE, "en").HasField("payload")
    assert not shown(entry("instance.smtp.config.password.changed", {"id": "1"}), INSTANCE, "en").HasField("payload")


def test_a_date_in_a_payload_is_shown_as_one() -> None:
    event = shown(entry("user.pat.added", {"tokenId": "1", "expiration": MOMENT_US}), INSTANCE, "en")

    assert MessageToDict(event.payload) == {"tokenId": "1", "expiration": MOMENT}
