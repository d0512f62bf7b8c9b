"""Where the time of an order goes: CPU of each process, its hottest functions, and PostgreSQL's statements.

    python benchmarks/hotspots.py [--rate 600] [--seconds 20] [--gateway instant|mock] [--out FILE]

Offers orders at a steady rate and looks on: py-spy (of `make peers`) samples API, worker and relay, pg_stat_statements
counts what they asked for. Everything is given for one order, in microseconds. Prints one JSON line; `--out` keeps it
under a label (`--label before`) for the page.
"""

import argparse
import json
import platform
import re
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import programs
from end_to_end import offered, settle
from harness import HERE, Stand, ask, comanda_up, made_folder, wrk

from comanda.db.statements import Twin

SAMPLED = ("api-1", "worker-1", "relay")
# Into C: uvloop's, asyncpg's and msgspec's functions by name. Where py-spy can't, it looks on without stopping anybody.
NATIVE = "--native" if platform.machine() in {"x86_64", "AMD64"} and sys.platform == "linux" else "--nonblocking"
SPY = HERE.parent / ".venv-peers" / "bin" / "py-spy"
TOP = 12
# Where a process waits and does not work: of C too, since stacks reach into it.
WAITING = ("epoll_wait", "epoll_pwait", "uv__io_poll", "select (selectors.py")
LOOP = "the event loop and libraries"
STATEMENTS = (
    "SELECT query, calls, rows, total_exec_time AS ms, wal_bytes::float8 AS wal, shared_blks_hit::float8 AS hit"
    "  FROM pg_stat_statements WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())"
    " ORDER BY total_exec_time DESC LIMIT $1"
)


def named() -> dict[str, str]:
    """The text of each twin's statement, without blanks, and its name: `saga/log.sql move`."""
    source = HERE.parent / "src" / "comanda"
    return {
        _bare(statement.text): f"{file.relative_to(source)} {name}"
        for file in source.rglob("*.sql")
        for name, statement in Twin(file).items()
    }


def _bare(text: str) -> str:
    """Without comments, blanks, constants and numbers of parameters: pg_stat_statements replaces those."""
    text = re.sub(r"--.*", "", text)
    text = re.sub(r"'[^']*'|\$\d+|\b\d+(\.\d+)?\b", "?", text)
    return re.sub(r"\s+", "", text).rstrip(";").lower()


def statements(stand: Stand, orders: float) -> list[dict[str, Any]]:
    """What PostgreSQL spent, the dearest statement first."""
    names = named()
    return [
        {
            "statement": names.get(_bare(row["query"]), " ".join(row["query"].split())[:60]),
            "us": round(1000 * row["ms"] / orders, 1),
            "calls": round(row["calls"] / orders, 3),
            "wal_bytes": round(row["wal"] / orders),
            "buffers": round(row["hit"] / orders, 1),
        }
        for row in ask(stand, STATEMENTS, 2 * TOP)
    ]


@contextmanager
def spied(stand: Stand, seconds: float, folder: Path) -> Iterator[Callable[[], dict[str, Counter[str]]]]:
    """Sample our processes meanwhile; the stacks of each, counted, once all are there."""

    def record(name: str) -> Counter[str]:
        raw = folder / f"{name}.raw"
        command = [str(SPY), "record", "--pid", str(stand.processes[name]), "--duration", f"{seconds:.0f}",
                   "--rate", "100", "--format", "raw", "--output", str(raw), NATIVE]  # fmt: skip
        done = programs.ran(command)
        if not raw.exists():
            sys.exit(f"py-spy said: {done.stderr}")
        stacks: Counter[str] = Counter()
        for line in raw.read_text().splitlines():
            stack, _, count = line.rpartition(" ")
            stacks[stack] += int(count)
        return stacks

    with ThreadPoolExecutor(len(SAMPLED)) as pool:
        recording = {name: pool.submit(record, name) for name in SAMPLED}
        yield lambda: {name: one.result() for name, one in recording.items()}


def _short(frame: str) -> str:
    """`function (file:line)` without the line and the path before the package."""
    function, _, where = frame.partition(" (")
    where = re.sub(r":\d+\)?$", "", where.rstrip(")"))
    where = re.sub(r"^.*(site-packages|src|python3\.\d+)/", "", where)
    return f"{function} ({where})" if where else function


def hottest(stacks: Counter[str]) -> dict[str, dict[str, float]]:
    """Shares of a process's busy samples: `own`, by the function that ran, whosever it is; `ours`, by our own innermost
    function, what runs in the loop itself left to `own`.
    """
    own: Counter[str] = Counter()
    ours: Counter[str] = Counter()
    for stack, count in stacks.items():
        frames = [_short(frame) for frame in stack.split(";")]
        if any(waiting in frames[-1] for waiting in WAITING):
            continue
        own[frames[-1]] += count
        mine = next((frame for frame in reversed(frames) if "(comanda/" in frame), LOOP)
        ours[LOOP if "comanda/cli/" in mine else mine] += count
    total = sum(own.values()) or 1
    return {
        kind: {name: round(count / total, 3) for name, count in counted.most_common(TOP)}
        for kind, counted in (("own", own), ("ours", ours))
    }


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rate", type=float, default=600)
    arguments.add_argument("--seconds", type=float, default=20)
    arguments.add_argument("--gateway", choices=["instant", "mock"], default="instant")
    arguments.add_argument("--label", default="now")
    arguments.add_argument("--out", type=Path)
    asked = arguments.parse_args()
    if not SPY.exists():
        sys.exit("py-spy is not installed: make peers")
    settings = {"GATEWAY": asked.gateway, "GATEWAY_LATENCY_MS": "0", "GATEWAY_OUTCOMES": "100/0/0"}
    with comanda_up("--workers", "1", **settings) as stand:
        wrk(stand, connections=16, seconds=3, pause_ms=50)
        settle(stand)
        before = stand.cpu()
        ask(stand, "CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
        ask(stand, "SELECT pg_stat_statements_reset()")
        plain = offered(stand, asked.rate, asked.seconds)  # first without anybody looking on
        settle(stand)
        orders = plain["offered"] * asked.seconds
        asked_for = statements(stand, orders)
        cpu = {name: round(1e6 * (spent - before[name]) / orders) for name, spent in stand.cpu().items()}
        folder = made_folder()
        try:
            with spied(stand, asked.seconds, folder) as samples:
                offered(stand, asked.rate, asked.seconds + 2)
                functions = {name: hottest(stacks) for name, stacks in samples().items()}
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    line = {
        "label": asked.label,
        "rate": round(plain["offered"]),
        "gateway": asked.gateway,
        "cpu_us": cpu,
        "statements": asked_for,
        "functions": functions,
    }
    if asked.out:
        kept = json.loads(asked.out.read_text()) if asked.out.exists() else {}
        asked.out.write_text(json.dumps({**kept, asked.label: line}, indent=1) + "\n")
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
