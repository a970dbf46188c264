"""The egress policy: what is denied always, and what the operator adds."""

import pytest

from mailward.transport.policy import address_check


@pytest.mark.parametrize(
    "address",
    ["169.254.169.254", "fe80::1%eth0", "fd00:ec2::254", "0.0.0.0", "::", "224.0.0.1", "ff02::1", "::ffff:169.254.1.1",
     "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1", "168.63.129.16"],
)  # fmt: skip
def test_what_no_mail_server_has_is_denied_always(address: str) -> None:
    assert address_check(())(address, 25) is not None


@pytest.mark.parametrize("address", ["10.1.2.3", "127.0.0.1", "::1", "192.0.2.7", "2001:db8::1", "fd12::1"])
def test_relays_on_private_networks_work_unless_the_operator_says_otherwise(address: str) -> None:
    assert address_check(())(address, 25) is None


def test_the_operator_denies_networks_by_name_or_cidr() -> None:
    check = address_check(("private", "loopback", "192.0.2.0/24"))

    assert [check(a, 25) is None for a in ("10.1.2.3", "::1", "::ffff:127.0.0.1", "192.0.2.7")] == [False] * 4
    assert check("198.51.100.1", 25) is None
    with pytest.raises(ValueError, match="nonsense"):
        address_check(("nonsense",))
