"""The built program says who changed what, when and from where, and in which language."""

import json
import sqlite3
from contextlib import closing
from typing import Any

from tests.support.program import Program

SMTP = {"senderAddress": "a@example.com", "senderName": "A", "host": "mail.example.com:25"}


def events(program: Program, **search: Any) -> list[dict[str, Any]]:
    answer = program.request("POST", "/admin/v1/events/_search", search, token=program.owner)
    assert answer.status == 200, answer.body
    found: list[dict[str, Any]] = answer.json.get("events", [])
    return found


def test_a_change_is_in_the_log_with_its_editor_and_at_the_command_line_with_the_address(program: Program) -> None:
    added = program.request("POST", "/admin/v1/smtp", SMTP, token=program.owner)

    [event] = events(program, limit=1)
    listed = json.loads(program.cli("event", "list", "--limit", "1", "--json").stdout)
    table = program.cli("event", "list", "--type", "user.pat.added")

    assert event["editor"]["displayName"] == "Owner"
    assert event["sequence"] == added.json["details"]["sequence"]
    assert [(row["type"], row["editor"]) for row in listed] == [("instance.smtp.config.added", "Owner")]
    assert listed[0]["peer"].startswith("127.0.0.1:")
    assert "user.pat.added" in table.stdout
    assert "digest" not in table.stdout


def test_what_the_log_shows_of_a_token_lets_nobody_in(program: Program) -> None:
    [event] = events(program, eventTypes=["user.pat.added"])

    assert set(event["payload"]) == {"tokenId", "role"}
    assert event["editor"]["service"] == "mailward"


def test_errors_and_names_are_in_the_default_language_for_those_who_ask_for_none(program: Program) -> None:
    program.request("PUT", "/admin/v1/languages/default/de", token=program.owner)
    answer = program.request("GET", "/admin/v1/smtp", token=program.owner)
    asked = program.request("GET", "/admin/v1/smtp", token=program.owner, headers={"accept-language": "sv"})
    [event] = events(program, limit=1, aggregateTypes=["instance"])

    assert answer.json["message"] == "SMTP-Konfiguration nicht gefunden (QUERY-fwofw)"
    assert asked.json["message"] == "SMTP-konfigurationen hittades inte (QUERY-fwofw)"
    assert event["aggregate"]["type"]["localized"]["localizedMessage"] == "Instanz"
    assert event["payload"] == {"language": "de"}


def test_an_answer_beyond_four_mebibytes_is_refused_over_rest(program: Program) -> None:
    """ZITADEL's gateway cannot read it; whoever asks for fewer events gets them."""
    long = SMTP | {"user": "u" * 3_000_000}
    for _ in range(2):
        assert program.request("POST", "/admin/v1/smtp", long, token=program.owner).status == 200

    refused = program.request("POST", "/admin/v1/events/_search", {"limit": 2}, token=program.owner)

    assert (refused.status, refused.json["code"]) == (429, 8)
    assert refused.json["message"].startswith("grpc: received message larger than max (")
    assert len(events(program, limit=1)) == 1


def test_a_check_of_the_log_names_the_event_that_somebody_changed(program: Program) -> None:
    whole = program.cli("event", "verify")
    head = whole.stdout.split()[-1]
    assert (whole.returncode, program.cli("event", "verify", "--head", head).returncode) == (0, 0)
    assert program.cli("event", "verify", "--head", "00").returncode == 1
    assert program.cli("event", "verify", "--head", "xyz").returncode == 2

    program.stop()
    with closing(sqlite3.connect(program.data_dir / "mailward.db")) as connection:
        connection.execute("UPDATE events SET editor = 'nobody' WHERE position = 2")
        connection.commit()
    program.start()

    broken = program.cli("event", "verify")
    assert broken.returncode == 1
    assert broken.stderr.startswith("mailward: event 2 (")
    assert json.loads(program.cli("event", "verify", "--json").stdout)["broken"]["position"] == 2
