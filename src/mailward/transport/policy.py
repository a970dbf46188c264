"""Which addresses providers may have: what no mail server can be is denied always, the rest as the operator says."""

import ipaddress
from collections.abc import Sequence

from mailward.transport.egress import AddressCheck

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_NAMED = {
    "loopback": ("127.0.0.0/8", "::1/128"),
    "private": ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7"),
}
#: Unspecified, link-local, multicast, broadcast, and the clouds' metadata services.
_ALWAYS = (
    "0.0.0.0/8", "::/128", "169.254.0.0/16", "fe80::/10", "224.0.0.0/4", "ff00::/8", "255.255.255.255/32",
    "fd00:ec2::/32", "100.100.100.200/32", "192.0.0.192/32", "168.63.129.16/32",
)  # fmt: skip
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def networks(names: Sequence[str]) -> list[_Network]:
    """Return the networks that "private", "loopback" and CIDR texts mean. Raises ValueError."""
    return [ipaddress.ip_network(text) for name in names for text in _NAMED.get(name, (name,))]


def address_check(denied: Sequence[str]) -> AddressCheck:
    """Return the check that denies `denied` (see `networks`) and what is denied always. Raises ValueError."""
    refused = networks((*_ALWAYS, *denied))

    def check(address: str, port: int) -> str | None:
        ip = _inner(ipaddress.ip_address(address.partition("%")[0]))
        if any(ip.version == network.version and ip in network for network in refused):
            return "the egress policy denies this address"
        return None

    return check


def _inner(ip: _Address) -> _Address:
    """Return the IPv4 address that an IPv6 address only wraps."""
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return ip.ipv4_mapped
        if ip.sixtofour is not None:
            return ip.sixtofour
        if ip in _NAT64:
            return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip
