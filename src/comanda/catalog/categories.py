"""Categories: the catalogue's tree."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from comanda.catalog import tree
from comanda.clock import new_id
from comanda.db import Record, Tx, twin
from comanda.sentences import Sentence

_sql = twin(__file__)
LOCK_TREE = _sql["lock_tree"]
CREATE = _sql["create"]
FIND = _sql["find"]
LOCKED = _sql["locked"]
FIND_BY_SLUG = _sql["find_by_slug"]
LIVING = _sql["living"]
PAGE = _sql["page"]
COUNT = _sql["count"]
REWRITE = _sql["rewrite"]
SET_ACTIVE = _sql["set_active"]
LOCK = _sql["lock"]
IN_USE = _sql["in_use"]
DELETE = _sql["delete"]

_DEEPEST = 16


@dataclass(frozen=True, slots=True)
class Draft:
    """A category to be made, or how it is to be."""

    name: str
    slug: str
    description: str | None = None
    parent_id: UUID | None = None
    position: int = 0
    is_active: bool = True
    id: UUID = field(default_factory=new_id)


@dataclass(frozen=True, slots=True)
class Category:
    """A stored category."""

    id: UUID
    slug: str
    name: str
    description: str | None
    parent_id: UUID | None
    position: int
    is_active: bool
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Refused:
    """Why nothing was done, by its stable code."""

    code: str
    detail: str


async def create(tx: Tx, drafts: Sequence[Draft]) -> list[Category | Refused]:
    """Make categories; each as it is now, or why not."""
    await LOCK_TREE.run(tx)
    parents = _parents(await living(tx))
    refusals = {one.id: why for one in drafts if (why := _misplaced(parents, one)) is not None}
    fitting = [one for one in drafts if one.id not in refusals]
    made = {row["id"]: Category(**row) for row in await CREATE.rows(tx, *_columns(fitting))}
    return [refusals.get(one.id) or made.get(one.id) or _taken(one) for one in drafts]


async def change(tx: Tx, drafts: Sequence[Draft]) -> list[Category | Refused | None]:
    """Put each in the place of the category with its id, moved below another one too; None: there is none."""
    await LOCK_TREE.run(tx)
    known = {one.id: one for one in await living(tx)}
    parents = _parents(known.values())
    slugs = {one.slug: one.id for one in known.values()}
    refusals: dict[UUID, Refused] = {}
    fitting: list[Draft] = []
    for one in drafts:
        if one.id not in known:
            continue
        why = _misplaced(parents, one) or (_taken(one) if slugs.get(one.slug, one.id) != one.id else None)
        if why is not None:
            refusals[one.id] = why
            continue
        # The next one is judged by where this one stands now.
        parents[one.id], slugs[one.slug] = one.parent_id, one.id
        fitting.append(one)
    changed = {row["id"]: Category(**row) for row in await REWRITE.rows(tx, *_columns(fitting))}
    return [None if one.id not in known else refusals.get(one.id) or changed.get(one.id) for one in drafts]


async def find(tx: Tx, ids: Sequence[UUID]) -> list[Category | None]:
    """Those that are there."""
    found = {row["id"]: Category(**row) for row in await FIND.rows(tx, ids)}
    return [found.get(one) for one in ids]


async def locked(tx: Tx, ids: Sequence[UUID]) -> list[Category | None]:
    """The same, and nobody else changes them before the transaction ends."""
    await LOCK_TREE.run(tx)  # before any row, as whoever moves one does
    found = {row["id"]: Category(**row) for row in await LOCKED.rows(tx, ids)}
    return [found.get(one) for one in ids]


async def find_by_slug(tx: Tx, slugs: Sequence[str]) -> list[Category | None]:
    """Those that are there."""
    found = {row["slug"]: Category(**row) for row in await FIND_BY_SLUG.rows(tx, slugs)}
    return [found.get(one) for one in slugs]


async def living(tx: Tx) -> list[Category]:
    """All that are not deleted, in the order of their position and name."""
    return [Category(**row) for row in await LIVING.rows(tx)]


async def page(
    tx: Tx, *, is_active: bool | None, parent_id: UUID | None, search: str | None, number: int, limit: int
) -> tuple[list[Category], int]:
    """One page of them, and how many there are in all."""
    rows = await PAGE.rows(tx, is_active, parent_id, search, (number - 1) * limit, limit)
    total = rows[0]["total"] if rows else await COUNT.value(tx, is_active, parent_id, search)
    return [_category(row) for row in rows], total


async def set_active(tx: Tx, ids: Sequence[UUID], *, is_active: bool) -> list[Category | None]:
    """Show or hide them."""
    found = {row["id"]: Category(**row) for row in await SET_ACTIVE.rows(tx, ids, is_active)}
    return [found.get(one) for one in ids]


async def delete(tx: Tx, ids: Sequence[UUID]) -> list[Refused | bool]:
    """Delete those that hold nothing; whether each was there."""
    await LOCK_TREE.run(tx)
    await LOCK.run(tx, ids)
    used = {row["id"]: row for row in await IN_USE.rows(tx, ids)}
    refusals = {
        one: Refused(
            "CATEGORY_IN_USE",
            Sentence(
                "Move or delete what is in it first: {categories} categories, {products} products.",
                categories=row["categories"],
                products=row["products"],
            ),
        )
        for one, row in used.items()
        if row["categories"] or row["products"]
    }
    gone = {row["id"] for row in await DELETE.rows(tx, [one for one in ids if one not in refusals])}
    return [refusals.get(one) or one in gone for one in ids]


def _misplaced(parents: tree.Parents, draft: Draft) -> Refused | None:
    if draft.parent_id is None:
        return None
    if draft.parent_id not in parents:
        return Refused(
            "CATEGORY_UNKNOWN", Sentence("No such category to stand below: {parent}", parent=draft.parent_id)
        )
    if tree.makes_a_ring(parents, [(draft.id, draft.parent_id)]):
        return Refused("CATEGORY_RING", "It would stand below itself: move it elsewhere, or what is below it first.")
    is_moved = parents.get(draft.id) != draft.parent_id
    depth = len(tree.path(parents, draft.parent_id)) + tree.height(parents, draft.id)
    if is_moved and depth > _DEEPEST:
        return Refused("CATEGORY_TOO_DEEP", Sentence("Categories stand {most} deep at the most.", most=_DEEPEST))
    return None


def _taken(draft: Draft) -> Refused:
    return Refused("SLUG_TAKEN", Sentence("There is a category with the slug {slug}.", slug=draft.slug))


def _parents(categories: Iterable[Category]) -> dict[UUID, UUID | None]:
    return {one.id: one.parent_id for one in categories}


def _category(row: Record) -> Category:
    return Category(**{name: value for name, value in row.items() if name != "total"})


def _columns(drafts: Sequence[Draft]) -> list[list[Any]]:
    return [
        [one.id for one in drafts],
        [one.slug for one in drafts],
        [one.name for one in drafts],
        [one.description for one in drafts],
        [one.parent_id for one in drafts],
        [one.position for one in drafts],
        [one.is_active for one in drafts],
    ]
