"""Where a client is: addresses as sockets, proxies and operators write them."""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

IpAddress = IPv4Address | IPv6Address
IpNetwork = IPv4Network | IPv6Network


def address_of(peer: str) -> IpAddress | None:
    """Return the address in "address:port", "[address]:port" or "address"; None when there is none.

    An IPv4 address that is mapped into IPv6 is itself.
    """
    host = peer[1:].partition("]")[0] if peer.startswith("[") else peer
    if host.count(":") == 1:
        host = host.partition(":")[0]
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def is_in(address: IpAddress, networks: tuple[IpNetwork, ...]) -> bool:
    """Whether one of `networks` has `address`."""
    return any(address in network for network in networks)


def networks(texts: Iterable[str]) -> tuple[IpNetwork, ...]:
    """Return the networks in CIDR notation. Raises ValueError naming the first that is none."""
    return tuple(map(ip_network, texts))
