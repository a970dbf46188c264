"""TLS towards relays: one verifying context, and what its failures mean."""

import hashlib
import os
import ssl
import tempfile
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mailward.transport.base import RelaySettings
from mailward.transport.outcome import Stage
from mailward.transport.trouble import Trouble, local

_NAME_MISMATCH = frozenset({62, 64})  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
_OUT_OF_DATE = frozenset({9, 10})  # X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED
_TOO_OLD = frozenset({"TLSV1_ALERT_PROTOCOL_VERSION", "UNSUPPORTED_PROTOCOL"})
#: Alerts about the certificate that we showed, or did not; with TLS 1.3 they come after our side of the handshake.
_CLIENT_CERTIFICATE = frozenset({
    "TLSV13_ALERT_CERTIFICATE_REQUIRED", "TLSV1_ALERT_UNKNOWN_CA", "TLSV1_ALERT_ACCESS_DENIED",
    "SSLV3_ALERT_BAD_CERTIFICATE", "SSLV3_ALERT_CERTIFICATE_UNKNOWN", "SSLV3_ALERT_CERTIFICATE_EXPIRED",
})  # fmt: skip
_SPOKEN = frozenset({
    "tls_untrusted_certificate", "tls_name_mismatch", "tls_certificate_expired", "tls_version_unsupported",
    "tls_client_certificate_refused",
})  # fmt: skip
_NOT_TLS = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "UNKNOWN_PROTOCOL", "PACKET_LENGTH_TOO_LONG"})


def client_context(ca_file: str = "") -> ssl.SSLContext:
    """Return a context that checks chain and name by the system's roots and those in `ca_file` (PEM).

    Raises OSError or ssl.SSLError when the file cannot be used. Reads files: not on the event loop.
    """
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca_file:
        context.load_verify_locations(cafile=ca_file)
    return context


def relay_context(settings: RelaySettings) -> ssl.SSLContext:
    """Return the context for a relay: with a pin, whoever holds the pinned key is trusted (see `check_pin`).

    Raises OSError or ssl.SSLError when what is set cannot be used. Reads files: not on the event loop.
    """
    context = client_context(settings.ca_file)
    if settings.ca_bundle:
        context.load_verify_locations(cadata=settings.ca_bundle)
    if settings.pins:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if settings.client_certificate and settings.client_key:
        # The ssl module takes a chain only from a file. This one is seen by nobody else, and is gone at once.
        fd, path = tempfile.mkstemp()
        try:
            with os.fdopen(fd, "w") as file:
                file.write(f"{settings.client_key.reveal()}\n{settings.client_certificate}\n")
            context.load_cert_chain(path)
        finally:
            Path(path).unlink()
    return context


def check_pin(certificate: bytes | None, pins: tuple[str, ...]) -> None:
    """Raise Trouble unless the key of the DER `certificate` that a server showed is one of `pins`; none: all are."""
    if not pins:
        return
    key = x509.load_der_x509_certificate(certificate or b"").public_key()
    digest = hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()
    if digest not in pins:
        raise local(Stage.TLS, "tls_pin_mismatch", "4.7.5", f"the key of the server's certificate is sha256:{digest}")


def handshake_trouble(error: Exception, *, starttls: bool = False) -> Trouble:
    """Return what a failed handshake means; `starttls`: the server had agreed to it."""
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in _NAME_MISMATCH:
            return local(Stage.TLS, "tls_name_mismatch", "4.7.5", error.verify_message.lower().rstrip("."))
        if error.verify_code in _OUT_OF_DATE:
            return local(Stage.TLS, "tls_certificate_expired", "4.7.5", error.verify_message.lower())
        return local(Stage.TLS, "tls_untrusted_certificate", "4.7.5", error.verify_message.lower())
    if isinstance(error, ssl.SSLError) and error.reason in _NOT_TLS and not starttls:
        return local(Stage.TLS, "tls_port_speaks_plain", "4.7.5", "the server answered, but not in TLS")
    if isinstance(error, TimeoutError):
        return local(Stage.TLS, "tls_timeout", "4.4.2", "the TLS handshake took too long")
    if isinstance(error, ssl.SSLError) and error.reason in _TOO_OLD:
        return local(Stage.TLS, "tls_version_unsupported", "4.7.5", "the server does not speak TLS 1.2 or later")
    if isinstance(error, ssl.SSLError) and error.reason in _CLIENT_CERTIFICATE:
        words = f"the server said: {error.reason.partition('_ALERT_')[2].lower().replace('_', ' ')}"
        return local(Stage.TLS, "tls_client_certificate_refused", "4.7.5", words)
    reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or "connection closed"
    words = str(reason).lower().replace("_", " ")
    return local(Stage.TLS, "tls_handshake_failed", "4.7.5", f"TLS handshake failed: {words}")


def speaks_tls(trouble: Trouble) -> bool:
    """Return whether a failed handshake proves that the other side speaks TLS."""
    return trouble.code in _SPOKEN
