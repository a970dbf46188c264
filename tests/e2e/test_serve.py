"""Starting and stopping: what an operator sees at the shell."""

import http.client
import os
import signal
import socket
import sqlite3
import ssl
import stat
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mailward.smtpd.tls import FILE_NAME, self_signed
from tests.support.program import Program, free_port
from tests.support.sink import Sink
from tests.support.waiting import PATIENCE_S, wait_until


def run(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("MAILWARD_")}
    command = [sys.executable, "-m", "mailward", *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, env=clean | env)


def serve_flags(tmp_path: Path) -> list[str]:
    return ["--data-dir", str(tmp_path / "data"), "--http", "127.0.0.1:0", "--smtp", "127.0.0.1:0"]


def test_the_first_start_makes_what_it_needs_for_the_owners_eyes_only(program: Program) -> None:
    for name in ("owner.token", "master.key"):
        assert stat.S_IMODE((program.data_dir / name).stat().st_mode) == 0o600
    assert stat.S_IMODE(program.data_dir.stat().st_mode) == 0o700
    assert program.owner.startswith("mw_")
    assert program.owner not in program.log.read_text()


def test_it_says_where_it_listens_and_what_to_do_next(program: Program) -> None:
    said = program.log.read_text()

    assert f"http://127.0.0.1:{program.http_port}" in said
    assert f"127.0.0.1:{program.smtp_port}" in said
    assert str(program.data_dir / "owner.token") in said
    assert said.count("curl ") == 4  # three lines to paste; the first holds two calls


def test_the_owner_token_is_not_made_anew_by_a_restart(program: Program) -> None:
    token = program.owner

    assert program.stop() == 0
    program.start()

    assert program.owner == token
    assert program.request("GET", "/v1/messages").status == 200


@pytest.mark.parametrize("flag", ["--http", "--smtp"])
def test_a_port_in_use_is_an_error_that_names_the_flag(flag: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = run("serve", *serve_flags(tmp_path), flag, address)

    assert done.returncode == 7
    assert f"cannot listen on {address} ({flag})" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_second_serve_on_the_same_data_dir_is_refused(program: Program) -> None:
    done = program.cli("serve", "--http", "127.0.0.1:0", "--smtp", "127.0.0.1:0")

    assert done.returncode == 5
    assert f"another mailward serve (process {program.process.pid})" in done.stderr


def test_a_corrupt_database_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/mailward.db").write_bytes(b"this is no database, and never was one" * 300)

    done = run("serve", *serve_flags(tmp_path))

    assert done.returncode != 0
    assert "mailward.db" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_database_of_a_newer_version_is_a_clear_error(tmp_path: Path) -> None:
    assert run("db", "migrate", "--data-dir", str(tmp_path / "data")).returncode == 0
    with sqlite3.connect(tmp_path / "data/mailward.db") as connection:
        connection.execute("INSERT INTO schema_migrations VALUES (9999, 'from_the_future', 'x', 0)")
    connection.close()

    done = run("serve", *serve_flags(tmp_path))

    assert done.returncode == 5
    assert "newer" in done.stderr


def test_calls_in_flight_finish_at_sigterm_and_the_exit_code_is_0(program: Program, sink: Sink) -> None:
    program.add_relay(sink.address)
    body = b'{"from":"a@example.com","to":["b@example.org"],"subject":"x","text":"y"}'
    head = f"POST /v1/messages HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {program.owner}\r\n"
    with socket.create_connection(("127.0.0.1", program.http_port), timeout=PATIENCE_S) as connection:
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[:10])
        stopping = threading.Thread(target=program.stop)
        program.request("GET", "/livez")
        stopping.start()
        program.wait_for_log("server.stopping")

        connection.sendall(body[10:])

        assert connection.recv(65536).startswith(b"HTTP/1.1 202")
    stopping.join()
    assert program.process.returncode == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", program.http_port), timeout=5)


def test_with_a_certificate_the_port_speaks_tls(tmp_path: Path) -> None:
    certificate = self_signed(tmp_path, "localhost", datetime.now(UTC))

    with Program(tmp_path / "data", "--tls-cert", str(certificate), "--tls-key", str(certificate)) as program:
        trusting = ssl.create_default_context(cafile=str(certificate))
        connection = http.client.HTTPSConnection("localhost", program.http_port, timeout=PATIENCE_S, context=trusting)
        connection.request("GET", "/debug/healthz")
        body = connection.getresponse().read()
        connection.close()

    assert body == b"ok"


def _shows(program: Program, certificate: Path) -> bool:
    trusting = ssl.create_default_context(cafile=str(certificate))
    try:
        with socket.create_connection(("localhost", program.http_port), timeout=PATIENCE_S) as plain:
            trusting.wrap_socket(plain, server_hostname="localhost").close()
    except ssl.SSLCertVerificationError:
        return False
    return True


def test_a_renewed_certificate_is_shown_after_sighup_and_a_broken_one_never(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    for folder in (old, new):
        folder.mkdir()
        self_signed(folder, "localhost", datetime.now(UTC))
    first, second, file = old / FILE_NAME, new / FILE_NAME, tmp_path / "live.pem"
    file.write_bytes(first.read_bytes())
    with Program(tmp_path / "data", "--tls-cert", str(file), "--tls-key", str(file)) as program:
        file.write_text("no certificate")
        program.process.send_signal(signal.SIGHUP)
        program.wait_for_log("certificate.refused")
        assert _shows(program, first)

        file.write_bytes(second.read_bytes())
        program.process.send_signal(signal.SIGHUP)
        program.wait_for_log("certificate.renewed")
        assert _shows(program, second) and not _shows(program, first)


def test_health_is_told_in_every_dialect(program: Program) -> None:
    expected = {
        "/livez": b"ok", "/readyz": b"ok", "/healthz": b'{"status":"SERVING"}', "/debug/healthz": b"ok",
        "/debug/ready": b'"ok"', "/admin/v1/healthz": b"{}", "/readyz?verbose": b'{"database":"ok"}',
    }  # fmt: skip

    answers = {path: program.request("GET", path, token="") for path in expected}

    assert {path: answer.body for path, answer in answers.items()} == expected
    assert {answer.status for answer in answers.values()} == {200}


def test_metrics_count_what_was_accepted_and_what_became_of_it(program: Program, sink: Sink) -> None:
    program.add_relay(sink.address)
    mail = {"from": "a@example.com", "to": ["b@example.org"], "subject": "x", "text": "y"}
    program.wait_for_state(program.request("POST", "/v1/messages", mail).json["id"], "accepted")

    def metrics() -> str:
        return program.request("GET", "/metrics", token="").body.decode()

    wait_until(lambda: "mailward_http_connections 1.0" in metrics())  # Those before are closed soon.
    text = metrics()
    assert 'mailward_messages_accepted_total{ingress="http",lane="transactional"} 1.0' in text
    assert 'mailward_recipients_finished_total{lane="transactional",state="accepted"} 1.0' in text
    assert "example" not in text
    assert (
        'mailward_rpc_calls_total{code="OK",method="/mailward.v1.MessageService/SendMessage",protocol="rest"}' in text
    )


def test_refused_calls_are_counted_by_their_code(program: Program) -> None:
    program.request("POST", "/v1/messages", {"from": "nobody"})
    program.request("GET", "/admin/v1/smtp", token="mw_unknown")

    text = program.request("GET", "/metrics", token="").body.decode()

    method = "/mailward.v1.MessageService/SendMessage"
    assert f'mailward_rpc_calls_total{{code="INVALID_ARGUMENT",method="{method}",protocol="rest"}} 1.0' in text
    method = "/zitadel.admin.v1.AdminService/GetSMTPConfig"
    assert f'mailward_rpc_calls_total{{code="UNAUTHENTICATED",method="{method}",protocol="rest"}} 1.0' in text


def test_the_demo_shows_two_mails_and_their_timelines(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "mailward", "serve", *serve_flags(tmp_path), "--demo"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        if "end them with Ctrl-C" in line:
            break
    process.terminate()
    process.stdout.close()

    assert process.wait(PATIENCE_S) == 0
    text = "".join(said)
    for expected in ("Subject: Hello over HTTP", "Subject: Hello over SMTP", "timeline of msg_", "250 2.0.0 queued as"):
        assert expected in text
    assert text.count("accepted for ") == 2


def test_an_unwritable_data_dir_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    done = run("serve", "--data-dir", str(tmp_path / "file/data"), "--http", f"127.0.0.1:{free_port()}")

    assert done.returncode == 7
    assert "--data-dir" in done.stderr
