"""Orders: found by whatever is known of them, told on one time line, acted on after a look at what that will do."""

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any, cast, get_args
from urllib.parse import urlencode
from uuid import UUID

from starlette.responses import Response

from comanda.accounts import accounts
from comanda.api.once import hint_all
from comanda.bulk import filters, selection
from comanda.checkout import story
from comanda.checkout.story import Line, Story
from comanda.console import effects
from comanda.console.ask import Ask, Refusal, uuid_or_none
from comanda.console.shown import offered
from comanda.db import Record, Tx, literally, twin
from comanda.failpoints import Boundary
from comanda.orders import reads
from comanda.orders.model import OrderState
from comanda.saga import verbs
from comanda.saga.settling import Settling
from comanda.saga.verbs import Acted, Seen, Verb

_sql = twin(__file__)
FOUND = _sql["found"]
FLOOR_OF_AGE = _sql["floor_of_age"]
ORDER_OF = _sql["order_of"]
ORDER_PAID_BY = _sql["order_paid_by"]
CUSTOMERS = _sql["customers"]
STUCK = _sql["stuck"]
SAGA = _sql["saga"]

ACT = Boundary("console.act")

PAGE = 50
_FIRST_LINES, _LAST_LINES = 100, 300  # of a story; the command line has all of them
_SPAN = 10_000  # orders that are looked through for a page
_NO_ID_IS_GREATER = UUID(int=2**128 - 1)
_OF_PATIENCE = 0.5  # of a request, that the other side may take
_CUSTOMERS = 200  # that are looked at, of those who are called so
_SHORTEST = 3  # letters: fewer are found by no index
_OPEN = ("PENDING", "PROCESSING", "PAYMENT_PENDING", "PAYMENT_FAILED")


async def search(ask: Ask) -> Response:
    """Orders, newest first, on what was asked for; so many are looked through at a time, and then it goes on."""
    asked = {name: ask.asked(name) for name in filters.FIELDS["orders"]}
    wanted = filters.read("orders", asked) if any(asked.values()) else filters.Filter("orders", {})
    if isinstance(wanted, str):
        raise Refusal(422, wanted)
    async with ask.parts.assembly.lists.connection() as tx:
        about, q = uuid_or_none(asked["q"]), asked["q"]
        if q:
            order_id = await (ORDER_PAID_BY.value(tx, q) if about is None else ORDER_OF.value(tx, about))
            if order_id is not None:
                return ask.go(f"/admin/orders/{order_id}")
        customers, is_one = await _customers(tx, q, about) if q else (None, True)
        rows, following, looked = await _found(tx, asked, wanted.age, customers, ask.before())
    query = {name: value for name, value in asked.items() if value}
    return ask.page(
        "orders.html",
        rows=rows,
        asked=asked,
        is_filtered=bool(query),
        looked=looked,
        called=0 if customers is None else len(customers),
        most_called=_CUSTOMERS,
        is_short=about is None and 0 < len(q) < _SHORTEST,
        next=None if following is None else f"/admin/orders?{urlencode({**query, 'before': str(following)})}",
        act_on=offered(ask, "orders", asked) if is_one else None,
        states=filters.STATES,
        steps=[step.name for step in ask.parts.assembly.order.steps],
    )


async def _customers(tx: Tx, q: str, about: UUID | None) -> tuple[list[UUID], bool]:
    """Who is meant, and whether one alone: by id or the whole address, else by a part of name or address.

    Of these as many as are looked at, and one more.
    """
    if about is not None:
        return [about], True
    (account,) = await accounts.by_email(tx, [q])
    if account is not None:
        return [account.id], True
    if len(q) < _SHORTEST:
        return [], False
    return [row["id"] for row in await CUSTOMERS.rows(tx, selection.like(q), _CUSTOMERS + 1)], False


async def _found(
    tx: Tx, asked: dict[str, str], age: int | None, customers: list[UUID] | None, before: UUID | None
) -> tuple[Sequence[Record], UUID | None, int]:
    """The rows, where to go on, and how many orders were looked through."""
    source = "all"
    if customers is not None:
        source = "customers"
    elif asked["state"] == "stuck":
        source = "stuck"
    elif asked["state"] == "open" or asked["state"] in _OPEN:
        source = "open"
    products = await selection.products_like(tx, asked["product"]) if asked["product"] else None
    at = before or _NO_ID_IS_GREATER
    if age is not None:
        at = min(at, await FLOOR_OF_AGE.value(tx, age))
    state = asked["state"] if asked["state"] in {*OrderState} else None
    error = literally(asked["error"]) or None
    standing = asked["state"] if asked["state"] in {"stuck", "open"} else None
    is_filtered = any((state, standing, error, asked["step"], products is not None))
    span = _SPAN if is_filtered else PAGE + 1
    step, some = asked["step"] or None, (customers or [])[:_CUSTOMERS]
    found = await FOUND.rows(tx, at, span, source, some, state, step, error, products, PAGE + 1, standing)
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
    asked = {name: ask.asked(name) for name in filters.FIELDS["stuck"]}
    wanted = filters.read("stuck", asked)
    if isinstance(wanted, str):
        raise Refusal(422, wanted)
    async with ask.parts.assembly.lists.connection() as tx:
        rows = await STUCK.rows(
            tx, ask.before() or _NO_ID_IS_GREATER, PAGE + 1, wanted.get("kind"), wanted.get("step"),
            selection.like(wanted.get("error")), wanted.age,
        )  # fmt: skip
    query = urlencode({**wanted.asked, "before": rows[PAGE - 1]["id"]}) if len(rows) > PAGE else ""
    return ask.page(
        "stuck.html",
        rows=rows[:PAGE],
        asked=asked,
        is_filtered=bool(wanted.asked),
        kinds=[saga.name for saga in ask.parts.assembly.sagas],
        act_on=offered(ask, "stuck", asked) if rows else None,
        next=f"/admin/stuck?{query}" if query else None,
    )


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
        stood=verbs.standing_of(row["state"], row["step"], row["direction"]),
        acted=acted,
        order_id=order_id,
        effects=[] if definition is None else effects.of(verb, dict(row), definition),
        back=_back(ask.asked("back")),
    )


async def act(ask: Ask) -> Response:
    """Do it, and write down who did it and why."""
    saga_id, verb, reason = ask.id_of("saga_id"), _verb(ask), ask.reason()
    stood, token = _shown(ask)
    seen = await _looked(ask, saga_id, verb)
    async with ask.parts.database.transaction(ACT) as tx:
        acted, result = await verbs.act(
            tx, settling(ask), [saga_id], verb, actor=ask.actor, reason=reason, seen=seen,
            stood={saga_id: stood}, tokens={saga_id: token},
        )  # fmt: skip
    await hint_all(ask.parts, result.onward)
    (one,) = acted
    if one.refusal is not None:
        raise Refusal(409, one.refusal)
    async with ask.parts.database.connection() as tx:
        order_id = await ORDER_OF.value(tx, one.subject)
    ask.desk.pulse.forget()
    back = _back(ask.form.get("back", "")) or ("/admin/stuck" if order_id is None else f"/admin/orders/{order_id}")
    return ask.go(back, f"{verb}: {one.was} → {one.now}")


def _shown(ask: Ask) -> tuple[str, int]:
    """Where it stood when it was looked at, and its token, as the look wrote them into its form."""
    stood, token = ask.form.get("stood", ""), ask.form.get("token", "")
    if not stood or not (token.isascii() and token.isdigit() and len(token) < 19):
        raise Refusal(422, "The form can't be read.")
    return stood, int(token)


def _back(asked: str) -> str:
    """The job's page that somebody came from; empty: an order's."""
    return asked if asked.startswith("/admin/queues/") and "\\" not in asked else ""


class _TakenBack(Exception):
    pass


async def _tried(ask: Ask, saga_id: UUID, verb: Verb) -> Acted:
    """What would become of it: done in a transaction that is rolled back."""
    acted: list[Acted] = []
    seen = await _looked(ask, saga_id, verb)

    def take_back() -> None:
        raise _TakenBack

    with contextlib.suppress(_TakenBack):
        async with ask.parts.database.transaction(ACT) as tx:
            acted, _ = await verbs.act(tx, settling(ask), [saga_id], verb, actor=ask.actor, reason="preview", seen=seen)
            take_back()
    return acted[0]


async def _looked(ask: Ask, saga_id: UUID, verb: Verb) -> Mapping[UUID, Seen]:
    """What the other side says of a call that can't be called back, before this is done."""
    async with ask.parts.database.connection() as tx:
        doubtful = await verbs.doubts(tx, settling(ask), [saga_id], verb)
    return await verbs.look(doubtful, patience=ask.parts.settings.request_seconds * _OF_PATIENCE)


def settling(ask: Ask) -> Settling:
    """What settles what is decided here by hand."""
    return ask.parts.assembly.by_hand(ask.actor)


def _verb(ask: Ask) -> Verb:
    verb: Any = ask.request.path_params["verb"]
    if verb not in get_args(Verb):
        raise Refusal(404, "There is nothing at this address.")
    return cast("Verb", verb)
