"""ZITADEL's own clients for Node, and connect-web's gRPC-Web: the whole life of an SMTP configuration."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.certificates import Certificates
from tests.support.program import Program

SCRIPTS = Path(__file__).parent / "node"
MODULES = Path(__file__).parents[3] / ".peers/node/node_modules"
ACTIVE, INACTIVE = 1, 2  # zitadel.settings.v1.SMTPConfigState


@pytest.mark.parametrize("script", ["zitadel-client", "zitadel-node", "grpc-web"])
def test_a_client_from_npm_does_the_whole_life_cycle(
    script: str, url: str, gateway: Program, certificates: Certificates, tmp_path: Path
) -> None:
    folder = tmp_path / "node"
    shutil.copytree(SCRIPTS, folder)
    (folder / "node_modules").symlink_to(MODULES)
    trust = {"NODE_EXTRA_CA_CERTS": str(certificates.ca), "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(certificates.ca)}

    done = subprocess.run(
        ["node", folder / f"{script}.mjs", url, gateway.owner, "127.0.0.1:2500"],
        capture_output=True, text=True, timeout=60, env=os.environ | trust,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    config = {
        "senderAddress": "noreply@example.com", "senderName": "Example", "host": "127.0.0.1:2500", "tls": False,
        "user": "relay", "description": "by Node", "replyToAddress": "help@example.com", "state": INACTIVE,
    }  # fmt: skip
    changed = config | {"senderName": "Renamed Größe", "description": "changed"}
    assert json.loads(done.stdout) == {
        "noneActive": {"code": 5, "id": "QUERY-fwofw"},
        "idDigits": 18,
        "added": config,
        "listed": [True],
        "active": config | {"state": ACTIVE},
        "twice": {"code": 9, "id": "COMMAND-vUHBSmBzaw"},
        "updated": changed | {"state": ACTIVE},
        "sequenceGrows": True,
        "inactive": changed,
        "removed": {"code": 5, "id": "QUERY-fwofw"},
        "tooLong": {"code": 3, "id": ""},
        "listedAfterwards": 0,
    }
