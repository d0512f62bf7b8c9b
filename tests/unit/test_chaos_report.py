"""What a fault run reports: what makes it fine, what makes it prove nothing, and the page."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from comanda.proof.chaos import page, timeline
from comanda.proof.chaos.asked import Asked
from comanda.proof.chaos.faults import KINDS
from comanda.proof.chaos.judge import Verdict
from comanda.proof.chaos.ledgers import Books, Order
from comanda.proof.chaos.report import Wanted, document
from comanda.proof.chaos.run import Result
from comanda.proof.chaos.schedule import Hurt, draw
from comanda.proof.findings import Finding

BEGAN = 1000.0
ORDERS = 40
PLAN = draw(KINDS, seed=1, duration=20, count=20)
WANTED = Wanted(1, ORDERS, 20.0, PLAN, "v1")


def result() -> Result:
    """A fine run of forty orders and twenty faults."""
    books = Books()
    asked = []
    for n in range(ORDERS):
        sent, name = BEGAN + 0.55 * n, f"o{n}"
        asked.append(Asked(f"k{n}", "ana", 500, {"tea": 1}, sent, sent + 0.1, [(name, 500)]))
        books.orders[name] = Order(name, "ana", "CONFIRMED", None, 500, sent, sent + 0.5)
    hurts = [Hurt(one, BEGAN + one.at, BEGAN + one.until, "it <b>happened</b>") for one in PLAN]
    return Result(BEGAN, BEGAN + 19, asked, hurts, books, [finding()], [Verdict("promise", "It is kept.", 0, [])])


def finding(**changes: Any) -> Finding:
    return replace(Finding("check", 1, "It holds.", "passed", 0, [], "Mend it."), **changes)


def report(came_of_it: Result, wanted: Wanted = WANTED, **how: Any) -> dict[str, Any]:
    return document(wanted, came_of_it, seconds=30.0, **how)


def test_a_fine_run_is_fine() -> None:
    told = report(result())
    assert (told["isFine"], told["exitCode"], told["trivial"]) == (True, 0, [])
    assert (told["accepted"], told["ended"], told["endedInTime"]) == (ORDERS, ORDERS, 1.0)
    assert sum(kind["faults"] for kind in told["kinds"]) == len(told["faults"]) == 20
    line = told["timeline"]
    assert sum(line["accepted"]) * line["every"] == pytest.approx(ORDERS)
    assert sum(line["ended"]) * line["every"] == pytest.approx(ORDERS)


def too_few_orders(one: Result) -> None:
    one.asked[0].answers.clear()


def refused(one: Result) -> None:
    one.asked[0].refusal = "VALIDATION_FAILED"


def a_fault_that_missed(one: Result) -> None:
    one.hurts[3].what = ""


def one_kind(one: Result) -> None:
    for hurt in one.hurts:
        hurt.planned = replace(hurt.planned, kind=KINDS[0])


def nothing_confirmed(one: Result) -> None:
    one.books.orders |= {name: replace(order, state="CANCELLED") for name, order in one.books.orders.items()}


def too_late(one: Result) -> None:
    for name in list(one.books.orders)[:3]:
        one.books.orders[name] = replace(one.books.orders[name], ended=one.calm + 61)


def never_ended(one: Result) -> None:
    one.books.orders["o1"] = replace(one.books.orders["o1"], ended=None)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (too_few_orders, "39 orders were accepted, 40 were asked for"),
        (refused, "orders were refused: {'VALIDATION_FAILED': 1}"),
        (a_fault_that_missed, "19 faults happened, 20 were asked for"),
        (one_kind, "there were 1 kinds of faults, 8 are needed"),
        (nothing_confirmed, "no order was confirmed"),
        (too_late, "92.5% of the orders had ended 60 s after the last fault"),
        (never_ended, "not all orders had ended 120 s after the last fault"),
    ],
)
def test_a_run_that_proves_nothing_says_why(change: Callable[[Result], None], sentence: str) -> None:
    came_of_it = result()
    change(came_of_it)
    told = report(came_of_it)
    assert sentence in told["trivial"]
    assert (told["isFine"], told["exitCode"]) == (False, 1)


def test_what_should_not_have_happened_around_it_counts() -> None:
    assert report(result(), notes=["comanda up itself ended"])["exitCode"] == 1


def test_a_broken_promise_and_a_broken_invariant_weigh_more_than_anything_else() -> None:
    came_of_it = result()
    too_few_orders(came_of_it)
    came_of_it.verdicts = [Verdict("promise", "It is kept.", 2, ["o1: no", "o2: no"])]
    assert (report(came_of_it)["exitCode"], report(came_of_it)["broken"]) == (3, 1)
    came_of_it = result()
    came_of_it.findings = [finding(status="failed", count=1, rows=[{"order_id": "o1"}])]
    assert (report(came_of_it)["exitCode"], report(came_of_it)["broken"]) == (3, 1)


def test_a_ledger_that_does_not_answer_leaves_the_run_unproved() -> None:
    came_of_it = result()
    came_of_it.findings = [finding(status="unknown", note="the gateway does not answer")]
    assert report(came_of_it)["exitCode"] == 1


def test_the_page_needs_nothing_else_and_shows_text_as_text() -> None:
    html = page.rendered(report(result()))
    assert "://" not in html
    assert "<script" not in html
    assert "it &lt;b&gt;happened&lt;/b&gt;" in html
    assert all(kind.name in html for kind in {planned.kind for planned in PLAN})


def test_bars_and_their_labels_keep_apart() -> None:
    drawing = timeline.drawing(report(result()))
    for lane in drawing.lanes:
        spans: dict[float, list[tuple[float, float]]] = {}
        for bar in lane.bars:
            letters = len(bar.label) * 5.9
            ends = [bar.x, bar.x + max(bar.width, bar.shade), bar.label_x]
            ends.append(bar.label_x + (letters if bar.anchor == "start" else -letters))
            spans.setdefault(bar.y, []).append((min(ends), max(ends)))
        for row in spans.values():
            row.sort()
            assert all(earlier[1] <= later[0] + 0.5 for earlier, later in pairwise(row))
        assert all(lane.y <= bar.y < lane.y + lane.height for bar in lane.bars)
