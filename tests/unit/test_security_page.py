"""docs/security.md names tests; each of them is there."""

import ast
import re
from pathlib import Path

import fuzzed

TESTS = Path(__file__).parents[1]
PAGE = (TESTS.parent / "docs" / "security.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| (\d[\d., to]*(?:\(level 3\) )?)\|(.*)\|(.*)\|(.*)\|$", re.MULTILINE)
NAMED = re.compile(r"`([\w/]+\.py)::(\w+)`")


def _tests_of(file: str) -> set[str]:
    tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
    return {one.name for one in tree.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_every_test_that_is_named_is_there() -> None:
    named = NAMED.findall(PAGE)
    assert len(named) > 50
    assert not [f"{file}::{name}" for file, name in named if name not in _tests_of(file)]


def test_every_requirement_says_what_shows_it() -> None:
    rows = ROW.findall(PAGE)
    assert len(rows) > 60
    for number, _requirement, how, shown in rows:
        assert how.strip(), number
        assert NAMED.search(shown) or re.fullmatch(r"none(: .+)?", shown.strip()), number


def test_the_page_tells_of_the_last_long_run_of_made_up_requests() -> None:
    assert fuzzed.LINE.findall(PAGE) == [fuzzed.line(fuzzed.last())]
