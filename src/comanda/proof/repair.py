"""What would mend what is broken: from findings to proposals. Pure; nothing here is ever applied by Comanda.

Stock is told three times: by the stock's row, by the movements, by the reservations. Where an order's movements and its
reservation disagree, two stand against one: if the stock's row agrees with the movements, the reservation is put right,
else the movements are. What is left of a difference between the rows and the movements is booked without an order. So
all proposals together make the three agree, in whatever order they are carried out.
"""

import shlex
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from comanda.db import twin
from comanda.proof.findings import Finding, broken
from comanda.proof.guards import DEFINITIONS
from comanda.proof.shell import api, post, psql, psql_of

_sql = twin(__file__)
MOVE = _sql["move"]
HOLD = _sql["hold"]
REBOOK = _sql["rebook"]
EXPIRE = _sql["expire"]
GIVE_BACK = _sql["give_back"]
SELL = _sql["sell"]
RECORD = _sql["record"]
RECORD_RETURN = _sql["record_return"]
TELL = _sql["tell"]
BEGIN_AGAIN = _sql["begin_again"]

DECIDE = "decide"
"""The kind of a proposal that only looks: somebody has to decide what is true."""

_REASON = "reconciled by comanda doctor"
_SOLD = frozenset({"CONFIRMED", "SHIPPED", "DELIVERED"})

Row = Mapping[str, Any]
Place = tuple[Any, str]


@dataclass(frozen=True, slots=True)
class Proposal:
    """One thing to do, for one subject.

    Args:
        check: whose finding it mends.
        kind: movement, hold, reservation, release, return, sale, refund, charge, payment, message, saga, worker or
            guard; or `decide`.
        subject: what it is about, as in the finding's row.
        amounts: units or minor units, by name.
        command: for a shell, as it stands.
        why: it is safe.
    """

    check: str
    kind: str
    subject: str
    amounts: Mapping[str, int]
    command: str
    why: str


def proposals(findings: Sequence[Finding]) -> list[Proposal]:
    """What would mend the rows that these findings show; after that, look again for what they did not show."""
    failed = {finding.name: finding for finding in broken(findings)}
    made = list(_stock(failed))
    for name, finding in failed.items():
        rule = _RULES.get(name)
        if rule is not None:
            made += [one for row in finding.rows if (one := rule(row, failed)) is not None]
    return made


# Stock


def _stock(failed: Mapping[str, Finding]) -> Iterator[Proposal]:
    drifts, holds, orders = (
        failed.get(name) for name in ("stock_is_its_movements", "held_is_reserved", "bookings_match_reservations")
    )
    added = _Added()
    yield from _of_orders(_rows(orders), {_place(row) for row in _rows(drifts)}, added)
    if _is_cut_off(orders):
        return  # what follows needs the sums over all orders: first those that are shown, then look again
    leads: dict[Place, list[int]] = defaultdict(lambda: [0, 0])  # of the stock's rows over the movements
    for row in _rows(drifts):
        leads[_place(row)] = [_lead(row, "on_hand", "movements_on_hand"), _lead(row, "held", "movements_held")]
    missing: dict[Place, int] = defaultdict(int)  # what reservations hold beyond the stock's rows
    for row in _rows(holds):
        missing[_place(row)] = _lead(row, "active_reservations", "held")
    for place in sorted(leads if _is_cut_off(drifts) else {*leads, *added.booked}, key=str):
        on_hand, held = (lead - booked for lead, booked in zip(leads[place], added.booked[place], strict=True))
        if on_hand or held:
            yield _movement(place, on_hand, held)
    for place in sorted(missing if _is_cut_off(holds) else {*missing, *added.reserved}, key=str):
        if units := missing[place] + added.reserved[place]:
            yield _hold(place, units)


class _Added:
    """What the proposals for orders add at each place: to the movements (on hand, held), to what reservations hold."""

    def __init__(self) -> None:
        self.booked: dict[Place, list[int]] = defaultdict(lambda: [0, 0])
        self.reserved: dict[Place, int] = defaultdict(int)


def _of_orders(rows: Sequence[Row], drifted: Collection[Place], added: _Added) -> Iterator[Proposal]:
    of_order: dict[Any, list[Row]] = defaultdict(list)
    for row in rows:
        of_order[row["order_id"]].append(row)
    for order_id, lines in of_order.items():
        if any(_place(row) in drifted for row in lines):
            yield from (_order_movement(order_id, row, added) for row in lines)
        else:
            yield _rebooked(order_id, lines)
            for row in lines:
                added.reserved[_place(row)] += row["movements_held"] - row["reserved_held"]


def _place(row: Row) -> Place:
    return row["product_id"], row["location"]


def _lead(row: Row, one: str, other: str) -> int:
    return int((row[one] or 0) - (row[other] or 0))


def _rows(finding: Finding | None) -> Sequence[Row]:
    return finding.rows if finding is not None else ()


def _is_cut_off(finding: Finding | None) -> bool:
    return finding is not None and finding.count > len(finding.rows)


def _order_movement(order_id: Any, row: Row, added: _Added) -> Proposal:
    on_hand = int(row["movements_sold"] - row["reserved_sold"])
    held = int(row["reserved_held"] - row["movements_held"])
    product_id, location = _place(row)
    booked = added.booked[product_id, location]
    booked[:] = booked[0] + on_hand, booked[1] + held
    return Proposal(
        "bookings_match_reservations",
        "movement",
        f"order {order_id}, product {product_id} at {location}",
        {"onHand": on_hand, "held": held},
        psql(MOVE, product_id, location, on_hand, held, order_id, _REASON),
        "The stock's row and the order's reservation stay as they are: only the movement that they miss is booked.",
    )


def _rebooked(order_id: Any, rows: Sequence[Row]) -> Proposal:
    held, sold = (int(sum(row[name] for row in rows)) for name in ("movements_held", "movements_sold"))
    state = "FULFILLED" if sold > 0 else "ACTIVE" if held > 0 else "RELEASED"
    return Proposal(
        "bookings_match_reservations",
        "reservation",
        f"order {order_id}",
        {"held": held, "sold": sold},
        psql(REBOOK, order_id, state),
        f"Stock and movements agree that it is {state}. `UPDATE 0`: the reservation is gone; restore it from a backup.",
    )


def _movement(place: Place, on_hand: int, held: int) -> Proposal:
    return Proposal(
        "stock_is_its_movements",
        "movement",
        f"product {place[0]} at {place[1]}",
        {"onHand": on_hand, "held": held},
        psql(MOVE, *place, on_hand, held, None, _REASON),
        "The stock's row is what was sold from, and stays. Orders may go on meanwhile: they change both sides alike. "
        "Then count the goods.",
    )


def _hold(place: Place, units: int) -> Proposal:
    return Proposal(
        "held_is_reserved",
        "hold",
        f"product {place[0]} at {place[1]}",
        {"held": units},
        psql(HOLD, *place, units, _REASON),
        "Row and movement change in one statement; the database refuses it if more would be held than lies there.",
    )


# Orders, money, sagas: one proposal for each row


def _holding(row: Row, _failed: Mapping[str, Finding]) -> Proposal:
    subject = f"order {row['order_id']}, reservation {row['reservation_id']}"
    if row["state"] == "ACTIVE":
        command = psql(EXPIRE, row["reservation_id"])
        why = (
            "The relay lets it expire the usual way. After the proposals for the stock: it has to be held to be let go."
        )
        return Proposal("cancelled_hold_nothing", "release", subject, {}, command, why)
    command = psql(GIVE_BACK, row["reservation_id"])
    why = "One statement, once: it takes only a reservation that is FULFILLED. See first that the goods did not go out."
    return Proposal("cancelled_hold_nothing", "return", subject, {}, command, why)


def _money(row: Row, _failed: Mapping[str, Finding]) -> Proposal:
    order_id, excess = row["order_id"], row["kept"] - row["due"]
    captures = [(key, int(amount)) for amount, _, key in (one.partition(":") for one in row["captures"].split())]
    if excess > 0 and captures:
        # The last capture first: of two, it is the one that should not be there.
        key, amount = captures[-1]
        units = min(excess, amount)
        return Proposal(
            "money_is_exact",
            "refund",
            f"order {order_id}",
            {"amount": units},
            post("/refunds", {"key": f"repair:{order_id}:{units}", "chargeKey": key, "amount": units}),
            "The gateway gives back once under this key, and never more than was captured. Then look again.",
        )
    if excess < 0 and not captures and row["state"] in _SOLD:
        return Proposal(
            "money_is_exact",
            "charge",
            f"order {order_id}",
            {"amount": -excess},
            post(
                "/charges",
                {
                    "key": f"repair:{order_id}:charge",
                    "orderId": str(order_id),
                    "amount": -excess,
                    "currency": row["currency"],
                },
            ),
            "Nothing was captured for it, and the gateway charges once under this key. Ask the customer first.",
        )
    return _decided("money_is_exact", f"order {order_id}", f"comanda orders show {order_id}", row["problem"])


def _unpaid(row: Row, failed: Mapping[str, Finding]) -> Proposal:
    order_id, subject = row["order_id"], f"order {row['order_id']}"
    money = failed.get("money_is_exact")
    if _is_cut_off(money) or any(str(one["order_id"]) == str(order_id) for one in _rows(money)):
        why = "The gateway's ledger is wrong too: mend that first (money_is_exact), then look again."
        return _decided("payments_fit_orders", subject, f"comanda orders show {order_id}", why)
    if row.get("refunds"):
        why = "Refunds were promised or paid: what its payment says has to fit them; see the ledger."
        return _decided("payments_fit_orders", subject, f"comanda orders show {order_id}", why)
    key = row["key"] or f"repair:{order_id}:charge"
    if row["state"] in _SOLD:
        command = psql(RECORD, order_id, key)
    elif row["key"] is not None and row["state"] in {"CANCELLED", "REFUNDED"}:
        command = psql(RECORD_RETURN, order_id)
    else:
        why = "Nothing is recorded of its payment: the gateway's ledger tells what there is."
        return _decided("payments_fit_orders", subject, f"comanda orders show {order_id}", why)
    amounts = {"captured": row["captured"] or 0, "refunded": row["refunded"] or 0}
    why = f'No money moves: only our note of it. After `curl -sS "$COMANDA_GATEWAY_URL/charges?key={key}"` has said so'
    if row["key"] is None:
        why += "; if its charge was skipped because it was paid otherwise, the receipt has to say so"
    return Proposal("payments_fit_orders", "payment", subject, amounts, command, f"{why}.")


def _halted(row: Row, _failed: Mapping[str, Finding]) -> Proposal:
    subject, is_ended = f"order {row['order_id']}", row["state"] in _SOLD | {"CANCELLED", "REFUNDED"}
    if row["saga_id"] is None and not is_ended:
        command = psql(BEGIN_AGAIN, row["order_id"])
        why = "It goes on under its old id, so under the same keys: each step finds what was done and does it once."
        return Proposal("orders_have_sagas", "saga", subject, {}, command, why)
    if row["saga_id"] is not None and is_ended and row["saga_state"] not in {"COMPLETED", "COMPENSATED"}:
        command = f"comanda saga resolve {row['saga_id']} --reason {shlex.quote('the order is ' + row['state'])}"
        why = "The order has ended: nothing is left to do, and no step runs any more. See `comanda saga show` first."
        return Proposal("orders_have_sagas", "saga", subject, {}, command, why)
    why = "Order and saga tell different ends: the attempts tell which is true."
    return _decided("orders_have_sagas", subject, f"comanda orders show {row['order_id']}", why)


def _stuck(row: Row, _failed: Mapping[str, Finding]) -> Proposal:
    command = f"comanda saga retry {row['saga_id']} --reason {shlex.quote('repaired')}"
    why = f"Each attempt has the same key as those before. First repair what it says: {row['why']}"
    return Proposal("nothing_is_stuck", "saga", f"{row['kind']} {row['subject']}", {}, command, why)


def _overdue(row: Row, _failed: Mapping[str, Finding]) -> Proposal:
    why = "Any number of workers may run: a lease has one holder."
    return Proposal(
        "nothing_is_overdue",
        "worker",
        f"{row['kind']} {row['subject']}",
        {},
        f"comanda worker --queues {row['queue']}",
        why,
    )


def _unmoved(row: Row, _failed: Mapping[str, Finding]) -> Proposal:
    why = "Any number of relays may run: a cursor has one holder."
    return Proposal("events_move_on", "worker", f"event {row['event_id']}", {}, "comanda relay", why)


def _message(row: Row, _failed: Mapping[str, Finding]) -> Proposal:
    subject = f"message {row['notification_id']}"
    if row["saga_state"] == "COMPENSATION_FAILED":
        command = f"comanda saga retry {row['saga_id']} --reason {shlex.quote('the provider answers again')}"
        why = "The provider is given the same key: the same message twice is one message."
        return Proposal("messages_go_out", "saga", subject, {}, command, why)
    why = "A delivery that is gone or disagrees: ask the provider whether the message went out."
    return _decided("messages_go_out", subject, f"comanda saga show {row['notification_id']}", why)


def _guard(row: Row, _failed: Mapping[str, Finding]) -> Proposal:
    command = psql_of(DEFINITIONS[row["name"]])
    why = "It refuses to stand while a row breaks it: those are named by the other checks."
    return Proposal("guards_stand", "guard", f"{row['relation']}.{row['name']}", {}, command, why)


def _decided(check: str, subject: str, command: str, why: str) -> Proposal:
    return Proposal(check, DECIDE, subject, {}, command, why)


def _shown(check: str, why: str) -> Callable[[Row, Mapping[str, Finding]], Proposal]:
    def look(row: Row, _failed: Mapping[str, Finding]) -> Proposal:
        return _decided(check, f"order {row['order_id']}", f"comanda orders show {row['order_id']}", why)

    return look


def _untold(row: Row, _failed: Mapping[str, Finding]) -> Proposal:
    order_id, subject = row["order_id"], f"order {row['order_id']}"
    is_sold, is_cancelled = row["state"] in _SOLD, row["state"] == "CANCELLED"
    if (is_sold and not row["confirmations"] and not row["cancellations"]) or (
        is_cancelled and not row["cancellations"]
    ):
        command = psql(TELL, order_id, "order_confirmation" if is_sold else "order_cancellation")
        why = (
            "One message of a kind for each order: `INSERT 0 0` says that there is one, retracted; then write by hand."
        )
        return Proposal("customers_are_told", "message", subject, {}, command, why)
    why = "What went out is not what is true: write to this customer by hand."
    return _decided("customers_are_told", subject, f"comanda orders show {order_id}", why)


def _unsold(row: Row, failed: Mapping[str, Finding]) -> Proposal | None:
    order_id = row["order_id"]
    if any(one["order_id"] == order_id for one in _rows(failed.get("bookings_match_reservations"))):
        return None  # what is proposed there may be all: look again after it
    subject = f"order {order_id}"
    if row["sold"] is None and row["reservation"] in {"ACTIVE", "EXPIRED"}:
        first = next(one for one in _rows(failed["confirmed_are_sold"]) if one["order_id"] == order_id)
        if row is not first:
            return None  # one sale has all lines of the order
        why = (
            "One statement, once: what was held for it is sold. The database refuses it if so many don't lie there any "
            "more: then refund the order."
        )
        return Proposal("confirmed_are_sold", "sale", subject, {}, psql(SELL, order_id), why)
    why = "Were the goods sent? Then book the sale, else refund the order."
    return _decided("confirmed_are_sold", subject, f"comanda orders show {order_id}", why)


def _oversold(row: Row, _failed: Mapping[str, Finding]) -> Proposal:
    short = max(row["held"] - row["on_hand"], 0)
    body = {
        "productId": str(row["product_id"]),
        "quantity": max(short, 1),
        "location": row["location"],
        "movementType": "ADJUSTMENT",
        "reason": "counted",
    }
    return Proposal(
        "nothing_is_oversold",
        DECIDE,
        f"product {row['product_id']} at {row['location']}",
        {"short": short},
        api("/inventory/add-stock", body),
        "Only if so many more were counted than the shop knew of; else refund orders that hold them.",
    )


_RULES: Mapping[str, Callable[[Row, Mapping[str, Finding]], Proposal | None]] = {
    "cancelled_hold_nothing": _holding,
    "money_is_exact": _money,
    "payments_fit_orders": _unpaid,
    "orders_have_sagas": _halted,
    "nothing_is_stuck": _stuck,
    "nothing_is_overdue": _overdue,
    "events_move_on": _unmoved,
    "messages_go_out": _message,
    "guards_stand": _guard,
    "nothing_is_oversold": _oversold,
    "accepted_orders_exist": _shown("accepted_orders_exist", "Its event tells what was ordered: place it again."),
    "totals_are_sums": _shown("totals_are_sums", "Its event OrderCreated tells the total that was accepted."),
    "confirmed_are_sold": _unsold,
    "customers_are_told": _untold,
    "returns_are_booked": _shown("returns_are_booked", "What came back is counted, then booked with a reason."),
    "nothing_is_overshipped": _shown("nothing_is_overshipped", "The parcels tell what was sent."),
    "refunds_go_on": _shown("refunds_go_on", "The gateway tells whether it was given back, by the refund's key."),
    "messages_go_out_once": _shown("messages_go_out_once", "The provider knows how many messages went out."),
    "events_are_there_once": _shown("events_are_there_once", "Who listens has to be told what the order shows."),
    "states_have_histories": _shown("states_have_histories", "The attempts tell which state is true."),
}
