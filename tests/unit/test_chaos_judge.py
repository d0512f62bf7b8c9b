"""The judge of the fault runs is fed each kind of wrong, and finds it."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest

from comanda.proof.chaos.asked import Asked, Promised
from comanda.proof.chaos.judge import Case, judge
from comanda.proof.chaos.ledgers import Books, Capture, Event, Order
from comanda.proof.chaos.recovery import recoveries
from comanda.proof.chaos.schedule import Hurt, Kind, Planned
from comanda.proof.receiver import Heard


def asked(key: str, order: str, *, units: int = 2, sent: float = 100.0) -> Asked:
    return Asked(key, "ana", 500 * units, {"tea": units}, sent, sent + 0.1, [(order, 500 * units)])


def fine() -> Case:
    """Two confirmed orders, of one a part is refunded and a unit back; one undone after its money had been taken."""
    books = Books(
        orders={
            "o1": Order("o1", "ana", "CONFIRMED", None, 1000, 100.0, 101.0),
            "o2": Order("o2", "ana", "CONFIRMED", None, 500, 100.0, 101.5),
            "o3": Order("o3", "ana", "CANCELLED", "PAYMENT_UNAVAILABLE", 1500, 100.0, 108.0),
        },
        keys={("ana", "k1"): "o1", ("ana", "k2"): "o2", ("ana", "k3"): "o3"},
        on_hand=Counter(tea=8),
        sold=Counter(tea=3),
        put_back=Counter(tea=1),
        given_back=Counter(o1=300, o3=1500),
        captures=[Capture("o1", 1000, 100.5), Capture("o2", 500, 100.6), Capture("o3", 1500, 107.0)],
        events=[
            Event("e1", "OrderCreated", "o1"),
            Event("e2", "OrderCreated", "o2"),
            Event("e3", "OrderConfirmed", "o1"),
            Event("e4", "OrderConfirmed", "o2"),
        ],
    )
    twice = asked("k1", "o1")
    twice.answers.append(("o1", 1000))
    promised = [Promised("o1", "returns", 300, {"tea": 1})]
    # Orders are told beside each other, and what was not heard to be taken is told again.
    told = [heard("e1", "o1"), heard("e1", "o1"), heard("e3", "o1"), heard("e2", "o2"), heard("e4", "o2")]
    told += [heard("s1", ""), heard("e2", "o2")]
    return Case([twice, asked("k2", "o2", units=1), asked("k3", "o3", units=3)], books, {"tea": 10}, promised, told)


def heard(event: str, order: str, *, is_signed: bool = True) -> Heard:
    return Heard(101.0, event, "OrderConfirmed", order, is_signed, {}, b"")


def broken(case: Case) -> list[str]:
    return [verdict.name for verdict in judge(case) if not verdict.is_kept]


def test_books_that_fit_are_fine() -> None:
    assert broken(fine()) == []


def _order(case: Case, name: str, **changes: object) -> None:
    order = case.books.orders[name]
    fields = {each: getattr(order, each) for each in Order.__dataclass_fields__}
    case.books.orders[name] = Order(**{**fields, **changes})


def lost(case: Case) -> None:
    del case.books.orders["o1"]


def of_another_customer(case: Case) -> None:
    _order(case, "o1", customer="eve")


def another_total(case: Case) -> None:
    _order(case, "o3", total=1501)


def told_another_total(case: Case) -> None:
    case.asked[1].answers[:] = [("o2", 499)]


def two_orders_for_a_key(case: Case) -> None:
    case.asked[0].answers.append(("o2", 500))


def two_keys_for_an_order(case: Case) -> None:
    case.asked[1].answers[:] = [("o1", 500)]


def forgotten_key(case: Case) -> None:
    del case.books.keys["ana", "k2"]


def uninvited(case: Case) -> None:
    case.books.orders["o9"] = Order("o9", "ana", "CANCELLED", "OUT_OF_STOCK", 1, 100.0, 101.0)


def uninvited_key(case: Case) -> None:
    case.books.keys["eve", "k1"] = "o1"


def refused_and_yet_there(case: Case) -> None:
    case.asked[2].answers.clear()
    case.asked[2].refusal = "VALIDATION_FAILED"


def under_way(case: Case) -> None:
    _order(case, "o3", state="PAYMENT_PENDING", ended=None)


def oversold(case: Case) -> None:
    case.books.sold["tea"] = 11


def vanished(case: Case) -> None:
    case.books.on_hand["tea"] = 7


def sold_to_nobody(case: Case) -> None:
    case.books.sold["tea"], case.books.on_hand["tea"] = 4, 7


def held(case: Case) -> None:
    case.books.held["tea"] = 1


def charged_twice(case: Case) -> None:
    case.books.captures = [*case.books.captures, Capture("o1", 1000, 100.9)]


def charged_a_stranger(case: Case) -> None:
    case.books.captures = [*case.books.captures, Capture("o7", 1000, 100.9)]


def charged_too_much(case: Case) -> None:
    case.books.captures = [Capture("o1", 1001, 100.5), *case.books.captures[1:]]


def never_paid(case: Case) -> None:
    case.books.captures = case.books.captures[1:]


def charged_too_late(case: Case) -> None:
    case.books.captures = [*case.books.captures[:2], Capture("o3", 1500, 108.5)]


def given_back_twice(case: Case) -> None:
    case.books.given_back["o1"] = 600


def given_back_unasked(case: Case) -> None:
    case.books.given_back["o2"] = 1


def not_given_back(case: Case) -> None:
    case.books.given_back["o1"] = 0


def kept_though_undone(case: Case) -> None:
    case.books.given_back["o3"] = 1499


def not_cancelled(case: Case) -> None:
    case.promised = [*case.promised, Promised("o2", "cancel", 0, {})]


def not_put_back(case: Case) -> None:
    case.books.put_back["tea"], case.books.on_hand["tea"] = 0, 7


def never_told(case: Case) -> None:
    case.heard = [one for one in case.heard or () if one.id != "e3"]


def told_nothing(case: Case) -> None:
    case.heard = []


def told_by_a_stranger(case: Case) -> None:
    case.heard = [replace(one, is_signed=one.id != "e3") for one in case.heard or ()]


def told_what_never_happened(case: Case) -> None:
    case.heard = [*(case.heard or ()), heard("e9", "o1")]


def told_in_another_order(case: Case) -> None:
    case.heard = sorted(case.heard or (), key=lambda one: one.id, reverse=True)


def overtaken(case: Case) -> None:
    case.heard = [heard("e3", "o1"), *(case.heard or ())]


def forged(case: Case) -> None:
    case.heard = [*(case.heard or ()), heard("e4", "o2", is_signed=False)]


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        (lost, "accepted_are_orders"),
        (of_another_customer, "accepted_are_orders"),
        (another_total, "accepted_are_orders"),
        (told_another_total, "accepted_are_orders"),
        (two_orders_for_a_key, "one_order_for_each_key"),
        (two_keys_for_an_order, "one_order_for_each_key"),
        (forgotten_key, "one_order_for_each_key"),
        (uninvited, "nobody_else_ordered"),
        (uninvited_key, "nobody_else_ordered"),
        (refused_and_yet_there, "nobody_else_ordered"),
        (under_way, "all_ended"),
        (oversold, "stock_is_exact"),
        (vanished, "stock_is_exact"),
        (sold_to_nobody, "stock_is_exact"),
        (held, "stock_is_exact"),
        (charged_twice, "money_is_taken_once"),
        (charged_a_stranger, "money_is_taken_once"),
        (charged_too_much, "money_is_taken_once"),
        (never_paid, "money_is_taken_once"),
        (charged_too_late, "nothing_is_taken_too_late"),
        (given_back_twice, "promised_is_given_back"),
        (given_back_unasked, "promised_is_given_back"),
        (not_given_back, "promised_is_given_back"),
        (kept_though_undone, "promised_is_given_back"),
        (not_cancelled, "promised_is_given_back"),
        (not_put_back, "promised_units_are_back"),
        (never_told, "events_are_told"),
        (told_nothing, "events_are_told"),
        (told_by_a_stranger, "events_are_told"),
        (told_what_never_happened, "events_are_told"),
        (told_in_another_order, "events_are_told_in_order"),
        (overtaken, "events_are_told_in_order"),
        (told_by_a_stranger, "webhooks_are_signed"),
        (forged, "webhooks_are_signed"),
    ],
)
def test_a_wrong_is_found(wrong: Callable[[Case], None], found: str) -> None:
    case = fine()
    wrong(case)
    assert found in broken(case)


def test_of_what_has_not_ended_nothing_has_to_be_told_yet() -> None:
    case = fine()
    _order(case, "o1", state="PAYMENT_PENDING", ended=None)
    never_told(case)
    assert "events_are_told" not in broken(case)


def test_where_nobody_listens_nothing_is_told() -> None:
    case = fine()
    case.heard = None
    assert broken(case) == []


def test_the_first_of_many_wrongs_are_told_and_all_are_counted() -> None:
    case = fine()
    case.books.orders |= {f"x{n}": Order(f"x{n}", "ana", "CANCELLED", "X", 1, 1.0, 2.0) for n in range(30)}
    (verdict,) = [one for one in judge(case) if one.name == "nobody_else_ordered"]
    assert (verdict.count, len(verdict.wrong)) == (30, 20)


def hurt(name: str, began: float, until: float) -> Hurt:
    return Hurt(Planned(1, 0.0, Kind(name, "part", until - began), 0.5), began, until, "it happened")


def test_recovery_is_counted_from_the_fault_s_end_by_orders_that_were_sent_after_it() -> None:
    case = fine()
    early, late = asked("k1", "o1", sent=99.0), asked("k2", "o2", sent=100.5)
    (one,) = recoveries([hurt("a", 98.0, 100.0)], [early, late], case.books.orders)
    assert (one.accepted, one.ended) == (0.6, 1.5)
    assert one.meanwhile == []


def test_a_recovery_tells_which_other_faults_were_on_meanwhile() -> None:
    case = fine()
    faults = [hurt("a", 98.0, 100.0), hurt("b", 100.2, 100.4), hurt("c", 90.0, 91.0), hurt("d", 102.0, 103.0)]
    first, *_, last = recoveries(faults, [asked("k2", "o2", sent=100.5)], case.books.orders)
    assert first.meanwhile == ["b"]
    assert (last.accepted, last.ended) == (None, None), "nothing was sent after it"
