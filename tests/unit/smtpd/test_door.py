"""Who is let in, and what is said to those whose message failed."""

from ipaddress import ip_network

import pytest

from mailward.errors import InvalidArgument, NotFound, PermissionDenied, ResourceExhausted, Unavailable, refusal_reason
from mailward.smtpd.answers import refusal
from mailward.smtpd.door import SmtpdSettings, client_of


@pytest.mark.parametrize(
    ("peername", "expected"),
    [
        (("127.0.0.1", 1), ("127.0.0.1", True)),
        (("192.0.2.1", 1), ("192.0.2.1", False)),
        (("::1", 1, 0, 0), ("::1", True)),
        (("::ffff:127.0.0.1", 1, 0, 0), ("127.0.0.1", True)),
        (("::ffff:192.0.2.1", 1, 0, 0), ("192.0.2.1", False)),
        (("fe80::1%eth0", 1, 0, 2), ("fe80::1", False)),
        (None, ("0.0.0.0", False)),
        ("", ("0.0.0.0", False)),
    ],
)
def test_only_loopback_is_loopback(peername: object, expected: tuple[str, bool]) -> None:
    """Also when IPv4 comes in on an IPv6 socket; a socket without address is trusted with nothing."""
    assert client_of(peername) == expected


@pytest.mark.parametrize(("peer", "is_open"), [("10.1.2.3", True), ("11.1.2.3", False), ("2001:db8::1", False)])
def test_open_networks_submit_without_auth(peer: str, is_open: bool) -> None:
    """Nobody else does."""
    settings = SmtpdSettings(hostname="mx.example", open_networks=(ip_network("10.0.0.0/8"),))

    assert settings.is_open_to(peer) == is_open
    assert not SmtpdSettings(hostname="mx.example").is_open_to(peer)
    assert SmtpdSettings(hostname="mx.example", require_auth=False).is_open_to(peer)


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (Unavailable("T", "t"), "451 4.3.0", "unavailable"),
        (OSError("disk"), "451 4.3.0", "unavailable"),
        (ResourceExhausted("T", "t"), "452 4.3.1", "limit"),
        (PermissionDenied("T", "t"), "550 5.7.1", "permission"),
        (InvalidArgument("T", "t"), "550 5.6.0", "syntax"),
        (NotFound("T", "t"), "550 5.6.0", "syntax"),
    ],
)
def test_a_fault_of_ours_is_never_permanent(error: Exception, code: str, reason: str) -> None:
    """And no word of an unexpected error leaves the house."""
    assert str(refusal(error)).startswith(code)
    assert refusal_reason(error) == reason
    assert "disk" not in str(refusal(error))
