"""The failure matrix: what a row says, what is kept from the last run, and the page."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from comanda.proof.matrix import page, results
from comanda.proof.matrix.results import BROKEN, MET, Row
from comanda.proof.matrix.scenario import Outcome, Scenario
from comanda.proof.matrix.table import SCENARIOS

AT = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
SCENARIO = Scenario(name="a", group="Redis", failure="it forgets", how="FLUSHALL", target="≤ 10 s")


def row(name: str = "a", *, is_met: bool | None = True, broken: tuple[str, ...] = (), measured: str = "3 s") -> Row:
    outcome = Outcome("a | b", measured, is_met)
    return Row.of(replace(SCENARIO, name=name), outcome, broken, at=AT, seconds=1.26).run_on("abc", 2)


@pytest.mark.parametrize(("is_met", "verdict"), [(True, "met"), (False, "missed"), (None, "skipped")])
def test_a_row_says_whether_its_target_is_met(is_met: bool | None, verdict: str) -> None:
    assert row(is_met=is_met).verdict == verdict


def test_a_broken_invariant_is_a_missed_target_and_exit_code_3_whatever_was_measured() -> None:
    fine, bad = row("a"), row("b", broken=("oversold: 1",))
    assert bad.verdict == "missed"
    assert results.exit_code([fine, bad]) == BROKEN
    assert results.exit_code([fine, row("c", is_met=False)]) == MET
    assert "broken: oversold: 1" in page.rendered([fine, bad])


def test_what_comes_later_is_told_in_a_paragraph_and_not_measured() -> None:
    later = Row.of(
        replace(SCENARIO, later="A standby comes later."),
        Outcome("-", "A standby comes later.", None),
        [],
        at=AT,
        seconds=0,
    )
    text = page.rendered([row("b"), later])
    assert later.verdict == "later"
    assert "**it forgets.** A standby comes later." in text
    assert "| - | comes later |" in text


def test_rows_that_are_not_run_again_are_kept_in_the_order_of_the_table() -> None:
    known = [row("a"), row("b"), row("gone")]
    rows = results.merged(known, [row("c"), row("a", measured="9 s")], ["c", "b", "a"])
    assert [(one.name, one.measured) for one in rows] == [("c", "3 s"), ("b", "3 s"), ("a", "9 s")]


def test_what_is_stored_is_read_again() -> None:
    rows = [row("a"), row("b", broken=("x",), is_met=False)]
    assert results.read(results.stored(rows)) == rows
    with pytest.raises(ValueError, match="rows"):
        results.read("{}")


def test_the_page_has_each_row_once_with_its_verdict_revision_and_machine() -> None:
    text = page.rendered([row("a"), row("b", is_met=False, measured="12 s\nand more")])
    assert text.count("| it forgets | FLUSHALL | a \\| b | ≤ 10 s |") == 2
    assert "| 12 s and more | **missed** |" in text
    assert "2030-01-02, revision abc, a machine with 2 cores: 2 rows" in text


def test_the_page_tells_what_the_proof_came_to() -> None:
    proof = {"runs": 51, "faults": 1100, "accepted": 60_408, "ended": 60_408, "broken": 0, "isFine": True, "failed": [],
             "kinds": {"FLUSHALL": 43}, "slowestSeconds": 433.4, "revision": "abc"}  # fmt: skip
    text = page.rendered([row("a")], proof)
    assert "51 instances" in text
    assert "60,408 orders accepted, 60,408 ended, 0 invariants broken; every run was fine" in text
    assert "by seed: [7]" in page.rendered([row("a")], {**proof, "isFine": False, "failed": [7]})


def test_every_scenario_is_run_tested_skipped_or_comes_later() -> None:
    names = [scenario.name for scenario in SCENARIOS]
    assert len(names) == len(set(names))
    for scenario in SCENARIOS:
        ways = [scenario.run, scenario.tests, scenario.skipped, scenario.later]
        assert sum(map(bool, ways)) == 1, scenario.name
        assert scenario.failure, scenario.name
        assert scenario.target, scenario.name
    groups = [scenario.group for scenario in SCENARIOS]
    assert len(set(groups)) == sum(one != two for one, two in zip(groups, [None, *groups[:-1]], strict=True))
