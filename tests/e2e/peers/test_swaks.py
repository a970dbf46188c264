"""swaks as the client of our SMTP door."""

import base64
import subprocess
from pathlib import Path

import pytest

from tests.support.certificates import Certificates
from tests.support.program import Program
from tests.support.sink import Sink


def swaks(program: Program, *args: str) -> subprocess.CompletedProcess[str]:
    """Send one mail to our door; the transcript is on stdout."""
    command = ["swaks", "--server", f"127.0.0.1:{program.smtp_port}", "--timeout", "20", "--helo", "app.example.com"]
    envelope = ["--from", "noreply@example.com", "--to", "ada@example.org"]
    return subprocess.run([*command, *envelope, *args], capture_output=True, text=True, timeout=60)


@pytest.fixture
def relayed(program: Program, sink: Sink) -> Program:
    program.add_relay(sink.address)
    return program


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
@pytest.mark.parametrize("tls", [[], ["--tls"]], ids=["clear", "starttls"])
def test_a_login_with_a_sender_token_hands_over_a_mail(
    mechanism: str, tls: list[str], relayed: Program, sink: Sink
) -> None:
    token = relayed.token("sender", "app")

    done = swaks(relayed, *tls, "--auth", mechanism, "--auth-user", "app", "--auth-password", token)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "250 2.0.0 queued as msg_" in done.stdout
    assert ("<-  220" in done.stdout and "=== TLS started" in done.stdout) == bool(tls)
    [mail] = sink.wait()
    assert (mail.reverse_path, mail.recipients) == ("noreply@example.com", ("ada@example.org",))


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_a_wrong_password_is_refused_and_nothing_is_taken(mechanism: str, relayed: Program, sink: Sink) -> None:
    done = swaks(relayed, "--auth", mechanism, "--auth-user", "app", "--auth-password", "mw_wrong")

    assert done.returncode == 28  # swaks: error in AUTH
    assert "535 5.7.8" in done.stdout
    assert relayed.request("GET", "/v1/messages").json.get("messages", []) == []


def test_without_a_login_no_mail_is_taken(relayed: Program) -> None:
    done = swaks(relayed)

    assert done.returncode == 23  # swaks: error in MAIL
    assert "530 5.7.0" in done.stdout


def test_commands_may_be_pipelined(relayed: Program, sink: Sink) -> None:
    token = relayed.token("sender", "app")

    done = swaks(
        relayed, "--tls", "--pipeline", "--auth", "PLAIN", "--auth-user", "app", "--auth-password", token,
        "--to", "ada@example.org,bob@example.org,cleo@example.org",
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr
    assert " ~> RCPT TO:<cleo@example.org>\n ~> DATA\n<~  250 2.1.0 " in done.stdout  # all sent, then all answered
    [mail] = sink.wait()
    assert mail.recipients == ("ada@example.org", "bob@example.org", "cleo@example.org")


def test_an_attachment_arrives_byte_for_byte(relayed: Program, sink: Sink, tmp_path: Path) -> None:
    file = tmp_path / "numbers.bin"
    file.write_bytes(bytes(range(256)) * 400)
    token = relayed.token("sender", "app")

    done = swaks(
        relayed, "--tls", "--auth", "LOGIN", "--auth-user", "app", "--auth-password", token,
        "--attach-type", "application/octet-stream", "--attach", f"@{file}", "--body", "See the file.",
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr
    [mail] = sink.wait()
    assert base64.b64encode(file.read_bytes()) in mail.content.replace(b"\r\n", b"")
    assert b"See the file." in mail.content


def test_a_given_certificate_is_the_one_that_starttls_shows(tmp_path: Path, certificates: Certificates) -> None:
    """swaks checks the chain against our CA, and the name against the certificate."""
    pem = str(certificates.server)
    with Program(tmp_path / "data", "--tls-cert", pem, "--tls-key", pem) as program:
        token = program.token("sender", "app")

        done = swaks(
            program, "--tls", "--tls-verify", "--tls-ca-path", str(certificates.ca),
            "--auth", "PLAIN", "--auth-user", "app", "--auth-password", token,
        )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr
    assert "CN=server" in done.stdout
