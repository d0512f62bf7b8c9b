"""Addresses, networks of them, and what may be said of them: pure rules."""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from yarl import URL

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


def unmapped(address: Address) -> Address:
    """What is behind an IPv4 address that is written as an IPv6 one; any other is itself."""
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def is_within(address: Address, networks: Iterable[Network]) -> bool:
    """Whether one of these networks holds it. A mapped address is of the networks of both ways to write it."""
    ways = {address, unmapped(address)}
    return any(way.version == one.version and way in one for one in networks for way in ways)


def without_address(fault: BaseException, url: str) -> str:
    """What it says, with no more of the address than where it leads: paths, queries and passwords may be secrets.

    Args:
        fault: of a client that was to ask this address. Clients spell it in their own way.
        url: as it was given.
    """
    said = str(fault) or type(fault).__name__
    read = URL(url)
    spellings = {url, str(read), read.human_repr(), str(read.with_user(None))}
    for spelling in sorted(spellings, key=len, reverse=True):
        said = said.replace(spelling, str(read.origin()))
    return said
