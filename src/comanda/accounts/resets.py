"""Passwords that somebody says they forgot: written down alike for known and unknown addresses, looked into later."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from comanda.clock import new_id
from comanda.db import Tx, twin

_sql = twin(__file__)
ASK = _sql["ask"]
TAKE = _sql["take"]


@dataclass(frozen=True, slots=True)
class Forgetful:
    """An account that wants a new password."""

    account_id: UUID
    correlation_id: str


async def ask(tx: Tx, asked: Sequence[tuple[str, str]]) -> None:
    """Write down (e-mail, correlation id): the same work whether there is such an account or not."""
    await ASK.run(tx, [new_id() for _ in asked], [email for email, _ in asked], [about for _, about in asked])


async def take(tx: Tx, limit: int) -> tuple[list[Forgetful], bool]:
    """The accounts of the oldest requests, each once, and whether there may be more. The requests are gone."""
    rows = await TAKE.rows(tx, limit)
    found = {row["account_id"]: row["correlation_id"] for row in rows if row["account_id"] is not None}
    return [Forgetful(account_id, about) for account_id, about in found.items()], len(rows) == limit
