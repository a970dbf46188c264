"""The tutorial and the how-tos do what they say: their commands are run, in order, as a reader would paste them."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.certificates import Certificates
from tests.support.databases import drop_postgres, new_postgres_url
from tests.support.golden.assertions import ServiceKey
from tests.support.postfix import Postfix
from tests.support.postgres import PostgresServer
from tests.support.program import free_port
from tests.support.terraform import sign_in
from tests.support.waiting import PATIENCE_S

DOCS = Path(__file__).parents[3] / "docs"
_BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.M | re.S)
_SERVERS = ("scripts/run", ".venv/bin/mailward serve", ".venv/bin/mailward demo catcher")


class Reader:
    """Somebody who reads a page and pastes its blocks; a command that stays goes to a terminal of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = {port: free_port() for port in (8080, 2525, 1025)}
        self.replaced: dict[str, str] = {}  #: what stands in the page → what this machine has instead
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("MAILWARD_")}
        self.env |= {f"MAILWARD_{name}": f"127.0.0.1:{self.ports[p]}" for name, p in (("HTTP", 8080), ("SMTP", 2525))}
        self.env["PATH"] = f"{folder / '.venv/bin'}:{os.environ['PATH']}"
        self._servers: list[subprocess.Popen[bytes]] = []
        for name, command in (
            (".venv/bin/mailward", f'exec "{sys.executable}" -m mailward "$@"'),
            (".venv/bin/python", f'exec "{sys.executable}" "$@"'),
            ("scripts/run", 'exec .venv/bin/mailward serve "$@"'),
        ):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(f"#!/bin/sh\n{command}\n")
            (folder / name).chmod(0o755)

    def follow(self, page: str) -> str:
        """Run the page's commands; return what they printed. All in one shell, but for the servers."""
        said, script = "", ""
        for block in _BLOCK.findall((DOCS / page).read_text()):
            if block.startswith(_SERVERS):
                said += self.paste(script)
                script = ""
                self.serve(block)
            else:
                script += block
        return said + self.paste(script)

    def paste(self, script: str) -> str:
        if not script:
            return ""
        # What a shell remembers must outlive this one: the next block may use it.
        memory = self.folder / "memory"
        before = f". {memory}\n" if memory.exists() else ""
        script = f"set -e\n{before}set -a\n{self._here(script)}\nexport -p > {memory}\n"
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=self.folder,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=2 * PATIENCE_S,
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def serve(self, block: str) -> None:
        """Start what stays, in a terminal of its own, and return when it answers."""
        env = self.env | self._exported()
        with (self.folder / "servers.log").open("ab") as log:
            process = subprocess.Popen(
                ["bash", "-c", f"exec {self._here(block)}"], cwd=self.folder, env=env, stdout=log, stderr=log,
            )  # fmt: skip
        self._servers.append(process)
        port = self.ports[1025 if "catcher" in block else 8080]
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                return socket.create_connection(("127.0.0.1", port), timeout=5).close()
            except ConnectionRefusedError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError((self.folder / "servers.log").read_text()) from None
                time.sleep(0.05)

    def stop(self) -> None:
        """Ctrl-C in every terminal."""
        for process in self._servers:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
        for process in self._servers:
            process.wait(PATIENCE_S)
        self._servers.clear()

    def wait_for(self, text: str) -> None:
        """Return once a terminal shows `text`."""
        deadline = time.monotonic() + PATIENCE_S
        while text not in (self.folder / "servers.log").read_text().replace("\r", ""):
            assert time.monotonic() < deadline, text
            time.sleep(0.05)

    def _here(self, text: str) -> str:
        for there, here in self.replaced.items():
            text = text.replace(there, here)
        return re.sub(r"(127\.0\.0\.1|localhost):(8080|2525|1025)", lambda m: f"{m[1]}:{self.ports[int(m[2])]}", text)

    def _exported(self) -> dict[str, str]:
        memory = self.folder / "memory"
        return (
            dict(re.findall(r'^declare -x (MAILWARD_\w+)="(.*)"$', memory.read_text(), re.M)) if memory.exists() else {}
        )


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    reader = Reader(tmp_path)
    yield reader
    reader.stop()


def test_the_tutorial(reader: Reader) -> None:
    said = reader.follow("tutorial.md")

    for expected in ("for <you@example.com>", "\nSubject: Hello\n", "\nSubject: Hello over SMTP\n"):
        reader.wait_for(expected)
    assert said.count('"id":"msg_') == 4  # sent, looked at, and two in the list


def test_a_provider_with_a_password(reader: Reader, postfix: Postfix, certificates: Certificates) -> None:
    reader.replaced = as_provider(postfix)
    reader.env["MAILWARD_CA_FILE"] = str(certificates.ca)
    reader.serve("scripts/run")

    said = reader.follow("howto/provider-with-password.md")

    assert said.startswith("{}")
    assert '"state":"SMTP_CONFIG_ACTIVE"' in reader.paste(
        'curl -s "$MAILWARD/admin/v1/smtp" -H "Authorization: Bearer $TOKEN"'
    )


def test_rotating_a_password(reader: Reader, postfix: Postfix, certificates: Certificates) -> None:
    reader.replaced = as_provider(postfix)
    reader.env["MAILWARD_CA_FILE"] = str(certificates.ca)
    reader.serve("scripts/run")
    reader.follow("howto/provider-with-password.md")
    (reader.folder / "new-password").write_text(Postfix.password + "\n")

    said = reader.follow("howto/rotate-a-password.md")

    assert "ok  auth" in said and '"old_password_until"' in said
    assert said.endswith("{}")


def as_provider(postfix: Postfix) -> dict[str, str]:
    return {
        "smtp.example.com:587": f"localhost:{postfix.login_port}",
        "relay@example.com": f"{postfix.user}@postfix.test",
        "correct horse": postfix.password,
    }


def test_postgresql(reader: Reader, postgres_server: PostgresServer) -> None:
    url = new_postgres_url(postgres_server)
    reader.replaced = {"postgresql://mailward:correct%20horse@127.0.0.1:5432/mailward": url}

    said = reader.follow("howto/postgresql.md")

    assert re.search(r"^mw_\S{43}$", said, re.M)
    assert not (reader.folder / "mailward-data/mailward.db").exists()
    reader.stop()
    drop_postgres(postgres_server, url)


def test_behind_a_proxy(reader: Reader) -> None:
    reader.follow("howto/behind-a-proxy.md")

    reader.wait_for('"peer":"203.0.113.7"')


def test_tls(reader: Reader) -> None:
    said = reader.follow("howto/tls.md")

    assert said == "ok"
    token = (reader.folder / "mailward-data/owner.token").read_text().strip()
    listed = reader.paste(
        f'curl -s --cacert cert.pem https://localhost:8080/v1/messages -H "Authorization: Bearer {token}"'
    )
    assert '"subject":"Hello"' in listed


def test_backing_up_and_restoring(reader: Reader) -> None:
    reader.serve("scripts/run")
    reader.paste(
        """curl -sf http://127.0.0.1:8080/v1/messages -H "Authorization: Bearer $(cat mailward-data/owner.token)" \
        -d '{"from": "a@example.com", "to": ["b@example.org"], "subject": "kept", "text": "x"}'"""
    )

    blocks = _BLOCK.findall((DOCS / "howto/backup-and-restore.md").read_text())
    reader.paste(blocks[0])
    reader.stop()
    assert "pending" not in reader.paste(blocks[1])
    reader.serve(blocks[2])

    request = urllib.request.Request(
        f"http://127.0.0.1:{reader.ports[8080]}/v1/messages",
        headers={"authorization": f"Bearer {(reader.folder / 'restored-data/owner.token').read_text().strip()}"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert b'"subject":"kept"' in answer.read()


def test_calling_the_api_with_every_client(reader: Reader) -> None:
    (reader.folder / "proto").symlink_to(DOCS.parent / "proto")
    (reader.folder / "node_modules").symlink_to(DOCS.parent / ".peers/node/node_modules")
    reader.env["PATH"] += f":{DOCS.parent / '.peers/go'}"
    reader.serve("scripts/run")

    reader.follow("howto/sdk.md")

    token = "Authorization: Bearer $(cat mailward-data/owner.token)"
    listed = reader.paste(f"curl -sf http://127.0.0.1:8080/admin/v1/smtp/_search -d '{{}}' -H \"{token}\"")
    states = {one["senderName"]: one["state"] for one in json.loads(listed)["result"]}
    assert states.pop("node") == "SMTP_CONFIG_ACTIVE"
    assert states == dict.fromkeys(("grpcurl", "Python", "client"), "SMTP_CONFIG_INACTIVE")


@pytest.mark.parametrize(
    ("page", "said"),
    [
        ("idempotency", '"id":"msg_'),
        ("lanes-and-expiry", '"id":"msg_'),
        ("see-who-changed-what", "instance.smtp.config.activated"),
        ("roles-and-tokens", "mw_"),
        ("restrict-senders", "custom domain"),
    ],
)
def test_pages_that_need_no_more_than_a_gateway(reader: Reader, page: str, said: str) -> None:
    reader.serve("scripts/run")
    reader.paste(
        """MAILWARD=http://127.0.0.1:8080; TOKEN=$(cat mailward-data/owner.token)
        ID=$(curl -sf "$MAILWARD/admin/v1/smtp" -H "Authorization: Bearer $TOKEN" -d '{"senderAddress": "a@example.com",
        "senderName": "A", "host": "127.0.0.1:9"}' | sed 's/.*"id":"\\([0-9]*\\)".*/\\1/')
        curl -sf -X POST "$MAILWARD/admin/v1/smtp/$ID/_activate" -H "Authorization: Bearer $TOKEN" -d '{}'"""
    )

    assert said in reader.follow(f"howto/{page}.md")


def test_terraform_signs_in_with_the_key_that_was_made_for_it(reader: Reader, certificates: Certificates) -> None:
    reader.serve("scripts/run")

    reader.follow("howto/terraform.md")

    key = ServiceKey((reader.folder / "terraform.json").read_text())
    assert sign_in(f"http://localhost:{reader.ports[8080]}", key, certificates.ca).startswith("Bearer ")
