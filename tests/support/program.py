"""The built program as a user runs it: a process, its ports, its data dir."""

from __future__ import annotations

import http.client
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import time
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.waiting import PATIENCE_S, wait_until

_START_S = 120.0
_held: list[socket.socket] = []  # ports that were given out


@dataclass(frozen=True)
class Answer:
    """An HTTP answer, its body read."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def reserve() -> socket.socket:
    """Bind a loopback port without listening: it refuses connections, and goes to nobody but a server that names it."""
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", 0))
    return held


def free_port() -> int:
    """Return a loopback port that nobody uses, and nobody will by chance while the tests run."""
    _held.append(reserve())
    return int(_held[-1].getsockname()[1])


class Program:
    """`mailward serve` on free loopback ports. Use as a context manager; leaves no process behind."""

    def __init__(
        self, data_dir: Path, *args: str, env: Mapping[str, str] | None = None, files: int | None = None
    ) -> None:
        """`files`: how many it may have open; None: as many as we may."""
        self.data_dir = data_dir
        self.files = files
        self.args = args
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("MAILWARD_")} | dict(env or {})
        self.log = data_dir.parent / f"{data_dir.name}.log"
        reserved = [reserve(), reserve()]  # or somebody may have them between a stop and a start
        for one in reserved:
            weakref.finalize(self, one.close)
        self.http_port, self.smtp_port = (int(one.getsockname()[1]) for one in reserved)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Program:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    @property
    def store_pid(self) -> int:
        """The process in which it performs its commits."""
        pid = self.process.pid
        (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return int(child)

    def start(self) -> None:
        """Start it and wait until it says that it listens. Ports stay the same over a restart."""
        seen = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    sys.executable, "-m", "mailward", "serve", "--data-dir", str(self.data_dir),
                    "--http", f"127.0.0.1:{self.http_port}", "--smtp", f"127.0.0.1:{self.smtp_port}",
                    "--hostname", "mailward.test", "--log-format", "json", *self.args,
                ],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.env, preexec_fn=self._limit_files,
            )  # fmt: skip
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            text = self.log.read_bytes()[seen:].decode()
            if found := re.search(r'"event":"server.started".*"http":"[^"]*:(\d+)".*"smtp":"(?:[^"]*:(\d+))?"', text):
                self.http_port, self.smtp_port = int(found[1]), int(found[2] or 0)
                return
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        self.stop()
        raise RuntimeError(f"mailward serve did not start:\n{self.log.read_text()[-3000:]}")

    def _limit_files(self) -> None:
        if self.files is not None:
            resource.setrlimit(resource.RLIMIT_NOFILE, (self.files, self.files))

    def stop(self, timeout_s: float = PATIENCE_S) -> int:
        """Send SIGTERM and return the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def kill(self) -> None:
        """SIGKILL: nothing gets to tidy up."""
        self.process.kill()
        self.process.wait()

    def cli(self, *args: str, input: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run another command of the program on the same store."""
        store = ["--data-dir", str(self.data_dir)]
        if "--database" in self.args:
            at = self.args.index("--database")
            store += self.args[at : at + 2]
        return self.run(*args, *store, input=input)

    def run(self, *args: str, input: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run another command of the program."""
        command = [sys.executable, "-m", "mailward", *args]
        return subprocess.run(command, input=input, capture_output=True, text=True, env=self.env, timeout=PATIENCE_S)

    def remote_cli(self, *args: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the program that talks to a server, not to a store."""
        command = [sys.executable, "-m", "mailward", *args]
        return subprocess.run(command, capture_output=True, text=True, env=self.env, timeout=PATIENCE_S)

    def token(self, role: str, name: str = "") -> str:
        """Make a token of `role` and return it."""
        done = self.cli("token", "create", "--role", role, "--name", name or role)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    @property
    def owner(self) -> str:
        """The owner token of the first start."""
        return (self.data_dir / "owner.token").read_text().strip()

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send one HTTP request, as the owner unless `token` says otherwise ("" sends none)."""
        sent = dict(headers or {})
        if token != "":
            sent["authorization"] = f"Bearer {self.owner if token is None else token}"
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        if data is not None:
            sent.setdefault("content-type", "application/json")
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=PATIENCE_S)
        try:
            connection.request(method, path, data, sent)
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    def add_relay(self, host: str, *, activate: bool = True, **fields: Any) -> str:
        """Add an SMTP configuration for `host` ("host:port") through the API, activate it, return its id."""
        config = {"senderAddress": "noreply@example.com", "senderName": "Example", "host": host, **fields}
        added = self.request("POST", "/admin/v1/smtp", config)
        assert added.status == 200, added.body
        if activate:
            answer = self.request("POST", f"/admin/v1/smtp/{added.json['id']}/_activate", {})
            assert answer.status == 200, answer.body
        return str(added.json["id"])

    def wait_for_log(self, event: str) -> None:
        """Wait until it has logged `event`."""
        wait_until(lambda: f'"event":"{event}"' in self.log.read_text())

    def wait_for_state(self, message_id: str, *states: str, timeout_s: float = PATIENCE_S) -> Any:
        """Poll a message until it is in one of `states`; return it."""
        deadline = time.monotonic() + timeout_s
        while True:
            answer = self.request("GET", f"/v1/messages/{message_id}")
            assert answer.status == 200, answer.body
            if answer.json["state"] in states:
                return answer.json
            if time.monotonic() > deadline:
                raise AssertionError(f"not {states} after {timeout_s} s: {answer.body.decode()}")
            time.sleep(0.02)
