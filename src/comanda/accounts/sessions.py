"""Refresh tokens: 32 random bytes, stored hashed, good for one use.

Those that come of one login are a family. Whoever shows a used one again has stolen it, or was stolen from: the whole
family is revoked.
"""

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from comanda.clock import new_id
from comanda.db import Tx, twin

_sql = twin(__file__)
ADD = _sql["add"]
SPEND = _sql["spend"]
REVOKE_REUSED = _sql["revoke_reused"]
REVOKE_FAMILIES = _sql["revoke_families"]
LOCK_OWNERS = _sql["lock_owners"]
REVOKE_ALL = _sql["revoke_all"]
FORGET = _sql["forget"]

_BYTES = 32


@dataclass(frozen=True, slots=True)
class Renewed:
    """The token was good; the next one of its family."""

    account_id: UUID
    token: str


@dataclass(frozen=True, slots=True)
class Stale:
    """Refused: unknown, expired, revoked, or used before (then its family is revoked now)."""


def _hash(token: str) -> bytes:
    # The token is random: nothing would be won by a slow hash.
    return hashlib.sha256(token.encode(errors="surrogatepass")).digest()


async def begin(tx: Tx, account_ids: Sequence[UUID], lifetime: timedelta) -> list[str]:
    """A new family for each login; its first token."""
    return await _add(tx, account_ids, [new_id() for _ in account_ids], lifetime)


async def renew(tx: Tx, tokens: Sequence[str], lifetime: timedelta) -> list[Renewed | Stale]:
    """Use up tokens; each good one is answered by the next of its family.

    What a reuse revokes is part of the transaction: it has to be committed, although the answer is a refusal.
    """
    hashes = [_hash(token) for token in tokens]
    spent = {row["token_hash"]: row for row in await SPEND.rows(tx, hashes)}
    # A token that stands twice in the batch is used twice.
    repeated = [one for one in hashes if one not in spent or hashes.count(one) > 1]
    if repeated:
        await REVOKE_REUSED.run(tx, repeated)
    good = [one for one in hashes if one not in repeated]
    following = await _add(
        tx, [spent[one]["account_id"] for one in good], [spent[one]["family_id"] for one in good], lifetime
    )
    answers = dict(zip(good, following, strict=True))
    return [Renewed(spent[one]["account_id"], answers[one]) if one in answers else Stale() for one in hashes]


async def revoke(tx: Tx, account_id: UUID, tokens: Sequence[str]) -> None:
    """Log out: the families of these tokens, as far as they are that account's. So is a refresh under way."""
    await LOCK_OWNERS.run(tx, [account_id])
    await REVOKE_FAMILIES.run(tx, account_id, [_hash(token) for token in tokens])


async def revoke_all(tx: Tx, account_ids: Sequence[UUID]) -> None:
    """Log out everywhere. A refresh that is under way is waited for, and what it answers is revoked too."""
    await LOCK_OWNERS.run(tx, account_ids)
    await REVOKE_ALL.run(tx, account_ids)


async def forget(tx: Tx, limit: int) -> int:
    """Delete up to so many tokens that expired; how many went."""
    return await FORGET.run(tx, limit)


async def _add(tx: Tx, account_ids: Sequence[UUID], families: Sequence[UUID], lifetime: timedelta) -> list[str]:
    tokens = [secrets.token_urlsafe(_BYTES) for _ in account_ids]
    if tokens:
        await ADD.run(tx, [_hash(token) for token in tokens], account_ids, families, lifetime)
    return tokens
