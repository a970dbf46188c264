"""The certificate that is made when none is given."""

import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from mailward.smtpd.tls import LIFETIME, self_signed, server_context

_NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)


def test_a_self_signed_certificate_names_the_host_and_this_machine(tmp_path: Path) -> None:
    """ECDSA P-256, for nobody else's eyes."""
    path = self_signed(tmp_path, "mx.example", _NOW)

    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["mx.example", "localhost"]
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1"]
    key = certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_it_is_kept_while_it_is_good(tmp_path: Path) -> None:
    """Clients may have pinned it."""
    first = self_signed(tmp_path, "mx.example", _NOW).read_bytes()

    assert self_signed(tmp_path, "mx.example", _NOW + timedelta(days=300)).read_bytes() == first


@pytest.mark.parametrize(
    ("hostname", "later"),
    [("other.example", timedelta()), ("mx.example", LIFETIME - timedelta(days=29)), ("mx.example", LIFETIME * 2)],
)
def test_it_is_renewed_for_another_name_and_before_it_expires(tmp_path: Path, hostname: str, later: timedelta) -> None:
    """Thirty days before."""
    first = self_signed(tmp_path, "mx.example", _NOW).read_bytes()

    assert self_signed(tmp_path, hostname, _NOW + later).read_bytes() != first


@pytest.mark.parametrize(
    "content", [b"", b"nonsense", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_a_damaged_file_is_replaced(tmp_path: Path, content: bytes) -> None:
    """It is ours to replace."""
    (tmp_path / "self-signed.pem").write_bytes(content)

    server_context(self_signed(tmp_path, "mx.example", _NOW))


@pytest.mark.parametrize("hostname", ["", "localhost", "192.0.2.1", "127.0.0.1", "a" * 60 + ".example.com"])
def test_any_host_name_will_do(tmp_path: Path, hostname: str) -> None:
    """Also an address, or one that is longer than a common name may be."""
    server_context(self_signed(tmp_path, hostname, _NOW))


def test_old_versions_of_tls_are_not_spoken(tmp_path: Path) -> None:
    """RFC 8996."""
    assert server_context(self_signed(tmp_path, "mx.example", _NOW)).minimum_version == ssl.TLSVersion.TLSv1_2


def test_a_key_under_a_password_is_an_error(tmp_path: Path) -> None:
    """Not a prompt."""
    path = self_signed(tmp_path, "mx.example", _NOW)
    key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    locked = tmp_path / "locked.pem"
    locked.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"x")
        )
    )

    with pytest.raises(ValueError, match="encrypted"):
        server_context(path, locked)
