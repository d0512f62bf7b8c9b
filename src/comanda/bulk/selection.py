"""What a filter shows of what can be acted on: sagas that have not ended, and dead letters that are open."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from comanda.accounts import accounts
from comanda.bulk.filters import Filter
from comanda.db import Record, Tx, literally, twin
from comanda.saga.definition import Direction
from comanda.saga.transitions import State
from comanda.saga.verbs import standing_of

_sql = twin(__file__)
MOMENT = _sql["moment"]
PRODUCTS = _sql["products"]
ORDERS = _sql["orders"]
STUCK = _sql["stuck"]
LETTERS = _sql["letters"]
WORTH = _sql["worth"]

MOST = 100_000
"""What one act may be about."""

_NOBODY = UUID(int=0)


@dataclass(frozen=True, slots=True)
class Selected:
    """A saga, or a dead letter and the saga that it is about. Without one it was a message that nobody could read."""

    saga_id: UUID | None
    letter_id: UUID | None
    kind: str | None
    version: int | None
    subject: UUID | None
    state: State | None
    step: str
    direction: Direction

    @property
    def stood(self) -> str:
        return "" if self.state is None else standing_of(self.state, self.step, self.direction)


async def moment(tx: Tx) -> datetime:
    """Up to when everything that was written can be seen: `select` with it finds no more when it is asked again."""
    found: datetime = await MOMENT.value(tx)
    return found


async def select(tx: Tx, wanted: Filter, seen_at: datetime) -> list[Selected]:
    """What matches, oldest first, of what nobody has moved since; one more than `MOST` at the most.

    Args:
        tx: for a read.
        wanted: the filter.
        seen_at: a `moment`; what matches only since then is left out, ages are counted from then.
    """
    return [_selected(row) for row in await _rows(tx, wanted, seen_at)]


async def worth(tx: Tx, selected: Sequence[Selected]) -> tuple[int, list[tuple[int, str]]]:
    """How many orders these are about, and what they are worth: (minor units, currency) each."""
    rows = await WORTH.rows(tx, [one.saga_id for one in selected if one.saga_id is not None])
    return sum(row["orders"] for row in rows), [(row["amount"], row["currency"]) for row in rows]


async def products_like(tx: Tx, text: str, *, since: datetime | None = None) -> list[UUID]:
    """The product of that id, or those that are called so; not those that were changed since."""
    one = _uuid(text)
    return [one] if one else [row["id"] for row in await PRODUCTS.rows(tx, literally(text), since)]


def like(text: str | None) -> str | None:
    """As it stands in a pattern: what is special there means itself."""
    return None if text is None else literally(text)


async def _rows(tx: Tx, wanted: Filter, seen_at: datetime) -> Sequence[Record]:
    error, limit = like(wanted.get("error")), MOST + 1
    match wanted.of:
        case "orders":
            customers = await _customers(tx, wanted.get("q"))
            product = wanted.get("product")
            products = None if product is None else await products_like(tx, product, since=seen_at)
            return await ORDERS.rows(
                tx, seen_at, wanted.age, customers, wanted.get("state"), wanted.get("step"), error, products, limit
            )
        case "stuck":
            return await STUCK.rows(tx, seen_at, wanted.age, wanted.get("kind"), wanted.get("step"), error, limit)
        case "letters":
            return await LETTERS.rows(
                tx, seen_at, wanted.age, wanted.get("fingerprint"), wanted.get("queue"), wanted.get("step"), error,
                limit,
            )  # fmt: skip


async def _customers(tx: Tx, text: str | None) -> list[UUID] | None:
    if text is None:
        return None
    about = _uuid(text)
    (account,) = [None] if about else await accounts.by_email(tx, [text])
    return [about or (account.id if account else _NOBODY)]


def _selected(row: Record) -> Selected:
    return Selected(*row)


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
