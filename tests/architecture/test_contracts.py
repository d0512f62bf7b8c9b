"""The import contracts of pyproject.toml bite: a tree with one violation for each of them breaks each of them."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "pyproject.toml"
# Where somebody might import what: in the order of the contracts.
VIOLATIONS = {
    "Layers": ("inventory/stock.py", "from comanda.orders import orders"),
    "The mock gateway": ("gateway/app.py", "from comanda.payments import payments"),
    "The engines": ("engines/child.py", "from comanda.settings import Settings"),
    "Rules": ("inventory/model.py", "import time"),
    "Only db": ("orders/orders.py", "import asyncpg"),
    "Only messaging": ("saga/rescue.py", "import redis"),
    "Only the payments' gateway": ("notifications/render.py", "import aiohttp"),
    "The web framework": ("checkout/place_order.py", "import fastapi"),
    "Commands": ("worker.py", "import typer"),
}


def linted(src: Path) -> str:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--config", str(CONFIG), "--no-cache"]
    environment = {**os.environ, "PYTHONPATH": str(src), "COLUMNS": "500", "NO_COLOR": "1"}
    return subprocess.run(command, env=environment, cwd=src, capture_output=True, text=True, check=False).stdout


def test_each_contract_is_broken_by_a_violation_of_its_own(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "src" / "comanda", tmp_path / "comanda", ignore=shutil.ignore_patterns("__pycache__"))
    for file, line in VIOLATIONS.values():
        path = tmp_path / "comanda" / file
        path.write_text(f"{path.read_text()}\n{line}\n")
    names = [one["name"] for one in tomllib.loads(CONFIG.read_text())["tool"]["importlinter"]["contracts"]]
    verdicts = linted(tmp_path).splitlines()
    kept = [name for name in names if f"{name} BROKEN" not in "\n".join(verdicts)]
    assert kept == [], "\n".join(verdicts)
    assert [name for name in names if not any(name.startswith(start) for start in VIOLATIONS)] == []
