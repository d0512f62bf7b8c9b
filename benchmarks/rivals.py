"""What the peers' benchmarks share: where they are installed, and how one of their programs is run."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import programs
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


def version(package: str) -> str:
    """Of a peer that is there, or of Node itself."""
    if package == "node":
        return programs.ran(["node", "--version"]).stdout.strip().removeprefix("v")
    if (about := PEERS / "node_modules" / package / "package.json").exists():
        return str(json.loads(about.read_text())["version"])
    asked = "import sys, importlib.metadata; print(importlib.metadata.version(sys.argv[1]))"
    return programs.ran([str(PYTHON), "-c", asked, package]).stdout.strip()


def spent(command: list[str], seconds: float = 300) -> dict[str, float]:
    """Run a program of theirs, or ours, to its end: what it printed last."""
    done = programs.ran(command, cwd=PEERS, seconds=seconds)
    if done.returncode != 0:
        sys.exit(f"{command[1]} failed:\n{done.stderr[-2000:]}")
    said: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return said
