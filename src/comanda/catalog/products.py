"""Products: what is sold, and for how much. Money is in integer minor units."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID

import msgspec

from comanda.clock import new_id
from comanda.db import Record, Tx, twin

_sql = twin(__file__)
CREATE = _sql["create"]
FIND = _sql["find"]
LOCKED = _sql["locked"]
LOCKED_SKUS = _sql["locked_skus"]
SHARED_CATEGORIES = _sql["shared_categories"]
OF_SKUS = _sql["of_skus"]
REWRITE = _sql["rewrite"]
DELETE = _sql["delete"]
SET_ACTIVE = _sql["set_active"]
PRICES = _sql["prices"]
PAGE = _sql["page"]
COUNT = _sql["count"]
SEARCH = _sql["search"]
LIKENED = _sql["likened"]
VERSION = _sql["version"]

_MOST_WORDS = 8
_WORD = re.compile(r"[^\W_]+")
_ESCAPED = re.compile(r"[\\%_]")

Status = Literal["active", "inactive", "all", "deleted"]
SortBy = Literal["createdAt", "updatedAt", "name", "sku", "brand", "price"]
SortOrder = Literal["asc", "desc"]


@dataclass(frozen=True, slots=True)
class Draft:
    """A product to be made."""

    name: str
    sku: str
    price: int
    currency: str = "USD"
    description: str | None = None
    brand: str | None = None
    tags: Sequence[str] = ()
    images: Sequence[str] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)
    category_id: UUID | None = None
    weight: float | None = None
    cost_price: int | None = None
    compare_at_price: int | None = None
    track_inventory: bool = True
    minimum_stock: int = 0
    is_active: bool = True
    id: UUID = field(default_factory=new_id)


@dataclass(frozen=True, slots=True)
class Product:
    """A stored product."""

    id: UUID
    sku: str
    name: str
    description: str | None
    brand: str | None
    tags: Sequence[str]
    images: Sequence[str]
    attributes: Mapping[str, Any]
    category_id: UUID | None
    weight: float | None
    price: int
    currency: str
    cost_price: int | None
    compare_at_price: int | None
    track_inventory: bool
    minimum_stock: int
    is_active: bool
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None


@dataclass(frozen=True, slots=True)
class SkuTaken:
    """Refused: a product that is not deleted has that SKU."""

    sku: str


@dataclass(frozen=True, slots=True)
class CategoryUnknown:
    """Refused: there is no category with that id, or no more."""

    category_id: UUID


@dataclass(frozen=True, slots=True)
class Upserted:
    """A product as it was wished for, and what that took."""

    product_id: UUID
    how: Literal["created", "changed", "unchanged"]


@dataclass(frozen=True, slots=True)
class Incomplete:
    """Refused: a product that is new needs these fields."""

    missing: Sequence[str]


@dataclass(frozen=True, slots=True)
class Filter:
    """Which products, in which order. None: whatever it is. `tags`: with at least one of these."""

    search: str | None = None
    brand: str | None = None
    status: Status = "active"
    min_price: int | None = None
    max_price: int | None = None
    on_sale: bool | None = None
    tags: Sequence[str] = ()
    sort_by: SortBy = "createdAt"
    sort_order: SortOrder = "desc"


def _product(row: Record) -> Product:
    fields = dict(row)
    fields.pop("total", None)
    fields["images"] = msgspec.json.decode(fields["images"])
    fields["attributes"] = msgspec.json.decode(fields["attributes"])
    fields["weight"] = None if fields["weight"] is None else float(fields["weight"])
    return Product(**fields)


def _columns(products: Sequence[Draft | Product]) -> list[list[Any]]:
    """As `create` and `rewrite` take them, from `$2` on."""
    return [
        [one.name for one in products],
        [one.description for one in products],
        [one.brand for one in products],
        [_json(list(one.tags)) for one in products],
        [_json(list(one.images)) for one in products],
        [_json(one.attributes) for one in products],
        [one.category_id for one in products],
        [None if one.weight is None else Decimal(str(one.weight)) for one in products],
        [one.price for one in products],
        [one.currency for one in products],
        [one.cost_price for one in products],
        [one.compare_at_price for one in products],
        [one.track_inventory for one in products],
        [one.minimum_stock for one in products],
        [one.is_active for one in products],
    ]


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


async def create(tx: Tx, drafts: Sequence[Draft]) -> list[Product | SkuTaken | CategoryUnknown]:
    """Make products. Of two with one SKU the first is made."""
    unknown = await _unknown_categories(tx, [one.category_id for one in drafts])
    made = await _made(tx, [one for one in drafts if one.category_id not in unknown])
    return [unknown.get(one.category_id) or made.get(one.id) or SkuTaken(one.sku) for one in drafts]


async def _made(tx: Tx, drafts: Sequence[Draft]) -> dict[UUID, Product]:
    rows = await CREATE.rows(tx, [one.id for one in drafts], *_columns(drafts), [one.sku for one in drafts])
    return {row["id"]: _product(row) for row in rows}


async def _unknown_categories(tx: Tx, wanted: Sequence[UUID | None]) -> dict[UUID | None, CategoryUnknown]:
    ids = {one for one in wanted if one is not None}
    known = {row["id"] for row in await SHARED_CATEGORIES.rows(tx, list(ids))} if ids else set()
    return {one: CategoryUnknown(one) for one in ids - known}


async def find(tx: Tx, ids: Sequence[UUID]) -> list[Product | None]:
    """Products by their ids; None where there is none, or no more."""
    found = {row["id"]: _product(row) for row in await FIND.rows(tx, ids)}
    return [found.get(one) for one in ids]


async def locked(tx: Tx, ids: Sequence[UUID]) -> list[Product | None]:
    """The same, and nobody else changes them before the transaction ends."""
    found = {row["id"]: _product(row) for row in await LOCKED.rows(tx, ids)}
    return [found.get(one) for one in ids]


async def change(tx: Tx, changes: Sequence[tuple[UUID, Mapping[str, Any]]]) -> list[Product | CategoryUnknown | None]:
    """Set some fields of products (by the names of `Product`); None where there is none.

    The SKU is how other systems know a product: it never changes. Later changes of the same product win.
    """
    standing = {row["id"]: _product(row) for row in await LOCKED.rows(tx, [one for one, _ in changes])}
    unknown = await _unknown_categories(tx, [fields.get("category_id") for _, fields in changes])
    refusals = [unknown.get(fields.get("category_id")) for _, fields in changes]
    for (product_id, fields), refusal in zip(changes, refusals, strict=True):
        if product_id in standing and refusal is None:
            standing[product_id] = replace(standing[product_id], **fields)
    products = list(standing.values())
    rows = await REWRITE.rows(tx, [one.id for one in products], *_columns(products))
    written = {row["id"]: _product(row) for row in rows}
    return [
        (refusal or written[product_id]) if product_id in written else None
        for (product_id, _), refusal in zip(changes, refusals, strict=True)
    ]


async def upsert(
    tx: Tx, wishes: Sequence[tuple[str, Mapping[str, Any]]]
) -> list[Upserted | Incomplete | CategoryUnknown]:
    """Make products, or set some fields of those that there are, by their SKUs (fields by the names of `Product`).

    Each as if it had come alone, in the order given: of two with one SKU the second changes what the first has made.
    """
    rows = await LOCKED_SKUS.rows(tx, [sku for sku, _ in wishes])
    before: dict[str, Draft | Product] = {row["sku"]: _product(row) for row in rows}
    standing = dict(before)
    unknown = await _unknown_categories(tx, [fields.get("category_id") for _, fields in wishes])
    answers: list[Upserted | Incomplete | CategoryUnknown] = []
    for sku, fields in wishes:
        refusal = unknown.get(fields.get("category_id"))
        if refusal is not None:
            answers.append(refusal)
            continue
        was = standing.get(sku)
        if was is None:
            missing = [name for name in ("name", "price") if name not in fields]
            if missing:
                answers.append(Incomplete(missing))
                continue
            made = Draft(sku=sku, **fields)
            standing[sku] = made
            answers.append(Upserted(made.id, "created"))
            continue
        standing[sku] = replace(was, **fields)
        answers.append(Upserted(was.id, "unchanged" if _is_same(was, standing[sku]) else "changed"))
    # Who makes products waits for SKUs first and for the catalogue's version last: whoever has changed some holds the
    # version, and would wait for the SKUs of somebody who waits for it.
    drafts = [one for one in standing.values() if isinstance(one, Draft)]
    made_now = await _made(tx, drafts) if drafts else {}
    # A statement that changes nothing would still count as a change of the catalogue.
    changed = [one for sku, one in standing.items() if sku in before and not _is_same(before[sku], one)]
    if changed:
        await REWRITE.rows(tx, [one.id for one in changed], *_columns(changed))
    taken = {one.sku for one in drafts if one.id not in made_now}
    # Somebody else has made those meanwhile: they are there to be changed now.
    again = [position for position, (sku, _) in enumerate(wishes) if sku in taken]
    for position, answer in zip(again, await upsert(tx, [wishes[one] for one in again]) if again else [], strict=True):
        answers[position] = answer
    return answers


def _is_same(was: Draft | Product, now: Draft | Product) -> bool:
    """JSON knows that true is not 1."""
    return was == now and _sorted_json(was.attributes) == _sorted_json(now.attributes)


def _sorted_json(value: Any) -> bytes:
    return msgspec.json.encode(value, order="sorted")


async def of_skus(tx: Tx, skus: Sequence[str]) -> list[UUID | None]:
    """The products with these SKUs; None where there is none."""
    found = {row["sku"]: row["id"] for row in await OF_SKUS.rows(tx, skus)}
    return [found.get(one) for one in skus]


async def delete(tx: Tx, ids: Sequence[UUID]) -> list[bool]:
    """Take products off the catalogue; what was sold keeps its name and price. False where there was none."""
    gone = {row["id"] for row in await DELETE.rows(tx, ids)}
    return [one in gone for one in ids]


async def set_active(tx: Tx, ids: Sequence[UUID], *, is_active: bool) -> list[Product | None]:
    """Put products on sale, or off it; None where there is none."""
    found = {row["id"]: _product(row) for row in await SET_ACTIVE.rows(tx, ids, is_active)}
    return [found.get(one) for one in ids]


async def prices(tx: Tx, ids: Sequence[UUID]) -> list[Record]:
    """`id, price, currency, sku, name, is_active` of those that exist."""
    return await PRICES.rows(tx, ids)


async def page(tx: Tx, filter_: Filter, *, number: int, limit: int) -> tuple[list[Product], int]:
    """One page (from 1) of the products that the filter lets through, and how many these are in all.

    `tx` is of `LISTS`: each order of a list has an index, and a plan of its own.
    """
    wanted = (
        f"%{_ESCAPED.sub(_escape, filter_.search.lower())}%" if filter_.search else None,
        filter_.brand,
        filter_.status,
        filter_.min_price,
        filter_.max_price,
        filter_.on_sale,
        list(filter_.tags) or None,
    )
    total: int = await COUNT.value(tx, *wanted)
    rows = await PAGE.rows(tx, *wanted, filter_.sort_by, filter_.sort_order == "desc", limit, (number - 1) * limit)
    return [_product(row) for row in rows], total


async def search(tx: Tx, text: str, *, number: int, limit: int) -> tuple[list[Product], int]:
    """Products on sale that are called so, or of which it is said; where there is none, words are read as their likes.

    Words may be cut short, in English or Spanish, and come in any order. `tx` is of `LISTS`.

    Returns:
        One page (from 1), the best first, and how many were found, looking at 500 at the most.
    """
    words = _WORD.findall(text.lower())[:_MOST_WORDS]
    if not words:
        return [], 0
    found, total = await _found(tx, [[word] for word in words], number, limit)
    return (found, total) if total else await _found(tx, await _put_right(tx, words), number, limit)


async def _put_right(tx: Tx, words: Sequence[str]) -> list[list[str]]:
    """What each word may stand for: itself, and where no product is called so, what looks like it."""
    likes = {row["word"]: row["likes"] for row in await LIKENED.rows(tx, words)}
    return [[word, *(like for like in likes.get(word, ()) if _WORD.fullmatch(like))] for word in words]


async def _found(tx: Tx, places: Sequence[Sequence[str]], number: int, limit: int) -> tuple[list[Product], int]:
    """A page of those that have one of the words of each place, and how many there are in all."""
    words = [(word, at) for at, place in enumerate(places) for word in place]
    rows = await SEARCH.rows(tx, [one for one, _ in words], [at for _, at in words], limit, (number - 1) * limit)
    return [_product(row) for row in rows if row["id"]], rows[0]["total"]


async def version(tx: Tx) -> int:
    """Of the catalogue: who sees it sees all changes that were committed with it."""
    found: int = await VERSION.value(tx)
    return found


def _escape(sign: re.Match[str]) -> str:
    return f"\\{sign[0]}"
