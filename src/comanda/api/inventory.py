"""Stock: what is there, what is free, and what staff changes."""

from datetime import timedelta
from typing import Annotated
from uuid import UUID

from fastapi import Query, Request, Response
from pydantic import BaseModel

from comanda import telemetry
from comanda.accounts.accounts import Account
from comanda.api.answers import (
    AvailabilityAnswer,
    MovementAnswer,
    MovementPage,
    ProductStockAnswer,
    ReservationAnswer,
    ReservedAnswer,
    StockAnswer,
    StockPage,
    StockStatsAnswer,
)
from comanda.api.bodies import (
    AddStockBody,
    AvailabilityBody,
    Bound,
    EndReservationBody,
    Limit,
    MovementKind,
    Page,
    RemoveStockBody,
    ReserveBody,
    Search,
    StockBody,
)
from comanda.api.conditional import TAGGED, Asked, single
from comanda.api.document import answers
from comanda.api.once import KEY_REFUSED, Did, OptionalKey, answered, once
from comanda.api.paging import Cursor, Numbers, cursor_of, next_link, read_cursor
from comanda.api.parts import Given, Parts
from comanda.api.problems import Problem
from comanda.api.security import Admin, Reader, Staff, router
from comanda.db import Tx
from comanda.failpoints import Boundary
from comanda.field_errors import field_error
from comanda.inventory import admin, reservations
from comanda.inventory.admin import (
    Change,
    Filter,
    HeldStock,
    NoStock,
    Opening,
    Status,
    Stock,
    StockExists,
    TooMuchStock,
    UnknownProduct,
)
from comanda.sentences import Sentence

OPEN = Boundary("stock.open")
CHANGE = Boundary("stock.change")
RESERVE = Boundary("stock.reserve")
END_RESERVATION = Boundary("stock.end_reservation")

routes = router("/inventory", "inventory")


@routes.post("", status_code=201, responses=answers("PRODUCT_UNKNOWN", "STOCK_EXISTS"))
async def create(account: Admin, body: StockBody, parts: Given) -> StockAnswer:
    """Open the stock of a product at a location where it had none."""
    opening = Opening(**{name: value for name, value in body if name != "sku"})
    async with parts.database.transaction(OPEN) as tx:
        opened = await admin.create(tx, [opening], actor=account.id, correlation_id=telemetry.correlation_id())
    match opened[0]:
        case UnknownProduct():
            raise _unknown_product()
        case StockExists():
            raise Problem("STOCK_EXISTS")
        case stock:
            return _answer(stock)


@routes.post(
    "/add-stock", response_model=StockAnswer, responses=answers("STOCK_NOT_FOUND", "STOCK_TOO_LARGE", *KEY_REFUSED)
)
async def add_stock(account: Admin, key: OptionalKey, body: AddStockBody, parts: Given, request: Request) -> Response:
    """Units that came in.

    With an `Idempotency-Key` a repeat is answered as the first one was, and nothing comes in twice.
    """
    change = Change(body.product_id, body.quantity, body.movement_type, body.location, body.reason)
    return await _change(parts, account, key, request, body, change)


@routes.post(
    "/remove-stock", response_model=StockAnswer, responses=answers("STOCK_NOT_FOUND", "STOCK_HELD", *KEY_REFUSED)
)
async def remove_stock(
    account: Admin, key: OptionalKey, body: RemoveStockBody, parts: Given, request: Request
) -> Response:
    """Units that are gone. What orders hold can't go.

    With an `Idempotency-Key` a repeat is answered as the first one was, and nothing goes twice.
    """
    change = Change(body.product_id, -body.quantity, body.movement_type, body.location, body.reason)
    return await _change(parts, account, key, request, body, change)


@routes.post("/check-availability", responses=answers("PRODUCT_UNKNOWN"))
async def check_availability(body: AvailabilityBody, parts: Given) -> AvailabilityAnswer:
    """Whether so many units are free now. Only an order can hold them."""
    places = await _places(parts, body.product_id)
    if places is None:
        raise _unknown_product()
    free = sum(one.free for one in places if body.location in {None, one.location})
    return AvailabilityAnswer(
        product_id=body.product_id,
        location=body.location,
        requested=body.quantity,
        available_stock=free,
        is_available=free >= body.quantity,
    )


@routes.post("/reserve", status_code=201, responses=answers("PRODUCT_UNKNOWN", "STOCK_TAKEN"))
async def reserve(account: Admin, body: ReserveBody, parts: Given, response: Response) -> ReservationAnswer:
    """Hold units for nobody's order: for a showroom, a count, the counter. They are let go when time is up."""
    wish = reservations.Wish(body.product_id, body.quantity, body.location)
    ttl = timedelta(minutes=body.expiration_minutes)
    async with parts.database.transaction(RESERVE) as tx:
        (made,) = await reservations.hold(tx, [wish], ttl=ttl, actor=account.id, reason=body.reason)
    match made:
        case UnknownProduct():
            raise _unknown_product()
        case reservations.OutOfStock(free):
            raise Problem("STOCK_TAKEN", Sentence("Only {free} units are free", free=free))
    response.headers["Location"] = f"/api/v1/inventory/reservations/{made.id}"
    return _reservation(made)


@routes.get("/reservations/{reservation_id}", responses=answers("RESERVATION_NOT_FOUND"))
async def reservation(_account: Admin, reservation_id: UUID, parts: Given) -> ReservationAnswer:
    """One reservation, an order's or one that staff made, and where its units lie."""
    async with parts.database.connection() as tx:
        (found,) = await reservations.find(tx, [reservation_id])
    return _reservation(_known(found))


@routes.put("/release-reservation", responses=answers("RESERVATION_NOT_FOUND", "RESERVATION_ENDED"))
async def release(account: Admin, body: EndReservationBody, parts: Given) -> ReservationAnswer:
    """Let go of what a reservation holds. An order that loses its own reserves again before it is charged."""
    async with parts.database.transaction(END_RESERVATION) as tx:
        (ended,) = await reservations.release(tx, [body.reservation_id], actor=account.id, reason=body.reason)
    return _reservation(_known(ended))


@routes.put(
    "/fulfill-reservation",
    responses=answers("RESERVATION_NOT_FOUND", "RESERVATION_ENDED", "RESERVATION_OF_ORDER"),
)
async def fulfill(account: Admin, body: EndReservationBody, parts: Given) -> ReservationAnswer:
    """What a reservation that staff made holds has left the house."""
    async with parts.database.transaction(END_RESERVATION) as tx:
        (ended,) = await reservations.fulfill(tx, [body.reservation_id], actor=account.id, reason=body.reason)
    return _reservation(_known(ended))


@routes.get("/movements")
async def movements(
    account: Staff,
    parts: Given,
    *,
    response: Response,
    product_id: Annotated[UUID | None, Query(alias="productId")] = None,
    order_id: Annotated[UUID | None, Query(alias="orderId")] = None,
    location: Search | None = None,
    kind: Annotated[list[MovementKind] | None, Query(max_length=14)] = None,
    limit: Limit = 20,
    cursor: Cursor | None = None,
) -> MovementPage:
    """The append-only ledger of stock, newest first: who moved what, for which order, why. Its sums are the stock."""
    before = read_cursor(cursor)
    found = await parts.lists.read(
        account.id,
        lambda tx: reservations.movements(
            tx,
            product_id=product_id,
            location=location,
            kinds=kind,
            order_id=order_id,
            before=before,
            limit=limit + 1,
        ),
    )
    shown = found[:limit]
    following = cursor_of(shown[-1].id) if len(found) > limit else None
    if following is not None:
        asked = {"productId": product_id, "orderId": order_id, "location": location, "kind": kind, "limit": limit}
        response.headers["Link"] = next_link("/api/v1/inventory/movements", asked, following)
    return MovementPage(items=[MovementAnswer.model_validate(one) for one in shown], next_cursor=following)


@routes.get("/product/{product_id}", response_model=ProductStockAnswer, responses=TAGGED | answers("PRODUCT_NOT_FOUND"))
async def of_product(product_id: UUID, parts: Given, asked: Asked) -> Response:
    """A product's stock, summed over the locations, and each of them."""
    places = await _places(parts, product_id)
    if places is None:
        raise Problem("PRODUCT_NOT_FOUND")
    stock = ProductStockAnswer(
        product_id=product_id,
        physical_stock=sum(one.on_hand for one in places),
        reserved_stock=sum(one.held for one in places),
        available_stock=sum(one.free for one in places),
        locations=[_answer(one) for one in places],
    )
    return single(asked, stock, is_public=True)


@routes.get("")
async def page(
    reader: Reader,
    parts: Given,
    numbers: Numbers,
    *,
    product_id: Annotated[UUID | None, Query(alias="productId")] = None,
    location: Search | None = None,
    status: Status | None = None,
    min_stock: Annotated[Bound | None, Query(alias="minStock")] = None,
    max_stock: Annotated[Bound | None, Query(alias="maxStock")] = None,
    search: Search | None = None,
    page: Page = 1,
    limit: Limit = 20,
) -> StockPage:
    """Stock, a page at a time; `minStock` and `maxStock` are of free units."""
    wanted = Filter(product_id, location, status, min_stock, max_stock, search)
    return await _page(parts, reader, numbers, wanted, page, limit)


@routes.get("/low-stock")
async def low_stock(reader: Reader, parts: Given, numbers: Numbers, page: Page = 1, limit: Limit = 20) -> StockPage:
    """Stock of which no more is free than its minimum, but some."""
    return await _page(parts, reader, numbers, Filter(status="low_stock"), page, limit)


@routes.get("/out-of-stock")
async def out_of_stock(reader: Reader, parts: Given, numbers: Numbers, page: Page = 1, limit: Limit = 20) -> StockPage:
    """Stock of which nothing is free."""
    return await _page(parts, reader, numbers, Filter(status="out_of_stock"), page, limit)


@routes.get("/stats")
async def stats(account: Admin, parts: Given) -> StockStatsAnswer:
    """Sums over everything."""
    sums = await parts.lists.read(account.id, admin.stats)
    return StockStatsAnswer(
        products=sums["products"],
        locations=sums["locations"],
        physical_stock=sums["on_hand"],
        reserved_stock=sums["held"],
        available_stock=sums["on_hand"] - sums["held"],
        low_stock=sums["low"],
        out_of_stock=sums["out"],
    )


def _answer(stock: Stock) -> StockAnswer:
    return StockAnswer(
        product_id=stock.product_id,
        sku=stock.sku,
        product_name=stock.product_name,
        location=stock.location,
        physical_stock=stock.on_hand,
        reserved_stock=stock.held,
        available_stock=stock.free,
        status=stock.status,
        minimum_stock=stock.minimum_stock,
        maximum_stock=stock.maximum_stock,
        reorder_point=stock.reorder_point,
        reorder_quantity=stock.reorder_quantity,
        notes=stock.notes,
    )


async def _change(
    parts: Parts, account: Account, key: str | None, request: Request, body: BaseModel, change: Change
) -> Response:
    async def work(tx: Tx) -> Did:
        (changed,) = await admin.change(tx, [change], actor=account.id, correlation_id=telemetry.correlation_id())
        match changed:
            case NoStock():
                raise Problem("STOCK_NOT_FOUND")
            case HeldStock(free):
                raise Problem("STOCK_HELD", Sentence("Only {free} units are free to go", free=free))
            case TooMuchStock():
                raise Problem("STOCK_TOO_LARGE")
        return Did(change.product_id, _answer(changed), f"/api/v1/inventory/product/{change.product_id}")

    if key is not None:
        return await once(parts, account, key, request, body, work, status=200)
    async with parts.database.transaction(CHANGE) as tx:
        did = await work(tx)
    return answered(did, status=200)


async def _places(parts: Parts, product_id: UUID) -> list[Stock] | None:
    async with parts.database.connection() as tx:
        return (await admin.of_products(tx, [product_id]))[0]


async def _page(
    parts: Parts, reader: UUID | None, numbers: Numbers, wanted: Filter, number: int, limit: int
) -> StockPage:
    found, total = await parts.lists.read(reader, lambda tx: admin.page(tx, wanted, number=number, limit=limit))
    return StockPage(
        items=[_answer(one) for one in found],
        **numbers(number, limit, total),
    )


def _known(
    found: reservations.Reservation | reservations.Ended | reservations.OfAnOrder | None,
) -> reservations.Reservation:
    match found:
        case None:
            raise Problem("RESERVATION_NOT_FOUND")
        case reservations.OfAnOrder():
            raise Problem("RESERVATION_OF_ORDER", "Its order sells it when it is paid: ship the order instead.")
        case reservations.Ended(state):
            raise Problem("RESERVATION_ENDED", Sentence("It is {state} already.", state=state))
    return found


def _reservation(found: reservations.Reservation) -> ReservationAnswer:
    return ReservationAnswer(
        reservation_id=found.id,
        order_id=found.order_id,
        status=found.state,
        items=[
            ReservedAnswer(product_id=product_id, location=location, quantity=quantity)
            for (product_id, location), quantity in found.units.items()
        ],
        expires_at=found.expires_at,
        created_at=found.created_at,
        ended_at=found.ended_at,
    )


def _unknown_product() -> Problem:
    return Problem("PRODUCT_UNKNOWN", errors=[field_error("productId", "product")])
