from collections.abc import Iterable
from itertools import count

from hypothesis import given
from hypothesis import strategies as st

from comanda.gateway.model import Book, Charge, ChargeRequest, Charging, Command, Refund, RefundRequest, VoidRequest
from comanda.gateway.outcomes import NEVER, Plan

KEYS = st.sampled_from(["a", "b"])
PLANS = st.sampled_from(
    [
        Plan(0),
        Plan(0, busy_attempts=1),
        Plan(0, busy_attempts=NEVER),
        Plan(0, decline_code="CARD_DECLINED"),
        Plan(0, loses_answer=True),
    ]
)
CHARGES = st.builds(Charging, st.builds(ChargeRequest, KEYS, st.just("order"), st.just(100), st.just("USD")), PLANS)
REFUNDS = st.builds(RefundRequest, st.sampled_from(["r", "s", "t"]), KEYS, st.integers(1, 120))
COMMANDS = st.lists(st.one_of(CHARGES, st.builds(VoidRequest, KEYS), REFUNDS), max_size=30)


def _play(batches: Iterable[list[Command]]) -> tuple[list[object], list[object], dict[str, Charge]]:
    """Answers, ledger and what is stored in the end."""
    charges: dict[str, Charge] = {}
    refunds: dict[str, Refund] = {}
    numbers = count()
    answers: list[object] = []
    ledger: list[object] = []
    for batch in batches:
        book = Book(dict(charges), dict(refunds), at="now", new_id=lambda: str(next(numbers)))
        answers += [book.answer(command) for command in batch]
        charges |= book.changed
        refunds |= {refund.key: refund for refund in book.refunded}
        ledger += book.lines
    return answers, ledger, charges


@given(COMMANDS)
def test_a_batch_decides_as_if_its_commands_had_come_one_by_one(commands: list[Command]) -> None:
    assert _play([commands]) == _play([command] for command in commands)


@given(COMMANDS)
def test_the_ledger_and_the_charges_tell_the_same(commands: list[Command]) -> None:
    _, lines, charges = _play([commands])
    ledger = [(line.type, line.amount) for line in lines]  # type: ignore[attr-defined]
    for kind, total in (
        ("capture", sum(charge.captured_amount for charge in charges.values())),
        ("refund", sum(charge.refunded_amount for charge in charges.values())),
    ):
        assert sum(amount for name, amount in ledger if name == kind) == total
    for charge in charges.values():
        assert 0 <= charge.refunded_amount <= charge.captured_amount <= 100
        if charge.status == "voided":
            assert charge.refunded_amount == charge.captured_amount
