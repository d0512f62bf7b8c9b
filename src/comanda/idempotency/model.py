"""When two requests are the same: pure rules."""

import hashlib
from dataclasses import dataclass

MOST = 255
"""Characters of a key."""


@dataclass(frozen=True, slots=True)
class Remembered:
    """What was answered under a key, to which body."""

    fingerprint: bytes
    answer: bytes


def fingerprint(canonical: bytes) -> bytes:
    """Of a request's body, written canonically (parsed, fields in a fixed order, without the key itself)."""
    return hashlib.blake2b(canonical, digest_size=16).digest()


def is_key(text: str) -> bool:
    """1 to 255 printable ASCII characters."""
    return 0 < len(text) <= MOST and text.isascii() and text.isprintable()
