"""The catalogue's tree."""

from collections.abc import Sequence
from typing import Annotated
from uuid import UUID

from fastapi import Query, Response

from comanda.api.answers import CategoryAnswer, CategoryBranch, CategoryPage
from comanda.api.bodies import IS_ACTIVE, CategoryBody, Limit, Page, Search, Shown
from comanda.api.conditional import TAGGED, Asked, IfMatch, marked, single, unchanged
from comanda.api.document import answers
from comanda.api.paging import Numbers
from comanda.api.parts import Given, Parts
from comanda.api.problems import Problem
from comanda.api.security import Admin, Reader, router
from comanda.catalog import categories, tree
from comanda.catalog.categories import Category, Draft, Refused
from comanda.failpoints import Boundary

CREATE = Boundary("categories.create")
CHANGE = Boundary("categories.change")
DELETE = Boundary("categories.delete")
ACTIVATE = Boundary("categories.activate")

routes = router("/categories", "categories")


@routes.post("", status_code=201, responses=answers("SLUG_TAKEN", "CATEGORY_UNKNOWN", "CATEGORY_TOO_DEEP"))
async def create(_account: Admin, body: CategoryBody, parts: Given, response: Response) -> CategoryAnswer:
    """Add a category, at the top or below another one."""
    async with parts.database.transaction(CREATE) as tx:
        made = _granted((await categories.create(tx, [Draft(**dict(body))]))[0])
    response.headers["Location"] = f"/api/v1/categories/{made.id}"
    return marked(response, CategoryAnswer.model_validate(made))


@routes.get("")
async def page(
    reader: Reader,
    parts: Given,
    numbers: Numbers,
    *,
    search: Search | None = None,
    status: Shown = "active",
    parent_id: Annotated[UUID | None, Query(alias="parentId")] = None,
    page: Page = 1,
    limit: Limit = 20,
) -> CategoryPage:
    """Categories, a page at a time, by their position and name."""
    found, total = await parts.lists.read(
        reader,
        lambda tx: categories.page(
            tx, is_active=IS_ACTIVE[status], parent_id=parent_id, search=search, number=page, limit=limit
        ),
    )
    return CategoryPage(
        items=[CategoryAnswer.model_validate(one) for one in found],
        **numbers(page, limit, total),
    )


@routes.get("/tree", response_model=Sequence[CategoryBranch])
async def whole_tree(reader: Reader, parts: Given) -> Response:
    """All active categories, each with those below it. What stands below an inactive one is left out with it."""
    living = await parts.lists.read(reader, categories.living)
    return Response(_branches(living), media_type="application/json")


@routes.get("/slug/{slug}", response_model=CategoryAnswer, responses=TAGGED | answers("CATEGORY_NOT_FOUND"))
async def read_by_slug(slug: str, parts: Given, asked: Asked) -> Response:
    """One category, by the name that stands in addresses."""
    if "\0" in slug:  # no text in PostgreSQL has one
        raise Problem("CATEGORY_NOT_FOUND")
    async with parts.database.connection() as tx:
        found = (await categories.find_by_slug(tx, [slug]))[0]
    return single(asked, CategoryAnswer.model_validate(_granted(found)), is_public=True)


@routes.get("/{category_id}", response_model=CategoryAnswer, responses=TAGGED | answers("CATEGORY_NOT_FOUND"))
async def read(category_id: UUID, parts: Given, asked: Asked) -> Response:
    """One category."""
    async with parts.database.connection() as tx:
        found = (await categories.find(tx, [category_id]))[0]
    return single(asked, CategoryAnswer.model_validate(_granted(found)), is_public=True)


@routes.get("/{category_id}/descendants", responses=answers("CATEGORY_NOT_FOUND"))
async def descendants(category_id: UUID, parts: Given) -> Sequence[CategoryAnswer]:
    """All that stands below it, each after the one above it."""
    known, parents = await _all(parts, category_id)
    return [CategoryAnswer.model_validate(known[one]) for one in tree.below(parents, category_id)]


@routes.get("/{category_id}/path", responses=answers("CATEGORY_NOT_FOUND"))
async def path(category_id: UUID, parts: Given) -> Sequence[CategoryAnswer]:
    """From the top down to it."""
    known, parents = await _all(parts, category_id)
    return [CategoryAnswer.model_validate(known[one]) for one in tree.path(parents, category_id)]


@routes.put(
    "/{category_id}",
    responses=answers("CATEGORY_NOT_FOUND", "SLUG_TAKEN", "CATEGORY_RING", "CATEGORY_UNKNOWN", "CATEGORY_TOO_DEEP"),
)
async def change(
    _account: Admin, category_id: UUID, body: CategoryBody, parts: Given, if_match: IfMatch, response: Response
) -> CategoryAnswer:
    """Put this in its place; another `parentId` moves it with all that stands below it."""
    async with parts.database.transaction(CHANGE) as tx:
        await unchanged(tx, if_match, categories.locked, category_id, CategoryAnswer)
        changed = _granted((await categories.change(tx, [Draft(**dict(body), id=category_id)]))[0])
    return marked(response, CategoryAnswer.model_validate(changed))


@routes.patch("/{category_id}/activate", responses=answers("CATEGORY_NOT_FOUND"))
async def activate(
    _account: Admin, category_id: UUID, parts: Given, if_match: IfMatch, response: Response
) -> CategoryAnswer:
    """Show it."""
    return marked(response, await _set_active(parts, category_id, if_match, is_active=True))


@routes.patch("/{category_id}/deactivate", responses=answers("CATEGORY_NOT_FOUND"))
async def deactivate(
    _account: Admin, category_id: UUID, parts: Given, if_match: IfMatch, response: Response
) -> CategoryAnswer:
    """Hide it, with all that stands below it. Its products stay on sale."""
    return marked(response, await _set_active(parts, category_id, if_match, is_active=False))


@routes.delete("/{category_id}", status_code=204, responses=answers("CATEGORY_NOT_FOUND", "CATEGORY_IN_USE"))
async def delete(_account: Admin, category_id: UUID, parts: Given, if_match: IfMatch) -> Response:
    """Delete a category that holds no others and no products."""
    async with parts.database.transaction(DELETE) as tx:
        await unchanged(tx, if_match, categories.locked, category_id, CategoryAnswer)
        is_gone = (await categories.delete(tx, [category_id]))[0]
    if isinstance(is_gone, Refused):
        raise Problem(is_gone.code, is_gone.detail)
    if not is_gone:
        raise Problem("CATEGORY_NOT_FOUND")
    return Response(status_code=204)


def _branches(living: Sequence[Category]) -> bytes:
    """The tree as `CategoryBranch`es, from the leaves up: serializers give up where it is deep."""
    # Those below an inactive one would count as roots: the walk begins at the real ones only.
    shown = {one.id: one for one in living if one.is_active}
    children = tree.children_of({one.id: one.parent_id for one in living})
    below = {one: [child for child in some if child in shown] for one, some in children.items()}
    roots = below.get(None, [])
    walk = list(roots)
    for one in walk:
        walk += below.get(one, ())
    written: dict[UUID, bytes] = {}
    for one in reversed(walk):
        head = CategoryAnswer.model_validate(shown[one]).model_dump_json(by_alias=True).encode()[:-1]
        written[one] = b'%s,"children":[%s]}' % (head, b",".join([written.pop(child) for child in below.get(one, ())]))
    return b"[%s]" % b",".join([written[one] for one in roots])


async def _set_active(parts: Parts, category_id: UUID, if_match: IfMatch, *, is_active: bool) -> CategoryAnswer:
    async with parts.database.transaction(ACTIVATE) as tx:
        await unchanged(tx, if_match, categories.locked, category_id, CategoryAnswer)
        changed = (await categories.set_active(tx, [category_id], is_active=is_active))[0]
    return CategoryAnswer.model_validate(_granted(changed))


async def _all(parts: Parts, category_id: UUID) -> tuple[dict[UUID, Category], dict[UUID, UUID | None]]:
    async with parts.database.connection() as tx:
        known = {one.id: one for one in await categories.living(tx)}
    if category_id not in known:
        raise Problem("CATEGORY_NOT_FOUND")
    return known, {one.id: one.parent_id for one in known.values()}


def _granted(found: Category | Refused | None) -> Category:
    if isinstance(found, Refused):
        raise Problem(found.code, found.detail)
    if found is None:
        raise Problem("CATEGORY_NOT_FOUND")
    return found
