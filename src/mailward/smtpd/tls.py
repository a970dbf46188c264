"""Certificates for the doors: the operator's, or a self-signed one that is made, kept in the data dir, and renewed."""

import os
import ssl
from datetime import datetime, timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

FILE_NAME = "self-signed.pem"  #: key and certificate, mode 0600
LIFETIME = timedelta(days=397)
RENEW_BEFORE = timedelta(days=30)


def server_context(certificate: Path, key: Path | None = None) -> ssl.SSLContext:
    """Return a context for servers, TLS 1.2 and newer. `key`: None when `certificate` holds both.

    Raises OSError (ssl.SSLError among them) when a file cannot be read or the two do not belong together.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    show(context, certificate, key)
    return context


def show(context: ssl.SSLContext, certificate: Path, key: Path | None) -> None:
    """Have `context` show what these files hold from the next handshake on. Raises what server_context raises."""
    # An encrypted key must be an error, not a prompt on a terminal that a server does not have.
    context.load_cert_chain(certificate, key, password=_no_password)


def self_signed(data_dir: Path, hostname: str, now: datetime) -> Path:
    """Return the file with a key and a self-signed certificate for `hostname` and this machine, made when needed.

    Made anew when there is none, when it cannot be read, when it is for another name, and when at `now` (aware) it has
    less than 30 days left. Raises OSError when `data_dir` cannot be written.
    """
    path = data_dir / FILE_NAME
    if not _is_good(path, hostname, now):
        _write_private(path, _make(hostname, now))
    return path


def _is_good(path: Path, hostname: str, now: datetime) -> bool:
    try:
        pem = path.read_bytes()
        certificate = x509.load_pem_x509_certificate(pem)
        serialization.load_pem_private_key(pem, password=None)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, TypeError, x509.ExtensionNotFound):
        return False
    is_current = certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc - RENEW_BEFORE
    return is_current and all(name in names for name in _names(hostname))


def _make(hostname: str, now: datetime) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    # RFC 5280 limits a common name to 64 characters; clients look at the alternative names only.
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hostname[:64] or "localhost")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + LIFETIME)
        .add_extension(x509.SubjectAlternativeName(_names(hostname)), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private + certificate.public_bytes(serialization.Encoding.PEM)


def _names(hostname: str) -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = []
    if hostname and hostname != "localhost":
        try:
            names.append(x509.IPAddress(ip_address(hostname)))
        except ValueError:
            names.append(x509.DNSName(hostname))
    names.append(x509.DNSName("localhost"))
    for loopback in (IPv4Address("127.0.0.1"), IPv6Address("::1")):
        if x509.IPAddress(loopback) not in names:
            names.append(x509.IPAddress(loopback))
    return names


def _write_private(path: Path, data: bytes) -> None:
    """Write `data` so that `path` is never seen half-written, nor by other users."""
    part = path.with_name(f"{path.name}.part")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def _no_password() -> str:
    raise ValueError("the private key is encrypted; give one that is not")
