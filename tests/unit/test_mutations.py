"""Each mutant changes what stands in the code today, and names tests that there are."""

from pathlib import Path

import pytest

from mutations import ALL, Mutant

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("mutant", ALL, ids=lambda one: one.name)
def test_a_mutant_changes_one_place_and_somebody_is_to_notice(mutant: Mutant) -> None:
    assert (ROOT / "src/comanda" / mutant.file).read_text().count(mutant.text) == 1
    assert mutant.text != mutant.instead
    for killer in mutant.killers:
        file, _, test = killer.partition(" ")[0].partition("::")
        if file.startswith("-"):
            continue
        source = (ROOT / file).read_text()
        assert not test or f"def {test.partition('[')[0]}(" in source, killer
