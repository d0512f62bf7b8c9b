"""Access tokens: JWTs, HS256 and nothing else, with every claim required."""

import time
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import jwt

from comanda.accounts.accounts import ROLES
from comanda.clock import new_id
from comanda.errors import ConfigurationFault

ALGORITHM = "HS256"
ISSUER = "comanda"
AUDIENCE = "comanda-api"
TYPE = "access"
_REQUIRED = ["sub", "role", "type", "iss", "aud", "iat", "exp", "jti"]
_HEADER = {"alg": ALGORITHM, "typ": "JWT"}
_SHORTEST_KEY = 32
_LONGEST = 2048
_CACHED = 20_000


@dataclass(frozen=True, slots=True)
class Claims:
    """What a good token says; `expires_at` in seconds since the epoch.

    `is_verified`: the account's e-mail was verified when the token was issued.
    """

    account_id: UUID
    role: str
    expires_at: float
    is_verified: bool = False


def issue(key: str, account_id: UUID, role: str, lifetime: timedelta, *, is_verified: bool = False) -> str:
    """A token for an account."""
    now = int(time.time())
    claims = {
        "sub": str(account_id),
        "role": role,
        "verified": is_verified,
        "type": TYPE,
        "iss": ISSUER,
        "aud": AUDIENCE,
        "iat": now,
        "exp": now + int(lifetime.total_seconds()),
        "jti": str(new_id()),
    }
    return jwt.encode(claims, key, algorithm=ALGORITHM)


def decode(key: str, token: str) -> Claims | None:
    """What the token says; None when anything about it is wrong."""
    if len(token) > _LONGEST:
        return None
    try:
        # The clocks of several machines differ: what counts is `exp`, not that another machine's `iat` is past.
        read = jwt.decode_complete(
            token,
            key,
            algorithms=[ALGORITHM],
            issuer=ISSUER,
            audience=AUDIENCE,
            options={"require": _REQUIRED, "verify_iat": False, "strict_aud": True},
        )
        claims = read["payload"]
        # No `kid`, `jku`, `x5u` or `crit`: Comanda writes none, so it reads none.
        if read["header"] != _HEADER or claims["type"] != TYPE or claims["role"] not in ROLES:
            return None
        return Claims(UUID(claims["sub"]), claims["role"], float(claims["exp"]), claims.get("verified") is True)
    except (jwt.InvalidTokenError, ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        return None


class Bearer:
    """Reads `Authorization` headers. A token that comes again costs a look into a dictionary.

    Args:
        key: of HS256, 32 bytes or more.

    Raises:
        ConfigurationFault: the key is too short.
    """

    def __init__(self, key: str) -> None:
        if len(key.encode()) < _SHORTEST_KEY:
            raise ConfigurationFault(f"COMANDA_SECRET_KEY must have at least {_SHORTEST_KEY} bytes")
        self._key = key
        self._known: dict[bytes, Claims] = {}

    def claims(self, authorization: bytes | None) -> Claims | None:
        """Whose token it is; None without a good one. That the account is still enabled, the database says."""
        if authorization is None:
            return None
        known = self._known.get(authorization)
        if known is not None:
            if known.expires_at > time.time():
                return known
            del self._known[authorization]
            return None
        read = self._read(authorization)
        if read is not None:
            if len(self._known) >= _CACHED:
                del self._known[next(iter(self._known))]
            self._known[authorization] = read
        return read

    def issue(self, account_id: UUID, role: str, lifetime: timedelta, *, is_verified: bool = False) -> str:
        """A token that this reads."""
        return issue(self._key, account_id, role, lifetime, is_verified=is_verified)

    def _read(self, authorization: bytes) -> Claims | None:
        scheme, _, token = authorization.partition(b" ")
        if scheme.lower() != b"bearer" or not token.isascii():
            return None
        return decode(self._key, token.decode("ascii"))
