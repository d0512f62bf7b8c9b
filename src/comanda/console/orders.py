"""Orders: found by whatever is known of them, told on one time line, acted on after a look at what that will do."""

import contextlib
from collections.abc import Sequence
from typing import Any, cast, get_args
from urllib.parse import urlencode
from uuid import UUID

from starlette.responses import Response

from comanda.accounts import accounts
from comanda.api.once import hint_all
from comanda.checkout import story
from comanda.checkout.story import Line, Story
from comanda.console import effects
from comanda.console.ask import Ask, Refusal, uuid_or_none
from comanda.db import Record, Tx, literally, twin
from comanda.failpoints import Boundary
from comanda.orders import reads
from comanda.orders.model import OrderState
from comanda.saga import verbs
from comanda.saga.settling import Settling
from comanda.saga.verbs import Acted, Verb

_sql = twin(__file__)
FOUND = _sql["found"]
FLOOR_OF_AGE = _sql["floor_of_age"]
PRODUCTS = _sql["products"]
ORDER_OF = _sql["order_of"]
STUCK = _sql["stuck"]
SAGA = _sql["saga"]

ACT = Boundary("console.act")

PAGE = 50
_FIRST_LINES, _LAST_LINES = 100, 300  # of a story; the command line has all of them
_SPAN = 10_000  # orders that are looked through for a page
_NO_ID_IS_GREATER = UUID(int=2**128 - 1)
_OLDEST = 60 * 24 * 365  # minutes
_OPEN = ("PENDING", "PROCESSING", "PAYMENT_PENDING", "PAYMENT_FAILED")
_FILTERS = ("q", "product", "error", "state", "step", "age")


async def search(ask: Ask) -> Response:
    """Orders, newest first, on what was asked for; so many are looked through at a time, and then it goes on."""
    asked = {name: ask.asked(name) for name in _FILTERS}
    async with ask.parts.assembly.lists.connection() as tx:
        about = uuid_or_none(asked["q"])
        if about is not None:
            order_id = await ORDER_OF.value(tx, about)
            if order_id is not None:
                return ask.go(f"/admin/orders/{order_id}")
        rows, following, looked = await _found(tx, asked, about, ask.before())
    query = {name: value for name, value in asked.items() if value}
    return ask.page(
        "orders.html",
        rows=rows,
        asked=asked,
        is_filtered=bool(query),
        looked=looked,
        next=None if following is None else f"/admin/orders?{urlencode({**query, 'before': str(following)})}",
        states=["stuck", "open", *OrderState],
        steps=[step.name for step in ask.parts.assembly.order.steps],
    )


async def _found(
    tx: Tx, asked: dict[str, str], about: UUID | None, before: UUID | None
) -> tuple[Sequence[Record], UUID | None, int]:
    """The rows, where to go on, and how many orders were looked through."""
    source, customers = "all", None
    if asked["q"]:
        (account,) = [None] if about else await accounts.by_email(tx, [asked["q"]])
        source, customers = "customers", [about or (account.id if account else UUID(int=0))]
    elif asked["state"] == "stuck":
        source = "stuck"
    elif asked["state"] == "open" or asked["state"] in _OPEN:
        source = "open"
    products = None
    if asked["product"]:
        one = uuid_or_none(asked["product"])
        products = [one] if one else [row["id"] for row in await PRODUCTS.rows(tx, literally(asked["product"]))]
    at = before or _NO_ID_IS_GREATER
    if asked["age"].isdigit():
        at = min(at, await FLOOR_OF_AGE.value(tx, min(int(asked["age"]), _OLDEST)))
    state = asked["state"] if asked["state"] in {*OrderState} else None
    error = literally(asked["error"]) or None
    is_filtered = any((state, error, asked["step"], products is not None)) or asked["state"] in {"stuck", "open"}
    span = _SPAN if is_filtered else PAGE + 1
    found = await FOUND.rows(tx, at, span, source, customers, state, asked["step"] or None, error, products, PAGE + 1)
    rows = [row for row in found if row["id"] is not None]
    if len(rows) > PAGE:
        return rows[:PAGE], rows[PAGE - 1]["id"], 0
    if is_filtered and found[0]["looked_at"] == span:
        return rows, found[0]["looked_to"], span
    return rows, None, 0


async def show(ask: Ask) -> Response:
    """One order: where it stands and why, and everything that happened to it."""
    order_id = ask.id_of("order_id")
    async with ask.parts.assembly.lists.connection() as tx:
        told = await story.tell(tx, order_id)
        if told is None:
            raise Refusal(404, "There is no such order.")
        lines = (await reads.lines(tx, [order_id]))[order_id]
        payment = (await reads.payments(tx, [order_id])).get(order_id)
        (customer,) = await accounts.find(tx, [told.order.customer_id])
    return ask.page(
        "order.html",
        told=told,
        lines=lines,
        payment=payment,
        customer=customer,
        shown=[one for number, one in enumerate(told.standings) if number == 0 or one.waits_for != "nothing"],
        verbs=get_args(Verb),
        story=_cut(told),
        first=told.first_failure,
    )


def _cut(told: Story) -> list[tuple[int, Line]]:
    """The lines that are shown, by their number: where it began, what failed first, where it stands."""
    kept = {*range(_FIRST_LINES), told.first_failure, *range(len(told.lines) - _LAST_LINES, len(told.lines))}
    return [(number, line) for number, line in enumerate(told.lines) if number in kept]


async def stuck(ask: Ask) -> Response:
    """What used up its attempts: it goes on only when somebody acts."""
    async with ask.parts.assembly.lists.connection() as tx:
        rows = await STUCK.rows(tx, ask.before() or _NO_ID_IS_GREATER, PAGE + 1)
    more = f"/admin/stuck?before={rows[PAGE - 1]['id']}" if len(rows) > PAGE else None
    return ask.page("stuck.html", rows=rows[:PAGE], next=more)


async def preview(ask: Ask) -> Response:
    """What an act will do, before it is done: it is carried out and taken back."""
    saga_id, verb = ask.id_of("saga_id"), _verb(ask)
    async with ask.parts.assembly.lists.connection() as tx:
        row = await SAGA.row(tx, saga_id)
        order_id = None if row is None else await ORDER_OF.value(tx, row["subject"])
    if row is None:
        raise Refusal(404, "There is no such saga.")
    acted = await _tried(ask, saga_id, verb)
    definition = settling(ask).sagas.get((row["kind"], row["version"]))
    return ask.page(
        "act.html",
        verb=verb,
        saga=row,
        acted=acted,
        order_id=order_id,
        effects=[] if definition is None else effects.of(verb, row, definition),
        why="",
    )


async def act(ask: Ask) -> Response:
    """Do it, and write down who did it and why."""
    saga_id, verb, reason = ask.id_of("saga_id"), _verb(ask), ask.reason()
    async with ask.parts.database.transaction(ACT) as tx:
        acted, result = await verbs.act(tx, settling(ask), [saga_id], verb, actor=ask.actor, reason=reason)
    await hint_all(ask.parts, result.onward)
    (one,) = acted
    if one.refusal is not None:
        raise Refusal(409, one.refusal)
    async with ask.parts.database.connection() as tx:
        order_id = await ORDER_OF.value(tx, one.subject)
    ask.desk.pulse.forget()
    back = "/admin/stuck" if order_id is None else f"/admin/orders/{order_id}"
    return ask.go(back, f"{verb}: {one.was} → {one.now}")


class _TakenBack(Exception):
    pass


async def _tried(ask: Ask, saga_id: UUID, verb: Verb) -> Acted:
    """What would become of it: done in a transaction that is rolled back."""
    acted: list[Acted] = []

    def take_back() -> None:
        raise _TakenBack

    with contextlib.suppress(_TakenBack):
        async with ask.parts.database.transaction(ACT) as tx:
            acted, _ = await verbs.act(tx, settling(ask), [saga_id], verb, actor=ask.actor, reason="preview")
            take_back()
    return acted[0]


def settling(ask: Ask) -> Settling:
    """What settles what is decided here by hand."""
    parts = ask.parts
    return Settling.by_hand(
        parts.assembly.sagas, actor=ask.actor, lease=parts.settings.lease, alarm=parts.assembly.alarm
    )


def _verb(ask: Ask) -> Verb:
    verb: Any = ask.request.path_params["verb"]
    if verb not in get_args(Verb):
        raise Refusal(404, "There is nothing at this address.")
    return cast("Verb", verb)
