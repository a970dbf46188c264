"""Debian's Postfix as the provider: as a sink without a login, and with STARTTLS and AUTH."""

import email.policy
import smtplib
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.support.certificates import Certificates
from tests.support.postfix import Postfix
from tests.support.program import Program
from tests.support.waiting import PATIENCE_S


@pytest.fixture
def trusting(tmp_path: Path, certificates: Certificates) -> Iterator[Program]:
    """A gateway that trusts our CA and tries again soon."""
    with Program(tmp_path / "data", "--ca-file", str(certificates.ca), "--retry-schedule-s", "1") as program:
        yield program


def plain(postfix: Postfix) -> dict[str, Any]:
    return {"host": f"127.0.0.1:{postfix.plain_port}"}


def with_login(postfix: Postfix, password: str = Postfix.password) -> dict[str, Any]:
    user = f"{postfix.user}@postfix.test"
    return {"host": f"localhost:{postfix.login_port}", "tls": True, "user": user, "password": password}


def submit_by_http(program: Program, subject: str) -> str:
    mail = {"from": "noreply@example.com", "to": ["ada@example.org"], "subject": subject, "text": "It works.\n.\n"}
    answer = program.request("POST", "/v1/messages", mail)
    assert answer.status == 202, answer.body
    return str(answer.json["id"])


def submit_by_smtp(program: Program, subject: str) -> str:
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = "noreply@example.com", "ada@example.org", subject
    mail.set_content("It works.\n.\n")
    with smtplib.SMTP("127.0.0.1", program.smtp_port, timeout=PATIENCE_S) as client:
        client.login("app", program.token("sender", "app"))
        client.mail("noreply@example.com")
        client.rcpt("ada@example.org")
        code, text = client.data(mail.as_bytes(policy=email.policy.SMTP))
    assert code == 250
    return text.decode().rsplit(" ", 1)[-1]


@pytest.mark.parametrize("provider", [plain, with_login], ids=["plain", "starttls-and-auth"])
@pytest.mark.parametrize("submit", [submit_by_http, submit_by_smtp], ids=["http", "smtp"])
def test_a_mail_arrives_in_a_mailbox_exactly_once(
    provider: Callable[[Postfix], dict[str, Any]],
    submit: Callable[[Program, str], str],
    trusting: Program,
    postfix: Postfix,
) -> None:
    subject = f"mail {uuid4().hex}"
    trusting.add_relay(**provider(postfix))

    message = trusting.wait_for_state(submit(trusting, subject), "accepted")

    assert "queued as" in message["recipients"][0]["last_reply"]["text"]
    assert len(message["attempts"]) == 1
    [mail] = postfix.wait(subject)
    head, _, body = mail.replace(b"\r\n", b"\n").partition(b"\n\n")
    assert body == b"It works.\n.\n"
    assert b"Return-Path: <noreply@example.com>" in head


def test_fifty_mails_over_kept_connections_arrive_once_each(trusting: Program, postfix: Postfix) -> None:
    batch = uuid4().hex
    trusting.add_relay(**with_login(postfix))

    ids = [submit_by_http(trusting, f"{batch} {number}") for number in range(50)]

    for id in ids:
        trusting.wait_for_state(id, "accepted")
    subjects = [mail.split(b"Subject: ", 1)[1].split(b"\n", 1)[0].strip() for mail in postfix.wait(batch, 50)]
    assert sorted(subjects) == sorted(f"{batch} {number}".encode() for number in range(50))


def test_a_wrong_password_defers_and_mail_flows_once_it_is_mended(trusting: Program, postfix: Postfix) -> None:
    """A rotated password is the provider's fault: nothing bounces."""
    subject = f"mail {uuid4().hex}"
    relay = trusting.add_relay(**with_login(postfix, "wrong"))
    id = submit_by_http(trusting, subject)

    message = trusting.wait_for_state(id, "deferred")
    assert message["recipients"][0]["last_reply"]["code"] == 535
    assert message["attempts"][0]["recipients"][0]["fault"] == "provider"
    changed = trusting.request("PUT", f"/admin/v1/smtp/{relay}/password", {"password": Postfix.password})

    assert changed.status == 200
    trusting.wait_for_state(id, "accepted")
    assert len(postfix.wait(subject)) == 1


def test_a_server_that_our_trust_does_not_cover_gets_no_mail(
    tmp_path: Path, certificates: Certificates, postfix: Postfix
) -> None:
    subject = f"mail {uuid4().hex}"
    with Program(tmp_path / "data") as program:
        program.add_relay(**with_login(postfix))
        message = program.wait_for_state(submit_by_http(program, subject), "deferred")

    assert message["attempts"][0]["recipients"][0]["fault"] == "provider"
    assert postfix.arrived(subject) == []


def test_one_unknown_recipient_bounces_and_the_other_gets_the_mail(trusting: Program, postfix: Postfix) -> None:
    subject = f"mail {uuid4().hex}"
    trusting.add_relay(**plain(postfix))
    mail = {"from": "a@example.com", "to": ["ada@example.org", "eve@elsewhere.test"], "subject": subject, "text": "x"}

    id = trusting.request("POST", "/v1/messages", mail).json["id"]

    assert len(postfix.wait(subject)) == 1
    states = {r["address"]: r["state"] for r in trusting.wait_for_state(id, "accepted", "bounced")["recipients"]}
    assert states == {"ada@example.org": "accepted", "eve@elsewhere.test": "bounced"}


def test_a_test_of_the_configuration_says_that_it_works_or_which_stage_failed(
    trusting: Program, postfix: Postfix
) -> None:
    test = {"senderAddress": "noreply@example.com", "receiverAddress": "ada@example.org", "senderName": "Example"}

    works = trusting.request("POST", "/admin/v1/smtp/_test", test | with_login(postfix))
    fails = trusting.request("POST", "/admin/v1/smtp/_test", test | with_login(postfix, "wrong"))

    assert works.status == 200, works.body
    assert fails.status >= 400
    assert "535" in fails.json["message"]


def test_an_address_in_another_script_arrives_over_smtputf8(trusting: Program, postfix: Postfix) -> None:
    subject = f"mail {uuid4().hex}"
    trusting.add_relay(**plain(postfix))
    mail = {"from": "noreply@example.com", "to": ["jürgen@example.org"], "subject": subject, "text": "Grüße\n"}

    id = trusting.request("POST", "/v1/messages", mail).json["id"]

    trusting.wait_for_state(id, "accepted")
    [arrived] = postfix.wait(subject)
    assert "jürgen@example.org".encode() in arrived
