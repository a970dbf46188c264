"""ZITADEL's own clients for Node, and connect-web's gRPC-Web: the whole life of a provider in both families."""

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.certificates import Certificates
from tests.support.golden.sinks import Sinks
from tests.support.life import FAMILIES, expected
from tests.support.program import Program

SCRIPTS = Path(__file__).parent / "node"
MODULES = Path(__file__).parents[3] / ".peers/node/node_modules"


@pytest.fixture
def sinks(tmp_path: Path) -> Iterator[Sinks]:
    with contextlib.closing(Sinks(tmp_path)) as sinks:
        yield sinks


@pytest.fixture
def key_file(gateway: Program, tmp_path: Path) -> str:
    """A key file of a service account."""
    file = tmp_path / "key.json"
    made = gateway.cli("key", "create", "--role", "owner", "--name", "node", "--out", str(file))
    assert made.returncode == 0, made.stderr
    return str(file)


@pytest.mark.parametrize("script", ["zitadel-client", "zitadel-node", "zitadel-node-key", "grpc-web"])
def test_a_client_from_npm_does_the_whole_life_cycle(
    script: str, url: str, gateway: Program, certificates: Certificates, sinks: Sinks, key_file: str, tmp_path: Path
) -> None:
    folder, relay = tmp_path / "node", sinks.address("auth")
    shutil.copytree(SCRIPTS, folder)
    (folder / "node_modules").symlink_to(MODULES)
    trust = {"NODE_EXTRA_CA_CERTS": str(certificates.ca), "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(certificates.ca)}
    credential = key_file if script.endswith("-key") else gateway.owner

    done = subprocess.run(
        ["node", folder / f"{script}.mjs", url, credential, relay],
        capture_output=True, text=True, timeout=60, env=os.environ | trust,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == dict.fromkeys(FAMILIES, expected(relay))
    assert all(sinks.next_mail("auth") for _ in FAMILIES)
