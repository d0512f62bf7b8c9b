"""The two rules of the doctor that are judged in Python: money, and histories."""

import pytest

from comanda.proof import history, ledger
from comanda.proof.ledger import Line, Owed

CAPTURE, REFUND = Line("capture", 500, "USD"), Line("refund", 500, "USD")
HALF, LESS, FOREIGN = Line("refund", 250, "USD"), Line("capture", 499, "USD"), Line("capture", 500, "EUR")
MORE = Line("capture", 501, "USD")
PAID = [">PENDING", "PENDING>PROCESSING", "PROCESSING>PAYMENT_PENDING", "PAYMENT_PENDING>CONFIRMED"]


def owed(state: str) -> Owed:
    return Owed("o", state, 500, "USD")


@pytest.mark.parametrize(
    ("state", "lines"),
    [
        ("CONFIRMED", [CAPTURE]),
        ("SHIPPED", [CAPTURE]),
        ("CANCELLED", []),
        ("CANCELLED", [CAPTURE, REFUND]),
        ("CANCELLED", [CAPTURE, HALF, HALF]),
        ("REFUNDED", [CAPTURE, REFUND]),
        ("PAYMENT_PENDING", []),
        ("PAYMENT_PENDING", [CAPTURE]),
        ("PAYMENT_FAILED", [CAPTURE, HALF]),
    ],
)
def test_money_that_is_exact(state: str, lines: list[Line]) -> None:
    assert ledger.problem(owed(state), lines, []) is None


@pytest.mark.parametrize(
    ("state", "lines"),
    [
        ("CONFIRMED", []),
        ("CONFIRMED", [LESS]),
        ("CONFIRMED", [CAPTURE, HALF]),
        ("CONFIRMED", [FOREIGN]),
        ("CONFIRMED", [CAPTURE, CAPTURE, REFUND]),
        ("CANCELLED", [CAPTURE]),
        ("CANCELLED", [CAPTURE, HALF]),
        ("CANCELLED", [REFUND]),
        ("PAYMENT_PENDING", [MORE]),
        ("PAYMENT_PENDING", [CAPTURE, CAPTURE]),
    ],
)
def test_money_that_is_not(state: str, lines: list[Line]) -> None:
    assert ledger.problem(owed(state), lines, []) is not None


def test_what_came_while_the_doctor_looked_is_no_alarm() -> None:
    assert ledger.problem(owed("CONFIRMED"), [], [CAPTURE]) is None, "captured between look and snapshot"
    assert ledger.problem(owed("CONFIRMED"), [CAPTURE], [HALF, HALF]) is None, "given back after the snapshot"
    assert ledger.problem(owed("CANCELLED"), [CAPTURE], [REFUND]) is None
    assert ledger.problem(owed("CANCELLED"), [], [CAPTURE, REFUND]) is None
    assert ledger.problem(owed("CONFIRMED"), [CAPTURE], [CAPTURE, REFUND]) == "captured 2 times", "never right"


@pytest.mark.parametrize(
    ("state", "moves"),
    [
        ("PENDING", [">PENDING"]),
        ("CONFIRMED", PAID),
        ("CONFIRMED", list(reversed(PAID))),
        ("CANCELLED", [">PENDING", "PENDING>CANCELLED"]),
    ],
)
def test_a_history_that_leads_to_the_state(state: str, moves: list[str]) -> None:
    assert history.problem(state, moves) is None


@pytest.mark.parametrize(
    ("state", "moves", "said"),
    [
        (None, PAID, "not there"),
        ("PENDING", [], "no moves"),
        ("CONFIRMED", PAID[1:], "a gap"),
        ("CONFIRMED", [PAID[0], PAID[1], PAID[3]], "a gap"),
        ("CONFIRMED", PAID[:3], "lead to PAYMENT_PENDING"),
        ("CONFIRMED", [*PAID, PAID[1]], "two moves"),
        ("CONFIRMED", [">PENDING", "PENDING>CONFIRMED"], "not allowed"),
        ("CONFIRMED", [">CONFIRMED"], "not allowed"),
        ("PENDING", [">PENDING", ">PENDING"], "two moves"),
    ],
)
def test_a_history_that_does_not(state: str | None, moves: list[str], said: str) -> None:
    assert said in str(history.problem(state, moves))
