"""A certificate authority of our own and the certificates it signs, for servers on loopback."""

import base64
import datetime
import hashlib
import ipaddress
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_DAY = datetime.timedelta(days=1)


@dataclass(frozen=True)
class Certificates:
    """Files in PEM."""

    ca: Path  #: what a client trusts
    server: Path  #: for localhost, 127.0.0.1 and ::1: chain and key in one file
    other_name: Path  #: for other.example only
    expired: Path  #: for localhost, until yesterday
    self_signed: Path  #: for localhost, by no authority

    def server_context(self, file: Path | None = None) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file or self.server)
        return context


def make_certificates(folder: Path) -> Certificates:
    """Write a CA and its certificates into `folder`."""
    now = datetime.datetime.now(datetime.UTC)
    ca_key, ca_name = ec.generate_private_key(ec.SECP256R1()), _name("Mailward test CA")
    ca = (
        _builder(ca_name, ca_name, ca_key, now - _DAY, now + _DAY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    ca_file = folder / "ca.pem"
    ca_file.write_bytes(ca.public_bytes(serialization.Encoding.PEM))

    def issue(
        file_name: str, names: list[x509.GeneralName], end: datetime.datetime, *, self_signed: bool = False
    ) -> Path:
        key = ec.generate_private_key(ec.SECP256R1())
        issuer = _name(file_name) if self_signed else ca_name
        certificate = (
            _builder(_name(file_name), issuer, key, now - 3 * _DAY, end)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(key if self_signed else ca_key, hashes.SHA256())
        )
        file = folder / f"{file_name}.pem"
        file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM) + _pem(key))
        return file

    localhost: list[x509.GeneralName] = [
        x509.DNSName("localhost"),
        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
        x509.IPAddress(ipaddress.ip_address("::1")),
    ]
    return Certificates(
        ca=ca_file,
        server=issue("server", localhost, now + _DAY),
        other_name=issue("other-name", [x509.DNSName("other.example")], now + _DAY),
        expired=issue("expired", localhost, now - _DAY),
        self_signed=issue("self-signed", localhost, now + _DAY, self_signed=True),
    )


def pin_of(file: Path) -> str:
    """Return the pin of the certificate in `file`, as browsers and we know it: SHA-256 of its public key, base64."""
    key = x509.load_pem_x509_certificate(file.read_bytes()).public_key()
    form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(key.public_bytes(*form)).digest()).decode()


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    start: datetime.datetime,
    end: datetime.datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
