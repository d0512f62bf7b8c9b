"""All machines, and how much of each a run of the suite takes."""

from collections.abc import Callable
from dataclasses import dataclass

from batch_machine import AllocationMachine, BatchMachine
from breaker_machine import BreakerMachine, SharedBreakerMachine
from key_machine import KeyMachine, placing_on
from reservation_machine import ReservationMachine
from saga_machine import SagaMachine
from steps import Ground, Machine, Tally, explore


@dataclass(frozen=True)
class Plan:
    """A machine. `least`: the steps that a run of the suite takes at the least; `meets`: what it meets on its way."""

    explore: Callable[[Tally, Ground, int, int], None]
    examples: int
    steps: int
    least: int
    meets: tuple[str, ...]

    def run(self, ground: Ground, tally: Tally, *, examples: int | None = None) -> None:
        self.explore(tally, ground, examples or self.examples, self.steps)


def _pure(machine: Callable[[Tally], Machine]) -> Callable[[Tally, Ground, int, int], None]:
    return lambda tally, _, examples, steps: explore(lambda: machine(tally), examples=examples, steps=steps)


def _on_the_database(machine: Callable[[Tally, Ground], Machine]) -> Callable[[Tally, Ground, int, int], None]:
    return lambda tally, ground, examples, steps: explore(
        lambda: machine(tally, ground), examples=examples, steps=steps
    )


def _keys(tally: Tally, ground: Ground, examples: int, steps: int) -> None:
    with placing_on(ground) as counter:
        explore(lambda: KeyMachine(tally, ground, counter), examples=examples, steps=steps)


# fmt: off
PLANS: dict[str, Plan] = {
    "saga": Plan(_pure(SagaMachine), 120, 50, 3300,
                 ("COMPLETED", "COMPENSATED", "COMPENSATION_FAILED", "redriven")),
    "breaker": Plan(_pure(BreakerMachine), 60, 50, 1600, ("probe", "OPEN", "HALF_OPEN", "CLOSED")),
    "allocation": Plan(_pure(AllocationMachine), 60, 40, 1200, ("refused", "shared between locations")),
    "reservation": Plan(_on_the_database(ReservationMachine), 80, 40, 1600,
                        ("expiry won", "the order won", "a race of two", "confirm against release", "crash")),
    "shared breaker": Plan(_on_the_database(SharedBreakerMachine), 70, 40, 1300, ("probe", "opened", "closed")),
    "batches": Plan(_on_the_database(BatchMachine), 30, 25, 400, ("refused", "reserved", "sold")),
    "keys": Plan(_keys, 40, 30, 600,
                 ("accepted", "replayed", "reused", "lost", "lost at a look-up", "poisoned", "forgotten")),
}
# fmt: on
