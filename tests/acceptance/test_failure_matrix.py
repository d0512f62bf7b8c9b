"""The failure matrix as a user runs it: one cheap row, written into a page."""

import json
import subprocess
from pathlib import Path

from up import COMANDA, environment

PATIENCE = 240.0  # seconds: two noisy cores
KEPT = {
    "name": "sentinel", "group": "Redis", "failure": "f", "how": "h", "saw": "s", "target": "t", "measured": "kept",
    "verdict": "later",
}  # fmt: skip


def test_one_row_is_run_and_the_others_are_kept(tmp_path: Path) -> None:
    page, results = tmp_path / "failures.md", tmp_path / "failures.json"
    results.write_text(json.dumps({"rows": [KEPT]}))
    ran = subprocess.run(
        [*COMANDA, "failure-matrix", "--only", "oversell", "--out", str(page), "--json"],
        env=environment({}),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert ran.returncode == 0, f"{ran.stderr}\n{ran.stdout}"
    (row,) = json.loads(ran.stdout)["rows"]
    assert (row["name"], row["verdict"]) == ("oversell", "met")
    assert row["measured"] == "200 sold of 200; 500 orders accepted, 0 lost, 0 twice"
    stored = {one["name"]: one for one in json.loads(results.read_text())["rows"]}
    assert set(stored) == {"oversell", "sentinel"}
    assert stored["sentinel"]["measured"] == "kept"
    assert "0 twice | met |" in page.read_text()


def test_an_unknown_scenario_is_refused() -> None:
    ran = subprocess.run(
        [*COMANDA, "failure-matrix", "--only", "nothing"],
        env=environment({}),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert ran.returncode == 2
    assert "There are worker-killed" in ran.stderr
