"""Products: what is sold, where it lies, what became of it, who holds it; put on sale and off it with a reason."""

from urllib.parse import urlencode
from uuid import UUID

from starlette.responses import Response

from comanda.audit import acts
from comanda.audit.acts import Act
from comanda.catalog import products
from comanda.catalog.products import Filter, Status
from comanda.console.ask import Ask, Refusal
from comanda.console.lists import page_number
from comanda.console.orders import ACT, PAGE
from comanda.db import twin
from comanda.inventory import admin
from comanda.sentences import choose

_sql = twin(__file__)
MOVEMENTS = _sql["movements"]
END_OF_SPAN = _sql["end_of_span"]
HELD_FOR = _sql["held_for"]

_SPAN = 50_000  # lines of the ledger that are looked through for a page
_NO_ID_IS_GREATER = UUID(int=2**128 - 1)
_STATUSES: dict[str, Status] = {"active": "active", "inactive": "inactive"}
_VERBS = {"activate": True, "deactivate": False}


async def listed(ask: Ask) -> Response:
    """Products, newest first; found by a part of name, SKU, brand or description."""
    search, status, number = ask.asked("q"), ask.asked("status"), page_number(ask)
    if status and status not in _STATUSES:
        raise Refusal(422, choose("There is no such state: choose from {choices}.", _STATUSES))
    wanted = Filter(search=search or None, status=_STATUSES.get(status, "all"))
    async with ask.parts.assembly.lists.connection() as tx:
        rows, total = await products.page(tx, wanted, number=number, limit=PAGE)
        stock = await admin.of_products(tx, [row.id for row in rows])
    free = {row.id: sum(one.free for one in places or ()) for row, places in zip(rows, stock, strict=True)}
    query = {name: value for name, value in (("q", search), ("status", status)) if value}
    more = f"/admin/products?{urlencode({**query, 'page': number + 1})}" if number * PAGE < total else None
    return ask.page(
        "products.html", rows=rows, free=free, total=total, search=search, chosen=status, statuses=_STATUSES, next=more
    )


async def show(ask: Ask) -> Response:
    """One product."""
    product_id = ask.id_of("product_id")
    before = ask.before() or _NO_ID_IS_GREATER
    async with ask.parts.assembly.lists.connection() as tx:
        (product,) = await products.find(tx, [product_id])
        if product is None:
            raise Refusal(404, "There is no such product.")
        (stock,) = await admin.of_products(tx, [product_id])
        moves = await MOVEMENTS.rows(tx, product_id, before, _SPAN, PAGE + 1)
        end = moves[PAGE - 1]["id"] if len(moves) > PAGE else await END_OF_SPAN.value(tx, before, _SPAN)
        holders = await HELD_FOR.rows(tx, product_id, PAGE)
        done = await acts.listed(tx, subject=str(product_id), limit=PAGE)
    return ask.page(
        "product.html",
        product=product,
        stock=stock or [],
        movements=moves[:PAGE],
        holders=holders,
        acts=done,
        looked=0 if len(moves) > PAGE else _SPAN,
        next=None if end is None else f"/admin/products/{product_id}?before={end}",
    )


async def switch(ask: Ask) -> Response:
    """Put it on sale, or off it; orders that there are keep it."""
    product_id, verb, reason = ask.id_of("product_id"), ask.request.path_params["verb"], ask.reason()
    if verb not in _VERBS:
        raise Refusal(404, "There is nothing at this address.")
    async with ask.parts.database.transaction(ACT) as tx:
        (product,) = await products.set_active(tx, [product_id], is_active=_VERBS[verb])
        if product is not None:
            await acts.record(tx, [Act(ask.actor, f"product.{verb}", str(product_id), reason, {"sku": product.sku})])
    if product is None:
        raise Refusal(404, "There is no such product.")
    ask.parts.catalogue.forget([product_id])
    return ask.go(f"/admin/products/{product_id}", verb)
