"""Peers that need tools beyond Python and PyPI; scripts/peers installs them. Every test here carries the mark."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.certificates import Certificates, make_certificates
from tests.support.postfix import Postfix
from tests.support.program import Program

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.peers)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """A CA of our own and a certificate for localhost."""
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def postfix(certificates: Certificates) -> Iterator[Postfix]:
    """A running Postfix, one for the session."""
    with Postfix(certificates.server) as postfix:
        yield postfix


@pytest.fixture(params=["http", "https"])
def scheme(request: pytest.FixtureRequest) -> str:
    """Clear text and TLS."""
    return str(request.param)


@pytest.fixture
def gateway(scheme: str, certificates: Certificates, tmp_path: Path) -> Iterator[Program]:
    """A running gateway on SQLite that speaks `scheme`, its certificate made by our CA."""
    tls = ["--tls-cert", str(certificates.server), "--tls-key", str(certificates.server)] if scheme == "https" else []
    with Program(tmp_path / "data", *tls) as program:
        yield program


@pytest.fixture
def url(scheme: str, gateway: Program) -> str:
    """The address of `gateway`."""
    return f"{scheme}://localhost:{gateway.http_port}"
