"""What the README says that was measured is what was measured."""

import importlib
import json
import re
import subprocess
import sys
from collections import defaultdict
from functools import reduce
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
MEASURED: dict[str, dict[str, Any]] = {
    line["benchmark"]: line for line in json.loads((ROOT / "docs" / "performance.json").read_text())
}
# Where each figure stands in its row, which is found by its command; whose it is.
SHOWN = [
    ("benchmarks/accept.py", r"([\d.,]+) times pgbench", "accept", "ratio"),
    ("benchmarks/accept.py", r"\(([\d.,]+)/s(?= against)", "accept", "value"),
    ("benchmarks/accept.py", r"against ([\d.,]+)/s\)", "accept", "reference"),
    ("benchmarks/accept.py", r"([\d.,]+) times slower", "accept_shared", "ratio"),
    ("benchmarks/accept.py", r"\(([\d.,]+) times\)", "accept_alone", "ratio"),
    ("benchmarks/end_to_end.py", r"([\d.,]+) orders/s", "end_to_end_instant", "value"),
    ("benchmarks/end_to_end.py", r"([\d.,]+) times pgbench", "end_to_end_instant", "ratio"),
    ("benchmarks/end_to_end.py", r"the goal of ([\d.,]+) is missed", "end_to_end_instant", "goal"),
    ("benchmarks/end_to_end.py", r"within ([\d.,]+) s", "end_to_end_instant", "p99_seconds_to_confirmed"),
    ("benchmarks/end_to_end.py --gateway mock", r"([\d.,]+) orders/s", "end_to_end_mock", "value"),
    ("benchmarks/end_to_end.py --gateway mock", r"([\d.,]+) times", "end_to_end_mock", "ratio"),
    ("benchmarks/end_to_end.py --gateway mock", r"within ([\d.,]+) s", "end_to_end_mock", "p99_seconds_to_confirmed"),
    ("benchmarks/latency.py", r"p50 ([\d.,]+) ms", "idle_p50", "value"),
    ("benchmarks/latency.py", r"p99 ([\d.,]+) ms", "idle_p99", "value"),
    ("benchmarks/latency.py", r"at half load ([\d.,]+) ms", "post_at_half_load", "value"),
    ("benchmarks/sagas.py", r"([\d.,]+) times one at a time", "sagas_by_hand", "ratio"),
    ("benchmarks/sagas.py", r"([\d.,]+) times DBOS", "sagas_dbos", "ratio"),
    ("benchmarks/sagas.py", r"([\d.,]+) times Restate", "sagas_restate", "ratio"),
    ("benchmarks/sagas.py", r"([\d.,]+) times one by one", "sagas_each_by_hand", "ratio"),
    ("benchmarks/sagas.py", r"([\d.,]+) times that of DBOS", "sagas_each_dbos", "ratio"),
    ("benchmarks/sagas.py", r"([\d.,]+) times that of Restate", "sagas_each_restate", "ratio"),
    ("benchmarks/queues.py", r"([\d.,]+) times Node's", "jobs_bullmq", "ratio"),
    ("benchmarks/queues.py", r"([\d.,]+) times Celery", "jobs_celery", "ratio"),
    ("make bench-growth", r"accepted ([\d.,]+) times", "growth_accept", "ratio"),
    ("make bench-growth", r"finished ([\d.,]+) times", "growth_finish", "ratio"),
    ("make bench-growth", r"above ([\d.,]+) MiB", "growth_memory", "value"),
]
NO_FIGURES = re.compile(r"p50|p99|99 %")


def rows() -> dict[str, str]:
    """Of the first table under "Why believe it": what was found, by the command that finds it."""
    told = (ROOT / "README.md").read_text().replace("\N{MULTIPLICATION SIGN}", "times")
    table = told.partition("## Why believe it")[2].partition("\n\n|")[2].partition("\n\n")[0]
    found: dict[str, str] = defaultdict(str)
    for cells in (line.split("|") for line in table.splitlines() if line.endswith("` |")):
        found[cells[-2].strip().strip("`")] += cells[-3]
    return found


@pytest.mark.parametrize(("command", "pattern", "benchmark", "field"), SHOWN)
def test_a_figure_of_the_readme_was_measured(command: str, pattern: str, benchmark: str, field: str) -> None:
    """As rounded as it is shown: 6,920 for 6915.3, 0.80 for 0.805."""
    found = re.search(pattern, rows()[command])
    assert found is not None, f"{command} shows no such figure"
    shown = found[1]
    line = MEASURED[benchmark]
    measured = line[field] if field in line else line["conditions"][field]
    decimals = len(shown.partition(".")[2])
    unit = 10 if not decimals and shown.endswith("0") else 10**-decimals
    assert abs(float(shown.replace(",", "")) - measured) <= unit / 2 + 1e-9


def test_no_figure_of_the_readme_is_without_its_measurement() -> None:
    """But for the real baskets: `comanda load` keeps no line in docs/performance.json."""
    unknown = {}
    for command, said in rows().items():
        measured = [pattern for of, pattern, _, _ in SHOWN if of == command]
        left = reduce(lambda text, pattern: re.sub(pattern, "", text, count=1), measured, said)
        if re.search(r"\d", NO_FIGURES.sub("", left)):
            unknown[command] = left
    assert [command.partition(" --")[0] for command in unknown] == ["comanda load"], unknown


def test_the_readme_says_how_large_the_large_shop_was() -> None:
    said = (ROOT / "README.md").read_text()
    conditions = MEASURED["growth_accept"]["conditions"]
    assert (conditions["orders"], conditions["waiting"], conditions["few"]) == (10_000_000, 1_000_000, 10_000)
    assert "with 10 million orders stored and a million processes waiting, against 10,000 stored" in said
    assert MEASURED["growth_memory"]["conditions"]["through"] >= 1_000_000


def test_the_page_is_what_its_lines_make() -> None:
    """`benchmarks/page.py --only` writes it anew."""
    command = [sys.executable, str(ROOT / "benchmarks" / "page.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("page")


def _line(**more: Any) -> dict[str, Any]:
    line = {"benchmark": "overload_3", "program": "overload", "value": 95, "reference": 100, "ratio": 0.95, "goal": 0.9}
    return {**line, "runs": 3, "conditions": {"lost": 0, "refusal_p99_ms": 60.5}, **more}


def test_a_goal_is_met_where_the_other_bars_of_its_row_are(page: ModuleType) -> None:
    assert page.verdict(_line(bars={"lost": 0, "refusal_p99_ms": 100})) == "met"
    assert page.verdict(_line(bars={"lost": 0, "refusal_p99_ms": 50})) == "**missed**: refusal p99 ms 60.5 of 50"
    assert page.verdict(_line(ratio=0.8)) == "**missed**"


def test_a_program_that_fails_leaves_no_line_as_if_it_were_met(page: ModuleType) -> None:
    before = [_line(), _line(benchmark="overload_1.5"), _line(benchmark="accept", program="accept")]
    after = page.replaced(before, "overload", [_line(ratio=1.1)], failed="2026-12-01")
    verdicts = {line["benchmark"]: page.verdict(line) for line in after}
    assert verdicts == {
        "accept": "met",
        "overload_3": "**failed on 2026-12-01**",
        "overload_1.5": "**failed on 2026-12-01**",
    }
    assert [page.verdict(line) for line in page.replaced(after, "overload", [_line()])] == ["met", "met"]


def test_a_row_says_how_many_runs_and_their_range(page: ModuleType) -> None:
    assert page.spread(_line(ratios=[0.95, 0.91, 1.02])) == "3: 0.91 to 1.02"


def test_no_benchmark_hears_of_a_shop_of_the_users_own(page: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("COMANDA_DATABASE_URL", "comanda_redis_url"):
        monkeypatch.setenv(name, "a shop of the user's own")
    assert "a shop of the user's own" not in page.programs.clean().values()
