"""The mail catcher of the demo, on its own."""

import signal
import smtplib
import subprocess
import sys

import pytest

from tests.support.waiting import PATIENCE_S


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_at_once_though_somebody_is_connected(how: signal.Signals) -> None:
    """A gateway keeps its connection; Ctrl-C must not wait for it."""
    command = [sys.executable, "-m", "mailward", "demo", "catcher"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline().rpartition(":")[2])
        client = smtplib.SMTP("127.0.0.1", port, timeout=PATIENCE_S)
        client.sendmail("a@example.com", ["b@example.org"], "Subject: caught\r\n\r\nx\r\n")
        process.send_signal(how)

        assert process.wait(PATIENCE_S) == 0
        client.close()
        assert "Subject: caught" in process.stdout.read()
