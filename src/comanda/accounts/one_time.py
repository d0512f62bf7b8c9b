"""Tokens that mails carry: good once, for one purpose, for a while. A new one voids those before it.

A token is derived from its id and SECRET_KEY. So a mail that waits to be sent need not hold it, and the database knows
its hash alone.
"""

import base64
import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal
from uuid import UUID

from comanda.clock import new_id
from comanda.db import Tx, twin
from comanda.errors import ConfigurationFault

_sql = twin(__file__)
LOCK_OWNERS = _sql["lock_owners"]
ADD = _sql["add"]
OWNERS = _sql["owners"]
SPEND = _sql["spend"]
VOID = _sql["void"]
FORGET = _sql["forget"]

Purpose = Literal["verify_email", "reset_password"]
# The templates of the mails say so too.
LIFETIMES: dict[Purpose, timedelta] = {"verify_email": timedelta(days=2), "reset_password": timedelta(hours=1)}


class OneTime:
    """Makes tokens of ids.

    Args:
        key: SECRET_KEY.
    """

    def __init__(self, key: str) -> None:
        self._key = key.encode()

    def token(self, token_id: UUID) -> str:
        """The token; the same one for the same id.

        Raises:
            ConfigurationFault: there is no key.
        """
        if not self._key:
            raise ConfigurationFault("COMANDA_SECRET_KEY is not set: what account mails carry is made of it")
        made = hmac.digest(self._key, b"comanda one-time token " + token_id.bytes, hashlib.sha256)
        return base64.urlsafe_b64encode(made).rstrip(b"=").decode()


@dataclass(frozen=True, slots=True)
class NotGood:
    """Refused: unknown, expired, used, voided, of another purpose, or of an account that is not active."""


def _hash(token: str) -> bytes:
    # 256 bits that nobody can guess: nothing would be won by a slow hash.
    return hashlib.sha256(token.encode(errors="surrogatepass")).digest()


async def issue(tx: Tx, one_time: OneTime, account_ids: Sequence[UUID], purpose: Purpose) -> list[UUID]:
    """A token for each account, each of which may stand there once; the tokens' ids. Older ones are void."""
    await LOCK_OWNERS.run(tx, account_ids)
    await VOID.run(tx, account_ids, purpose)
    ids = [new_id() for _ in account_ids]
    hashes = [_hash(one_time.token(one)) for one in ids]
    await ADD.run(tx, ids, hashes, account_ids, purpose, LIFETIMES[purpose])
    return ids


async def owners(tx: Tx, tokens: Sequence[str], purpose: Purpose) -> list[UUID | NotGood]:
    """Whose these tokens are, as long as they are good. Nothing is used up."""
    hashes = [_hash(token) for token in tokens]
    found: dict[bytes, UUID] = {row["token_hash"]: row["account_id"] for row in await OWNERS.rows(tx, hashes, purpose)}
    return [found.get(one) or NotGood() for one in hashes]


async def spend(tx: Tx, tokens: Sequence[str], purpose: Purpose) -> list[UUID | NotGood]:
    """Use up tokens; whose they were. One that stands there twice is good once."""
    hashes = [_hash(token) for token in tokens]
    spent: dict[bytes, UUID] = {row["token_hash"]: row["account_id"] for row in await SPEND.rows(tx, hashes, purpose)}
    return [spent.pop(one) if one in spent else NotGood() for one in hashes]


async def void(tx: Tx, account_ids: Sequence[UUID], purpose: Purpose | None = None) -> None:
    """Nothing that was sent to these accounts, or nothing for that purpose, is good any more."""
    await VOID.run(tx, account_ids, purpose)


async def forget(tx: Tx, limit: int) -> int:
    """Delete up to so many tokens that expired; how many went."""
    return await FORGET.run(tx, limit)
