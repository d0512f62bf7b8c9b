"""What a receiver can verify, and where nothing is ever sent: pure rules."""

import base64
import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address
from urllib.parse import urlsplit

from comanda.networks import Address, Network, is_within, unmapped
from comanda.sentences import Sentence

SCHEDULE_SECONDS = (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
"""Waits between attempts, as the Standard Webhooks specification proposes."""

TEST = "webhook.test"
TOLERANCE_SECONDS = 300
"""How old a signature may be, or how far ahead, where it is verified."""

_PREFIX = "whsec_"
_LONGEST = 2000
# Addresses that stand for others: what is behind them is not looked at.
_TUNNELS = (
    IPv6Network("64:ff9b::/96"),
    IPv6Network("64:ff9b:1::/48"),
    IPv6Network("2002::/16"),
    IPv6Network("2001::/32"),
    IPv4Network("192.88.99.0/24"),
)
# All that is given out of IPv6 for the public; what else there is leads elsewhere, or may do so one day.
_PUBLIC = (IPv4Network("0.0.0.0/0"), IPv6Network("2000::/3"))
# A name whose last part is a number is an address to some who read it, in octal, hexadecimal or with parts left out.
_NAME = re.compile(r"(?!.*(?:^|\.)(?:\d+|0x[0-9a-f]*)\.?$)[a-z0-9_](?:[a-z0-9._-]*[a-z0-9_.])?")


def shown(secret: bytes) -> str:
    """A secret as its owner is told it, once."""
    return _PREFIX + base64.b64encode(secret).decode()


def signature(secrets: Sequence[bytes], message_id: str, timestamp: int, body: bytes) -> str:
    """The header `webhook-signature`: one for each secret (https://www.standardwebhooks.com)."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    return " ".join(
        "v1," + base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode() for secret in secrets
    )


def is_signed(secret: bytes, headers: Mapping[str, str], body: bytes, now: float) -> bool:
    """Whether a receiver may believe it: one of its signatures is of that secret, and of these minutes.

    Args:
        secret: as it is, not as it is shown.
        headers: by their names in small letters.
        body: as it came.
        now: seconds since 1970.
    """
    message_id, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if (
        not (message_id + timestamp).isascii()
        or not timestamp.isdigit()
        or abs(now - int(timestamp)) > TOLERANCE_SECONDS
    ):
        return False
    right = signature([secret], message_id, int(timestamp), body).encode()
    given = headers.get("webhook-signature", "").encode(errors="replace").split()
    return any(hmac.compare_digest(right, one) for one in given)


def unshown(secret: str) -> bytes:
    """What was `shown`."""
    return base64.b64decode(secret.removeprefix(_PREFIX))


def wrong_url(url: str, allowed: Iterable[Network]) -> str | None:
    """Why nothing may be sent there, as far as it can be seen without asking; None: it may."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return "This is no URL"
    if parts.scheme not in {"http", "https"} or not host or len(url) > _LONGEST or not url.isprintable():
        return "This is no http or https URL"
    if not host.isascii():
        return "Its name has letters that others read as other ones: write it in Punycode (xn--…)"
    if parts.username is not None or parts.password is not None:
        return "It must not hold credentials: verify the signature instead"
    if parts.fragment:
        return "It must not have a fragment"
    if port == 0:
        return "There is no port 0"
    try:
        address = ip_address(host)
    except ValueError:
        if not _NAME.fullmatch(host):
            return "Its host is neither a name nor an address"
        return None
    return wrong_address(address, allowed)


def wrong_address(address: Address, allowed: Iterable[Network]) -> str | None:
    """Why nothing is sent to an address; None: it is public, or a network that is allowed by setting."""
    if is_within(address, allowed):
        return None
    address = unmapped(address)
    if is_within(address, _TUNNELS):
        return Sentence("{address} leads somewhere else", address=address)
    if not address.is_global or address.is_multicast or not is_within(address, _PUBLIC):
        return Sentence(
            "{address} is not public: COMANDA_WEBHOOK_NETWORKS allows networks of your own", address=address
        )
    return None
