"""A Postfix of our own on loopback: Debian's program in its own folders; one port takes all, one wants a login."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from tests.support.program import free_port
from tests.support.waiting import PATIENCE_S

_MAIN = """\
compatibility_level = 3.6
config_directory = {folder}/etc
queue_directory = {folder}/queue
data_directory = {folder}/data
mail_owner = postfix
maillog_file_prefixes = {folder}
maillog_file = {folder}/log
myhostname = postfix.test
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
smtpd_error_sleep_time = 0
smtputf8_enable = yes
alias_maps =
virtual_mailbox_domains = example.org
virtual_mailbox_base = {folder}/mail
virtual_mailbox_maps = static:inbox/
virtual_uid_maps = static:{user.pw_uid}
virtual_gid_maps = static:{user.pw_gid}
virtual_minimum_uid = 1
smtpd_recipient_restrictions = reject_unlisted_recipient, reject_unauth_destination
smtpd_tls_cert_file = {certificate}
smtpd_tls_key_file = {certificate}
cyrus_sasl_config_path = {folder}/etc/sasl
smtpd_sasl_local_domain = postfix.test
"""

_MASTER = """\
127.0.0.1:{plain} inet n - n - - smtpd
127.0.0.1:{login} inet n - n - - smtpd
  -o smtpd_tls_security_level=encrypt
  -o smtpd_tls_auth_only=yes
  -o smtpd_sasl_auth_enable=yes
  -o smtpd_client_restrictions=permit_sasl_authenticated,reject
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
smtp unix - - n - - smtp
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
tlsmgr unix - - n 1000? 1 tlsmgr
proxymap unix - - n - - proxymap
postlog unix-dgram n - n - 1 postlogd
"""

_SASL = """\
pwcheck_method: auxprop
auxprop_plugin: sasldb
sasldb_path: {folder}/etc/sasl/users
mech_list: PLAIN LOGIN
"""


def _greets(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as connection:
            return connection.recv(100).startswith(b"220")
    except ConnectionError:
        return False


class Postfix:
    """Delivers mail for example.org into one maildir. Use as a context manager.

    Its folder stands right under the temporary folder: Postfix's own users must reach it.
    """

    user = "relay"
    password = "sesame, open"

    def __init__(self, certificate: Path) -> None:
        """`certificate`: chain and key of "localhost" in one PEM file. Raises RuntimeError when this is not root."""
        if os.geteuid() != 0:
            raise RuntimeError("Postfix starts as root only: run scripts/test --peers as root")
        self.folder = Path(tempfile.mkdtemp(prefix="mailward-postfix-"))
        self.plain_port, self.login_port = free_port(), free_port()
        self._process: subprocess.Popen[bytes] | None = None
        owner = pwd.getpwnam("postfix")
        self.folder.chmod(0o755)
        for name in ("etc", "queue", "data", "mail", "etc/sasl"):
            (self.folder / name).mkdir()
        for name in ("data", "mail"):
            os.chown(self.folder / name, owner.pw_uid, owner.pw_gid)
        own_copy = shutil.copy(certificate, self.folder / "etc/server.pem")
        (self.folder / "etc/main.cf").write_text(_MAIN.format(folder=self.folder, user=owner, certificate=own_copy))
        (self.folder / "etc/master.cf").write_text(_MASTER.format(plain=self.plain_port, login=self.login_port))
        (self.folder / "etc/sasl/smtpd.conf").write_text(_SASL.format(folder=self.folder))
        subprocess.run(
            ["saslpasswd2", "-p", "-c", "-f", self.folder / "etc/sasl/users", "-u", "postfix.test", self.user],
            input=self.password.encode(),
            check=True,
        )
        os.chown(self.folder / "etc/sasl/users", owner.pw_uid, owner.pw_gid)

    def __enter__(self) -> Postfix:
        self._process = subprocess.Popen(
            ["postfix", "-c", str(self.folder / "etc"), "start-fg"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        deadline = time.monotonic() + PATIENCE_S
        while not (_greets(self.plain_port) and _greets(self.login_port)):
            if self._process.poll() is not None or time.monotonic() > deadline:
                log = self.log
                self.__exit__()
                raise RuntimeError(f"Postfix did not start:\n{log[-3000:]}")
            time.sleep(0.05)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        if self._process.poll() is None:
            subprocess.run(["postfix", "-c", str(self.folder / "etc"), "abort"], check=False, capture_output=True)
            self._process.wait(PATIENCE_S)
        shutil.rmtree(self.folder)

    @property
    def log(self) -> str:
        """What Postfix said so far."""
        file = self.folder / "log"
        return file.read_text(errors="replace") if file.exists() else ""

    def arrived(self, text: str) -> list[bytes]:
        """Return the delivered mails that hold `text`."""
        mails = [file.read_bytes() for file in (self.folder / "mail/inbox/new").glob("*")]
        return [mail for mail in mails if text.encode() in mail]

    def wait(self, text: str, count: int = 1, timeout_s: float = PATIENCE_S) -> list[bytes]:
        """Return the mails that hold `text` once there are `count`, and once Postfix's queue is empty."""
        deadline = time.monotonic() + timeout_s
        while len(self.arrived(text)) < count or self._queued():
            if time.monotonic() > deadline:
                raise AssertionError(f"{len(self.arrived(text))} of {count} arrived:\n{self.log[-3000:]}")
            time.sleep(0.05)
        return self.arrived(text)

    def _queued(self) -> bool:
        return any(
            file.is_file()
            for name in ("incoming", "active", "deferred")
            for file in (self.folder / "queue" / name).rglob("*")
        )
