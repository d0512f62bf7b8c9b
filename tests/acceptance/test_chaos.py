"""The nemesis, as a user runs it: 300 orders and ten faults, with another seed each time."""

import json
import random
import subprocess
from pathlib import Path

from up import COMANDA, environment

ORDERS, FAULTS = 300, 10
PATIENCE = 400.0  # seconds: two noisy cores


def test_a_run_of_ten_faults_loses_nothing_and_charges_nobody_twice(tmp_path: Path) -> None:
    seed, page = random.SystemRandom().randrange(10**6), tmp_path / "report.html"
    asked = ["--seed", str(seed), "--orders", str(ORDERS), "--faults", str(FAULTS), "--report", str(page), "--json"]
    ran = subprocess.run(
        [*COMANDA, "chaos", *asked],
        env=environment({"LEASE_SECONDS": "3600"}),  # of the shell: it does not count
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert ran.returncode == 0, f"seed {seed}\n{ran.stderr}\n{ran.stdout}"
    report = json.loads(ran.stdout)
    assert report["isFine"]
    assert report["seed"] == seed
    assert report["ended"] == report["accepted"] >= ORDERS
    assert len(report["faults"]) >= FAULTS
    assert all(fault["what"] for fault in report["faults"])
    assert {check["status"] for check in report["checks"]} == {"passed"}
    assert f"seed {seed}" in page.read_text().lower()
    assert "://" not in page.read_text(), "the page needs nothing from anywhere"


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "something").touch()
    ran = subprocess.run(
        [*COMANDA, "chaos", "--data-dir", str(tmp_path)],
        env=environment({}),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert ran.returncode == 2
    assert "is not empty" in ran.stderr
