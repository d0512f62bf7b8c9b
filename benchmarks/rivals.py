"""What the peers' benchmarks share: where they are installed, and how one of their programs is run."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from harness import say

ROOT = Path(__file__).parent.parent
PEERS = Path(__file__).parent / "peers"
PYTHON = ROOT / ".venv-peers" / "bin" / "python"


def has_npm(package: str) -> bool:
    """Whether a package of the peers is there; says so if not."""
    if shutil.which("node") is not None and (PEERS / "node_modules" / package).exists():
        return True
    say(f"{package} is left out: node or the package is not there (`make peers`)")
    return False


def has_python() -> bool:
    """Whether the peers from PyPI are there; says so if not."""
    if PYTHON.exists():
        return True
    say("the peers from PyPI are left out: `make peers` installs them")
    return False


def spent(command: list[str], seconds: float = 300) -> dict[str, float]:
    """Run a program of theirs, or ours, to its end: what it printed last."""
    done = subprocess.run(command, cwd=PEERS, capture_output=True, text=True, check=False, timeout=seconds)
    if done.returncode != 0:
        raise SystemExit(f"{command[1]} failed:\n{done.stderr[-2000:]}")
    said: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return said
