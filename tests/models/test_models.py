"""State machines against the real thing: more than ten thousand steps in each run, and each machine sees its races.

The long mode, without end, is `python tests/models/forever.py`.
"""

import pytest

from machines import PLANS
from steps import Tally, standing_on

STEPS = 10_000
MOST_WALKS = 3


@pytest.mark.parametrize("name", PLANS)
def test_the_machine_finds_nothing(name: str, database_url: str, redis_url: str) -> None:
    plan, tally = PLANS[name], Tally()
    with standing_on(database_url, redis_url) as ground:
        for _ in range(MOST_WALKS):
            plan.run(ground, tally)
            if all(tally.seen[what] for what in plan.meets):
                break  # hypothesis leaves whole rules out of an example, now and then out of all of them
    print(f"{name}: {tally.steps:,} steps, {dict(tally.seen)}")
    assert tally.steps >= plan.least, "fewer steps than promised really ran"
    assert [what for what in plan.meets if not tally.seen[what]] == [], "a machine that never met this shows nothing"


def test_all_together_take_ten_thousand_steps() -> None:
    """Each machine has counted that it took its part, in whatever process it ran."""
    assert sum(plan.least for plan in PLANS.values()) >= STEPS
