"""The catalogue."""

from collections.abc import Awaitable, Callable
from typing import Annotated
from uuid import UUID

import msgspec
from fastapi import Query, Request, Response

from comanda.accounts.accounts import Account
from comanda.api.answers import AdminProductAnswer, AdminProductPage, ProductAnswer, ProductPage, numbered
from comanda.api.bodies import Bound, Limit, Page, QueryTags, Search
from comanda.api.conditional import SEEN, TAGGED, Asked, IfMatch, marked, single, tagged, unchanged
from comanda.api.document import answers
from comanda.api.paging import around
from comanda.api.parts import Given, Parts
from comanda.api.problems import Problem
from comanda.api.security import Admin, AdminForDeleted, AdminIfAny, router
from comanda.catalog import products
from comanda.catalog.bodies import ProductBody, ProductPatch
from comanda.catalog.products import CategoryUnknown, Draft, Filter, Product, SkuTaken, SortBy, SortOrder, Status
from comanda.db import Tx
from comanda.errors import Stale
from comanda.failpoints import Boundary
from comanda.field_errors import field_error

CREATE = Boundary("products.create")
CHANGE = Boundary("products.change")
DELETE = Boundary("products.delete")
ACTIVATE = Boundary("products.activate")
DEACTIVATE = Boundary("products.deactivate")

routes = router("/products", "products")


class _Written(msgspec.Struct, rename="camel"):
    """What a page that is written out says of the others."""

    total_pages: int


@routes.post("", status_code=201, responses=answers("SKU_TAKEN", "CATEGORY_UNKNOWN"))
async def create(_account: Admin, body: ProductBody, parts: Given, response: Response) -> AdminProductAnswer:
    """Add a product."""
    draft = Draft(**dict(body))
    async with parts.database.transaction(CREATE) as tx:
        match (await products.create(tx, [draft]))[0]:
            case SkuTaken():
                raise Problem("SKU_TAKEN")
            case CategoryUnknown():
                raise _unknown_category()
            case product:
                pass
    response.headers["Location"] = f"/api/v1/products/{product.id}"
    return marked(response, AdminProductAnswer.model_validate(product))


@routes.get(
    "",
    response_model=AdminProductPage | ProductPage,
    responses=SEEN | answers("UNAUTHENTICATED", "FORBIDDEN"),  # of who asks for what was deleted
)
async def page(
    _account: AdminForDeleted,
    admin: AdminIfAny,
    parts: Given,
    request: Asked,
    *,
    search: Search | None = None,
    brand: Search | None = None,
    status: Status = "active",
    min_price: Annotated[Bound | None, Query(alias="minPrice")] = None,
    max_price: Annotated[Bound | None, Query(alias="maxPrice")] = None,
    on_sale: Annotated[bool | None, Query(alias="onSale")] = None,
    tags: Annotated[QueryTags, Query()] = [],  # noqa: B006 - read only
    page: Page = 1,
    limit: Limit = 20,
    sort_by: Annotated[SortBy, Query(alias="sortBy")] = "createdAt",
    sort_order: Annotated[SortOrder, Query(alias="sortOrder")] = "desc",
) -> Response:
    """Products, a page at a time. `search` finds parts of words. Admins see cost prices and what was deleted too."""
    wanted = Filter(search, brand, status, min_price, max_price, on_sale, tuple(tags), sort_by, sort_order)

    async def read(tx: Tx) -> tuple[list[Product], int]:
        return await products.page(tx, wanted, number=page, limit=limit)

    return await _page(parts, request, admin, (wanted, page, limit), read)


@routes.get("/search", response_model=AdminProductPage | ProductPage, responses=SEEN)
async def search(
    admin: AdminIfAny,
    parts: Given,
    request: Asked,
    q: Annotated[Search, Query(min_length=1)],
    page: Page = 1,
    limit: Limit = 20,
) -> Response:
    """Products on sale by words of name, SKU, brand or description, in English or Spanish; slips are forgiven."""

    async def read(tx: Tx) -> tuple[list[Product], int]:
        return await products.search(tx, q, number=page, limit=limit)

    return await _page(parts, request, admin, (q, page, limit), read)


@routes.get(
    "/{product_id}",
    response_model=AdminProductAnswer | ProductAnswer,
    responses=TAGGED | answers("PRODUCT_NOT_FOUND"),
)
async def read(admin: AdminIfAny, product_id: UUID, parts: Given, asked: Asked) -> Response:
    """One product; for admins with `costPrice` and `deletedAt`."""
    async with parts.database.connection() as tx:
        product = (await products.find(tx, [product_id]))[0]
    if product is None:
        raise Problem("PRODUCT_NOT_FOUND")
    if admin is None:
        return single(asked, ProductAnswer.model_validate(product), is_public=True)
    return single(asked, AdminProductAnswer.model_validate(product))


@routes.patch("/{product_id}", responses=answers("PRODUCT_NOT_FOUND", "CATEGORY_UNKNOWN"))
async def change(
    _account: Admin, product_id: UUID, body: ProductPatch, parts: Given, if_match: IfMatch, response: Response
) -> AdminProductAnswer:
    """Change some fields of a product. Orders keep the name and price that they were placed with."""
    async with parts.database.transaction(CHANGE) as tx:
        await unchanged(tx, if_match, products.locked, product_id, AdminProductAnswer)
        product = (await products.change(tx, [(product_id, body.changes())]))[0]
        if isinstance(product, CategoryUnknown):
            raise _unknown_category()
    return _changed(parts, product_id, product, response)


@routes.delete("/{product_id}", status_code=204, responses=answers("PRODUCT_NOT_FOUND"))
async def delete(_account: Admin, product_id: UUID, parts: Given, if_match: IfMatch) -> Response:
    """Take a product off the catalogue."""
    async with parts.database.transaction(DELETE) as tx:
        await unchanged(tx, if_match, products.locked, product_id, AdminProductAnswer)
        is_gone = (await products.delete(tx, [product_id]))[0]
    if not is_gone:
        raise Problem("PRODUCT_NOT_FOUND")
    parts.catalogue.forget([product_id])
    return Response(status_code=204)


@routes.patch("/{product_id}/activate", responses=answers("PRODUCT_NOT_FOUND"))
async def activate(
    _account: Admin, product_id: UUID, parts: Given, if_match: IfMatch, response: Response
) -> AdminProductAnswer:
    """Put a product on sale."""
    async with parts.database.transaction(ACTIVATE) as tx:
        await unchanged(tx, if_match, products.locked, product_id, AdminProductAnswer)
        product = (await products.set_active(tx, [product_id], is_active=True))[0]
    return _changed(parts, product_id, product, response)


@routes.patch("/{product_id}/deactivate", responses=answers("PRODUCT_NOT_FOUND"))
async def deactivate(
    _account: Admin, product_id: UUID, parts: Given, if_match: IfMatch, response: Response
) -> AdminProductAnswer:
    """Take a product off sale."""
    async with parts.database.transaction(DEACTIVATE) as tx:
        await unchanged(tx, if_match, products.locked, product_id, AdminProductAnswer)
        product = (await products.set_active(tx, [product_id], is_active=False))[0]
    return _changed(parts, product_id, product, response)


def _changed(parts: Parts, product_id: UUID, product: Product | None, response: Response) -> AdminProductAnswer:
    if product is None:
        raise Problem("PRODUCT_NOT_FOUND")
    parts.catalogue.forget([product_id])
    return marked(response, AdminProductAnswer.model_validate(product))


def _unknown_category() -> Problem:
    return Problem("CATEGORY_UNKNOWN", errors=[field_error("categoryId", "category")])


async def _page(
    parts: Parts,
    request: Request,
    admin: Account | None,
    asked: tuple[Filter | str, int, int],
    read: Callable[[Tx], Awaitable[tuple[list[Product], int]]],
) -> Response:
    """Written out once for each version of the catalogue."""
    _, number, limit = asked
    primary = parts.assembly.lists
    async with primary.connection() as tx:
        version = await products.version(tx)

    async def read_at_version(tx: Tx) -> tuple[list[Product], int]:
        if await products.version(tx) < version:
            raise Stale("the catalogue has changed since")
        return await read(tx)

    async def write() -> bytes:
        # No reader is named: what somebody has just changed, anybody sees.
        found, total = await parts.lists.read(None, read_at_version, primary=primary)
        numbers = numbered(number, limit, total)
        if admin is None:
            page = ProductPage(items=[ProductAnswer.model_validate(one) for one in found], **numbers)
            return page.model_dump_json(by_alias=True).encode()
        whole = AdminProductPage(items=[AdminProductAnswer.model_validate(one) for one in found], **numbers)
        return whole.model_dump_json(by_alias=True).encode()

    # What admins see and nobody else does has a place of its own among the pages.
    whose = "everybody" if admin is None else "admins"
    content = await parts.pages.get(version, (whose, asked), write)
    answer = tagged(request, f'W/"{version}-{whose}"', content)
    answer.headers.update(around(request, number, msgspec.json.decode(content, type=_Written).total_pages))
    return answer
