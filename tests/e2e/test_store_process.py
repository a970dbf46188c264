"""The store process of a running gateway: what clients and the operator see when it dies."""

import os
import select
import signal
import smtplib
from pathlib import Path

import pytest

from tests.support.program import Program
from tests.support.waiting import PATIENCE_S


def test_a_gateway_whose_store_dies_promises_nothing_more_and_ends_with_an_error(tmp_path: Path) -> None:
    with Program(tmp_path / "data") as program:
        store = program.store_pid
        # No `with`: leaving it says QUIT, to a door that may answer 421 by then or be gone.
        client = smtplib.SMTP("127.0.0.1", program.smtp_port, timeout=PATIENCE_S)
        try:
            client.login("me", program.owner)
            os.kill(store, signal.SIGKILL)
            with pytest.raises(smtplib.SMTPException):
                client.sendmail("a@example.com", ["b@example.com"], "From: a@example.com\r\n\r\nhello\r\n")
        finally:
            client.close()

        assert program.process.wait(PATIENCE_S) == 1
        assert "the store process ended" in program.log.read_text()


def test_a_store_process_ends_with_its_gateway_however_that_ends(tmp_path: Path) -> None:
    with Program(tmp_path / "data") as program:
        store = program.store_pid
        descriptor = os.pidfd_open(store)
        program.process.kill()
        program.process.wait()
        try:
            assert select.select([descriptor], [], [], PATIENCE_S)[0]
        finally:
            os.close(descriptor)
