"""Sessions of the console: a cookie of 32 random bytes, stored hashed, good until it expires or is signed out."""

import hashlib
import secrets
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from comanda.accounts.accounts import Role
from comanda.db import Tx, twin

_sql = twin(__file__)
BEGIN = _sql["begin"]
FIND = _sql["find"]
ROLES = _sql["roles"]
FINISH = _sql["finish"]
FORGET = _sql["forget"]

COOKIE = "comanda_console"
_BYTES = 32


def _hash(token: str) -> bytes:
    # The token is random: nothing would be won by a slow hash.
    return hashlib.sha256(token.encode(errors="surrogatepass")).digest()


async def begin(tx: Tx, account_ids: Sequence[UUID], lifetime: timedelta) -> list[str]:
    """Sign accounts in; the token of each."""
    tokens = [secrets.token_urlsafe(_BYTES) for _ in account_ids]
    await BEGIN.run(tx, [_hash(token) for token in tokens], account_ids, lifetime)
    return tokens


async def find(tx: Tx, tokens: Sequence[str]) -> list[UUID | None]:
    """Whose they are; None for one that is unknown, over or signed out."""
    hashes = [_hash(token) for token in tokens]
    found = {row["token_hash"]: row["account_id"] for row in await FIND.rows(tx, hashes)}
    return [found.get(one) for one in hashes]


async def roles(tx: Tx, tokens: Sequence[str]) -> list[Role | None]:
    """As whom they are signed in by now; None for a session or an account that is good no more."""
    hashes = [_hash(token) for token in tokens]
    found = {row["token_hash"]: row["role"] for row in await ROLES.rows(tx, hashes)}
    return [found.get(one) for one in hashes]


async def finish(tx: Tx, tokens: Sequence[str]) -> None:
    """Sign out."""
    await FINISH.run(tx, [_hash(token) for token in tokens])


async def forget(tx: Tx, limit: int) -> int:
    """Delete up to so many that are over; how many went."""
    return await FORGET.run(tx, limit)
