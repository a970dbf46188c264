"""Every fault of a mail server by the built program: over the API with its own deadlines, the shell, ZITADEL's wire."""

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from typing import Any

import pytest

from tests.support.certificates import Certificates, make_certificates
from tests.support.faults import FAULTS, PASSWORD, USER, WAITED_FOR, WRONG_PIN, Fault, staged
from tests.support.program import Program
from tests.support.waiting import PATIENCE_S

PROVIDERS = "/mailward/v1/providers"
BY_NAME = {fault.name: fault for fault in FAULTS}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    with Program(tmp_path_factory.mktemp("faults") / "data") as program:
        yield program


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


def add(program: Program, fault: Fault, port: int, certificates: Certificates) -> str:
    """Store the provider that leads to `fault`; return its id."""
    login = {"user": USER, "password": PASSWORD} if fault.login else {}
    id = program.add_relay(f"127.0.0.1:{port}", activate=False, tls=fault.tls != "none", **login)
    settings: dict[str, Any] = {"tls_mode": fault.tls}
    if fault.trusts:
        settings["ca_bundle"] = certificates.ca.read_text()
    if fault.pinned:
        settings["certificate_pins"] = {"sha256": [WRONG_PIN]}
    done = program.request("PATCH", f"{PROVIDERS}/{id}", {"settings": settings})
    assert done.status == 200, done.body
    return id


async def test_each_fault_is_found_within_ten_seconds(program: Program, certificates: Certificates) -> None:
    def find(fault: Fault, port: int) -> tuple[Any, float]:
        id = add(program, fault, port, certificates)
        began = time.monotonic()
        answer = program.request("POST", f"{PROVIDERS}/{id}:test", {"to": fault.to})
        assert answer.status == 200, answer.body
        return answer.json, time.monotonic() - began

    async with AsyncExitStack() as stack:
        ports = [await stack.enter_async_context(staged(fault, certificates)) for fault in FAULTS]
        # All at once: most of the time is spent in waiting for servers that say nothing.
        with ThreadPoolExecutor(len(FAULTS)) as pool:
            loop = asyncio.get_running_loop()
            found = await asyncio.gather(
                *(loop.run_in_executor(pool, find, *one) for one in zip(FAULTS, ports, strict=True))
            )

    # What the machine needs for all of them at once, where no server is waited for.
    machine_s = max(took_s for fault, (_, took_s) in zip(FAULTS, found, strict=True) if fault.code not in WAITED_FOR)
    assert machine_s < PATIENCE_S / 2
    for fault, (report, took_s) in zip(FAULTS, found, strict=True):
        failure = report["failure"]
        assert (fault.name, failure["stage"], failure["code"]) == (fault.name, fault.stage, fault.code)
        assert fault.words in failure["words"], fault.name
        assert fault.hint in f"{failure['cause']} {failure['fix']}", fault.name
        assert took_s < 10 + machine_s, fault.name


@pytest.mark.parametrize("name", ["port closed", "wrong password", "certificate for another name", "greylisted"])
async def test_the_command_line_shows_what_failed_and_exits_6(
    name: str, program: Program, certificates: Certificates
) -> None:
    fault = BY_NAME[name]
    async with staged(fault, certificates) as port:
        id = await asyncio.to_thread(add, program, fault, port, certificates)
        url, token = f"http://127.0.0.1:{program.http_port}", str(program.data_dir / "owner.token")
        command = ("provider", "test", id, "--to", fault.to, "--url", url, "--token-file", token)
        done = await asyncio.to_thread(program.remote_cli, *command)

    assert done.returncode == 6
    assert f"FAILED  {fault.stage}" in done.stdout
    assert f"code:  {fault.code}" in done.stderr
    assert fault.words in done.stderr and fault.hint in done.stderr


@pytest.mark.parametrize(
    ("name", "id"),
    [
        ("port closed", "EMAIL-skwos"),
        ("banner 554", "EMAIL-skwos"),
        ("certificate expired", "EMAIL-guvsQ"),
        ("unknown authority", "EMAIL-sl39s"),
        ("app password wanted", "EMAIL-s9kfs"),
        ("sender refused", "EMAIL-s3is3"),
        ("relaying denied", "EMAIL-s4is4"),
    ],
)
async def test_zitadels_clients_are_told_in_the_error(
    name: str, id: str, program: Program, certificates: Certificates
) -> None:
    fault = BY_NAME[name]
    async with staged(fault, certificates) as port:
        provider = await asyncio.to_thread(add, program, fault, port, certificates)
        path, body = f"/admin/v1/email/smtp/{provider}/_test", {"receiverAddress": fault.to}
        answer = await asyncio.to_thread(program.request, "POST", path, body)

    assert (answer.status, answer.json["code"]) == (500, 13)
    [detail] = answer.json["details"]
    assert detail["id"] == id
    assert answer.json["message"] == f"{detail['message']} ({id})"
    assert fault.words in detail["message"] and fault.hint in detail["message"]
