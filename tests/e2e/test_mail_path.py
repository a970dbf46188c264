"""The way of a mail through the built program: in by a door, on disk, out to a provider, told by its timeline."""

import email
import email.policy
import queue
import resource
import smtplib
from email.message import EmailMessage
from pathlib import Path

import pytest

from tests.support.program import Program, free_port
from tests.support.sink import Sink
from tests.support.waiting import PATIENCE_S

MAIL = {"from": "Example <noreply@example.com>", "to": ["ada@example.org"], "subject": "Hello", "text": "It works.\n"}


def smtp_mail(subject: str = "Hello") -> EmailMessage:
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = "noreply@example.com", "ada@example.org", subject
    mail.set_content("It works.\n")
    return mail


def test_a_mail_by_http_arrives_at_the_active_provider(program_on: Program, sink: Sink) -> None:
    program_on.add_relay(sink.address)

    answer = program_on.request("POST", "/v1/messages", MAIL)

    assert answer.status == 202
    [mail] = sink.wait()
    assert (mail.reverse_path, mail.recipients) == ("noreply@example.com", ("ada@example.org",))
    parsed = email.message_from_bytes(mail.content, policy=email.policy.default)
    assert (parsed["Subject"], parsed["To"], parsed.get_content()) == ("Hello", "ada@example.org", "It works.\r\n")
    message = program_on.wait_for_state(answer.json["id"], "accepted")
    assert message["recipients"][0]["last_reply"] == {"code": 250, "enhanced": "2.0.0", "text": "taken"}
    assert len(message["attempts"]) == 1


def test_a_mail_by_smtp_arrives_and_its_answer_names_the_message(program_on: Program, sink: Sink) -> None:
    program_on.add_relay(sink.address)
    token = program_on.token("sender", "app")

    with smtplib.SMTP("127.0.0.1", program_on.smtp_port, timeout=PATIENCE_S) as client:
        client.login("app", token)
        client.mail("noreply@example.com")
        client.rcpt("ada@example.org")
        code, text = client.data(smtp_mail().as_bytes(policy=email.policy.SMTP))

    assert (code, text[:16]) == (250, b"2.0.0 queued as ")
    [mail] = sink.wait()
    assert b"Subject: Hello" in mail.content
    assert program_on.wait_for_state(text.decode().rsplit(" ", 1)[-1], "accepted")["subject"] == "Hello"


def test_mail_waits_without_a_provider_says_so_and_flows_once_one_is_activated(program_on: Program, sink: Sink) -> None:
    id = program_on.request("POST", "/v1/messages", MAIL).json["id"]
    assert program_on.request("GET", f"/v1/messages/{id}").json["waiting_for"] == "no active provider"

    program_on.add_relay(sink.address)

    assert len(sink.wait()) == 1
    assert "waiting_for" not in program_on.wait_for_state(id, "accepted")


def test_what_was_acknowledged_before_a_kill_is_delivered_exactly_once_after_it(
    tmp_path: Path, store_flags: list[str], sink: Sink
) -> None:
    """Kill -9 between acceptance and delivery: the provider is unreachable at first."""
    with Program(tmp_path / "data", *store_flags) as program:
        relay = program.add_relay(f"127.0.0.1:{free_port()}")
        by_http = [program.request("POST", "/v1/messages", MAIL).json["id"] for _ in range(5)]
        with smtplib.SMTP("127.0.0.1", program.smtp_port, timeout=PATIENCE_S) as client:
            client.login("app", program.token("sender", "app"))
            for _ in range(5):
                client.send_message(smtp_mail())
        program.request("POST", f"/admin/v1/smtp/{relay}/_deactivate", {})
        program.kill()

        program.start()
        assert sink.mails.empty()
        program.add_relay(sink.address)
        listed = program.request("GET", "/v1/messages").json["messages"]

        assert len(listed) == len(sink.wait(10)) == 10
        with pytest.raises(queue.Empty):
            sink.wait(timeout_s=0.5)
        assert set(by_http) <= {m["id"] for m in listed}


def test_a_restart_delivers_each_waiting_mail_once(tmp_path: Path, store_flags: list[str], sink: Sink) -> None:
    with Program(tmp_path / "data", *store_flags) as program:
        ids = [program.request("POST", "/v1/messages", MAIL).json["id"] for _ in range(20)]
        program.kill()
        program.start()

        program.add_relay(sink.address)

        assert len(sink.wait(20)) == 20
        for id in ids:
            assert len(program.wait_for_state(id, "accepted")["attempts"]) == 1
        assert sink.mails.empty()


def test_a_temporary_refusal_defers_and_a_permanent_one_bounces(program: Program, sink: Sink) -> None:
    program.add_relay(sink.address)

    sink.reply = "451 4.3.0 try later"
    deferred = program.request("POST", "/v1/messages", MAIL).json["id"]
    message = program.wait_for_state(deferred, "deferred")
    assert "next_attempt_at" in message["recipients"][0]
    sink.reply = "554 5.6.0 not like this"
    bounced = program.request("POST", "/v1/messages", MAIL).json["id"]
    message = program.wait_for_state(bounced, "bounced")

    assert message["attempts"][0]["recipients"][0]["fault"] == "message"


def test_a_store_that_cannot_be_written_is_503_and_451_and_recovers(program: Program, sink: Sink) -> None:
    """A full disk, as a limit on file sizes: nothing is acknowledged meanwhile, and nothing needs a hand afterwards."""
    program.add_relay(sink.address)
    token = program.token("sender", "app")
    with smtplib.SMTP("127.0.0.1", program.smtp_port, timeout=PATIENCE_S) as client:
        client.login("app", token)
        resource.prlimit(program.store_pid, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))

        by_http = program.request("POST", "/v1/messages", MAIL)
        client.mail("noreply@example.com")
        client.rcpt("ada@example.org")
        by_smtp = client.data(smtp_mail().as_bytes(policy=email.policy.SMTP))

        assert (by_http.status, by_http.json["code"]) == (503, "unavailable")
        assert by_smtp[0] == 451
        assert program.request("GET", "/livez").status == 200
        resource.prlimit(program.store_pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        client.send_message(smtp_mail())

    assert program.request("POST", "/v1/messages", MAIL).status == 202
    assert len(sink.wait(2)) == 2
