"""The clients' ledger against the shop's and the gateway's. Pure: it is handed books, and finds what does not fit.

What the shop's tables must fulfil among themselves is judged by `comanda.proof.invariants`.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from comanda.proof.chaos.asked import Asked, Promised
from comanda.proof.chaos.ledgers import Books
from comanda.proof.load.report import ENDED
from comanda.proof.receiver import Heard

SHOWN = 20
_CANCELLED = "CANCELLED"
_SOLD = frozenset({"CONFIRMED", "SHIPPED", "DELIVERED", "REFUNDED"})


@dataclass(frozen=True, slots=True)
class Verdict:
    """A promise, and the sentences that say where it was not kept: the first of `count`."""

    name: str
    meaning: str
    count: int
    wrong: Sequence[str]

    @property
    def is_kept(self) -> bool:
        return not self.count


@dataclass(slots=True)
class Case:
    """All that is judged: what was asked, promised and written, and the units that were there at the start.

    `heard`: by the receiver of webhooks; None: there was none.
    """

    asked: Sequence[Asked]
    books: Books
    units: Mapping[str, int]
    promised: Sequence[Promised] = ()
    heard: Sequence[Heard] | None = None


def accepted_are_orders(case: Case) -> list[str]:
    wrong = []
    for one in case.asked:
        for order_id, told in set(one.answers):
            order = case.books.orders.get(order_id)
            if order is None:
                wrong.append(f"{one.key}: was told 202 for {order_id}, which is not there")
            elif (order.customer, order.total) != (one.customer, one.total):
                wrong.append(f"{one.key}: {order_id} is of {order.customer} for {order.total}, not as it was asked for")
            elif told != one.total:
                wrong.append(f"{one.key}: was told that {order_id} costs {told}, it is {one.total}")
    return wrong


def one_order_for_each_key(case: Case) -> list[str]:
    wrong = []
    owners: dict[str, str] = {}
    for one in case.asked:
        told = {order_id for order_id, _ in one.answers}
        if len(told) > 1:
            wrong.append(f"{one.key}: was given {len(told)} orders: {', '.join(sorted(told))}")
        wrong += [f"{each}: was given to {owners[each]} and to {one.key}" for each in told if each in owners]
        owners |= dict.fromkeys(told, one.key)
        kept = case.books.keys.get((one.customer, one.key))
        if told and kept not in told:
            wrong.append(f"{one.key}: the shop remembers {kept or 'nothing'}, the customer {', '.join(sorted(told))}")
    return wrong


def nobody_else_ordered(case: Case) -> list[str]:
    """An order is there because somebody asked for it, once; what was refused for good is not there."""
    wanted = {(one.customer, one.key) for one in case.asked if not one.refusal}
    named = Counter(case.books.keys.values())
    wrong = [f"{key} of {customer}: nobody asked" for customer, key in case.books.keys if (customer, key) not in wanted]
    return wrong + [
        f"{order_id}: {named[order_id]} keys name it" for order_id in case.books.orders if named[order_id] != 1
    ]


def all_ended(case: Case) -> list[str]:
    return [
        f"{order.id}: {order.state}"
        for order in case.books.orders.values()
        if order.state not in ENDED or order.ended is None
    ]


def stock_is_exact(case: Case) -> list[str]:
    """What is there is what was there without what confirmed orders bought, with what came back. Nothing is held."""
    wrong = []
    confirmed = Counter[str]()
    for one in case.asked:
        order = case.books.orders.get(one.answers[0][0]) if one.answers else None
        if order is not None and order.state in _SOLD:
            confirmed.update(one.units)
    for product, units in case.units.items():
        on_hand, held, sold = (book[product] for book in (case.books.on_hand, case.books.held, case.books.sold))
        if sold > units:
            wrong.append(f"{product}: {sold} sold of {units}")
        back = case.books.put_back[product]
        if on_hand != units - sold + back:
            wrong.append(f"{product}: {on_hand} on hand, {units} at the start, {sold} sold and {back} put back")
        if sold != confirmed[product]:
            wrong.append(
                f"{product}: {sold} sold by the shop's lines, {confirmed[product]} by what customers asked for"
            )
        if held:
            wrong.append(f"{product}: {held} held for nobody")
    return wrong


def money_is_taken_once(case: Case) -> list[str]:
    """One capture of a confirmed order, of its total; at most one of any other, and none of an order unheard of."""
    wrong = []
    captures: dict[str, list[int]] = defaultdict(list)
    for capture in case.books.captures:
        captures[capture.order].append(capture.amount)
    for order_id, amounts in captures.items():
        order = case.books.orders.get(order_id)
        if len(amounts) > 1:
            wrong.append(f"{order_id}: captured {len(amounts)} times")
        elif order is None:
            wrong.append(f"{order_id}: captured, and there is no such order")
        elif amounts[0] != order.total:
            wrong.append(f"{order_id}: {amounts[0]} captured of {order.total}")
    return wrong + [
        f"{order.id}: confirmed and never paid"
        for order in case.books.orders.values()
        if order.state in _SOLD and order.id not in captures
    ]


def nothing_is_taken_too_late(case: Case) -> list[str]:
    """A charge that arrives after its order was undone takes no money."""
    wrong = []
    for capture in case.books.captures:
        order = case.books.orders.get(capture.order)
        if order is not None and order.state == _CANCELLED and order.ended is not None and capture.at > order.ended:
            wrong.append(f"{order.id}: captured {capture.at - order.ended:.3f} s after it was undone")
    return wrong


def promised_is_given_back(case: Case) -> list[str]:
    """To the cent: no refund without its money, no money without its refund; of a cancelled order all of it."""
    wrong = []
    taken = Counter[str]()
    for capture in case.books.captures:
        taken[capture.order] += capture.amount
    due, unsure = Counter[str](), {one.order for one in case.promised if one.is_unsure}
    for one in case.promised:
        due[one.order] += one.amount
        order = case.books.orders.get(one.order)
        if order is not None and one.verb == "cancel" and not one.is_unsure and order.state != _CANCELLED:
            wrong.append(f"{one.order}: its cancelling was accepted, it is {order.state}")
    for order in case.books.orders.values():
        back = case.books.given_back[order.id]
        wanted = taken[order.id] if order.state == _CANCELLED else due[order.id]
        if back != wanted and order.id not in unsure:
            wrong.append(f"{order.id}: {back} given back, {wanted} promised; it is {order.state}")
    return wrong


def promised_units_are_back(case: Case) -> list[str]:
    if any(one.is_unsure for one in case.promised):
        return []
    back = Counter[str]()
    for one in case.promised:
        back.update(one.units)
    return [
        f"{product}: {case.books.put_back[product]} put back, {back[product]} promised"
        for product in {*back, *case.books.put_back}
        if case.books.put_back[product] != back[product]
    ]


def events_are_told(case: Case) -> list[str]:
    """Of each order that has ended every event, however the receiver was hurt; and nothing that has not happened."""
    if case.heard is None:
        return []
    happened, heard = {one.id for one in case.books.events}, {one.id for one in case.heard if one.is_signed}
    wrong = [
        f"{one.order}: {one.type} {one.id} was told to nobody"
        for one in case.books.events
        if one.id not in heard and _has_ended(case, one.order)
    ]
    return wrong + [
        f"{one.order}: {one.type} {one.id} was told and has not happened"
        for one in case.heard
        if one.order and one.id not in happened
    ]


def events_are_told_in_order(case: Case) -> list[str]:
    """Each order's, when they are told first: what was heard may come again later."""
    turn = {one.id: n for n, one in enumerate(case.books.events)}
    last: dict[str, Heard] = {}
    wrong, seen = [], set[str]()
    for one in case.heard or ():
        if one.id in seen or one.id not in turn:
            continue
        seen.add(one.id)
        before = last.get(one.order)
        if before is not None and turn[before.id] > turn[one.id]:
            wrong.append(f"{one.order}: {one.type} {one.id} was told after {before.type} {before.id}")
        else:
            last[one.order] = one
    return wrong


def webhooks_are_signed(case: Case) -> list[str]:
    return [
        f"{one.order}: the signature of {one.type} {one.id} is wrong" for one in case.heard or () if not one.is_signed
    ]


def _has_ended(case: Case, order_id: str) -> bool:
    order = case.books.orders.get(order_id)
    return order is not None and order.ended is not None


# fmt: off
PROMISES: Sequence[tuple[str, str, Callable[[Case], list[str]]]] = [
    ("accepted_are_orders", "Every 202 is an order of that id, customer and total.", accepted_are_orders),
    ("one_order_for_each_key", "A key has one order, however often it was sent.", one_order_for_each_key),
    ("nobody_else_ordered", "There is no order that nobody asked for.", nobody_else_ordered),
    ("all_ended", "Every order has ended, confirmed or undone.", all_ended),
    ("stock_is_exact", "Sold is what confirmed orders bought; the rest is on hand; nothing is held.", stock_is_exact),
    ("money_is_taken_once", "The gateway took money once of each confirmed order: its total.", money_is_taken_once),
    ("promised_is_given_back", "What was promised was given back, no cent more.", promised_is_given_back),
    ("promised_units_are_back", "What was to be put back into the stock is there.", promised_units_are_back),
    ("nothing_is_taken_too_late", "Nothing was taken after an order was undone.", nothing_is_taken_too_late),
    ("events_are_told", "The receiver of webhooks heard every event of every order that ended.", events_are_told),
    ("events_are_told_in_order", "Each order's events came there in their order.", events_are_told_in_order),
    ("webhooks_are_signed", "Every webhook had a valid signature.", webhooks_are_signed),
]
# fmt: on


def judge(case: Case) -> list[Verdict]:
    """Every promise, in the order of the table."""
    found = [(name, meaning, promise(case)) for name, meaning, promise in PROMISES]
    return [Verdict(name, meaning, len(wrong), wrong[:SHOWN]) for name, meaning, wrong in found]
