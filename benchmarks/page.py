"""Runs all benchmarks in turn and writes the page: docs/performance.md, its picture, and the JSON lines beside it.

    python benchmarks/page.py [--only NAME …] [--runs N] [--check]

Each program's progress goes to stderr as it runs. Doctor, growth and traces run only when they are named. With
`--only`, the other lines stay as they were measured before. Those of a program that fails, or that finds a loss, are
marked as failed with the date, and the exit code is 1. With `--only` alone nothing runs, and the page is written anew.
With `--check` nothing is written either: the exit code is 1 where the page is not what the lines make.
"""

import argparse
import json
import math
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

import programs

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs"
LINES = DOCS / "performance.json"
HOTSPOTS = DOCS / "hotspots.json"
CONSOLE = DOCS / "console-times.json"
PROGRAMS: dict[str, Sequence[str]] = {
    "accept": (),
    "end_to_end": ("--runs", "2"),
    "end_to_end mock": ("--gateway", "mock", "--runs", "2"),
    "latency": ("--orders", "100"),
    "queues": (),
    "sagas": (),
    "overload": (),
    "reads": (),
    "watching": (),
    "doctor": (),
    "traces": (),
    "growth": (),
}
# They begin with the best sustained rate: that of this very run, where it was found before.
OF_THE_BEST = {"latency", "overload"}
# They take their time, or need more room than most disks have: only by name.
BY_NAME = {"doctor", "growth", "traces"}
# What each line says, for people. A value with a unit is better when it is smaller.
TITLES = {
    "accept": "orders accepted over HTTP, against pgbench writing the same rows",
    "accept_shared": "the same, against a transaction for each request",
    "accept_alone": "one client alone: p50 against a transaction for each request",
    "end_to_end_instant": "202 to CONFIRMED, sustained, against pgbench accepting",
    "end_to_end_mock": "the same with the mock gateway over HTTP",
    "idle_p50": "202 to CONFIRMED while idle, p50, against 50 ms",
    "idle_p99": "202 to CONFIRMED while idle, p99, against 200 ms",
    "post_at_half_load": "p99 of POST at half load, against 100 ms",
    "jobs_bullmq": "durable no-op jobs, against Node's BullMQ",
    "jobs_celery": "durable no-op jobs, against Celery",
    "sagas_by_hand": "sagas of six stored steps, against one at a time by hand",
    "sagas_dbos": "the same, against DBOS",
    "sagas_restate": "the same, against Restate",
    "sagas_each_by_hand": "sagas with a commit for each of the six steps, against one at a time by hand",
    "sagas_each_dbos": "the same, against DBOS",
    "sagas_each_restate": "the same, against Restate",
    "overload_1.5": "goodput at 1.5 times capacity",
    "overload_3": "goodput at 3 times capacity",
    "reads_orders": "a customer's orders, against a route that reads nothing",
    "reads_status": "an order's status, likewise",
    "reads_products": "a page of 68,000 products, likewise",
    "reads_search": "p95 of searches among 68,000 products, against 50 ms",
    "watching": "p95 from a commit to those who watch, 5,000 streams at one process, against 100 ms",
    "doctor": "the doctor on a million orders, against a minute",
    "traces": "CPU of an order with 10 % of them traced, against none",
    "growth_accept": "accepted with 10 million orders stored, against 10,000",
    "growth_finish": "finished, likewise",
    "growth_plans": "hot statements that read no table from end to end",
    "growth_memory": "the largest process after a million orders, against 200 MiB",
}

Line = dict[str, Any]


def run(name: str, runs: int | None, best: float | None) -> tuple[list[Line], bool]:
    """The JSON lines of one program, and whether it failed. `best`: the best sustained rate, where it is known."""
    program, options = name.partition(" ")[0], list(PROGRAMS[name])
    if best is not None and name in OF_THE_BEST:
        options += ["--rate", str(best)]
    if runs is not None:
        options += ["--runs", str(runs)]
    began = time.monotonic()
    command = [sys.executable, str(HERE / f"{program}.py"), *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        output, _ = process.communicate()
    except BaseException:  # it ends what it started, which takes its time
        programs.end(process, patience=2 * programs.PATIENCE)
        raise
    print(f"{name}: {time.monotonic() - began:.0f} s, exit code {process.returncode}", file=sys.stderr, flush=True)
    lines = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    return [{**line, "program": name} for line in lines if "ratio" in line], process.returncode != 0


def replaced(known: Sequence[Line], name: str, lines: Sequence[Line], failed: str = "") -> list[Line]:
    """All lines, with these in the place of those that the program left before.

    `failed`: when it did. What it did not come to is left as it was, but said to have failed.
    """
    others = [line for line in known if line["program"] != name]
    if failed:
        found = {line["benchmark"] for line in lines}
        before = [line for line in known if line["program"] == name and line["benchmark"] not in found]
        lines = [{**line, "failed": failed} for line in [*lines, *before]]
    order = list(PROGRAMS)
    return sorted([*others, *lines], key=lambda line: order.index(line["program"]))


def reached(line: Line) -> float:
    """How far the goal was reached: 1 is met. Where less is better, the other way round."""
    share: float = line["ratio"] / line["goal"]
    return 1 / share if is_small_better(line) and share else share


def over(line: Line) -> list[str]:
    """The other bars of its row that it did not keep."""
    bars, found = line.get("bars", {}), line["conditions"]
    return [f"{name.replace('_', ' ')} {found[name]:g} of {bar:g}" for name, bar in bars.items() if found[name] > bar]


def is_met(line: Line) -> bool:
    return "failed" not in line and reached(line) >= 1 and not over(line)


def verdict(line: Line) -> str:
    if "failed" in line:
        return f"**failed on {line['failed']}**"
    return "met" if is_met(line) else ": ".join(["**missed**", *filter(None, [", ".join(over(line))])])


def title(line: Line) -> str:
    name: str = line["benchmark"]
    return TITLES.get(name, name)


def is_small_better(line: Line) -> bool:
    return str(line["conditions"].get("unit", "")).partition(" ")[0].strip(",") in {"ms", "s", "MiB"}


def picture(lines: Sequence[Line]) -> str:
    """Bars: how far each goal was reached, on a logarithmic scale around 1."""
    row, left, width = 26, 590, 380
    height = row * len(lines) + 40

    def at(share: float) -> float:
        return left + width * (math.log2(min(max(share, 0.25), 4)) + 2) / 4

    bars = []
    for number, line in enumerate(lines):
        y, share = 30 + row * number, reached(line)
        color = "#2b7a78" if is_met(line) else "#c8553d"
        x, end = sorted((at(1), at(share)))
        bars.append(
            f'<text x="{left - 12}" y="{y + 13}" text-anchor="end">{escape(title(line))}</text>'
            f'<rect x="{x:.1f}" y="{y}" width="{max(end - x, 2):.1f}" height="17" rx="2" fill="{color}"/>'
            f'<text x="{left + width + 12}" y="{y + 13}">{line["ratio"]:g} &#215; (goal {line["goal"]:g})</text>'
        )
    ticks = "".join(
        f'<line x1="{at(tick):.1f}" y1="24" x2="{at(tick):.1f}" y2="{height - 8}" stroke="#999"'
        f' stroke-opacity="{0.9 if tick == 1 else 0.3}"/>'
        f'<text x="{at(tick):.1f}" y="16" text-anchor="middle">{tick:g}</text>'
        for tick in (0.25, 0.5, 1, 2, 4)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + width + 170} {height}"'
        ' font-family="system-ui, sans-serif" font-size="13" fill="#666">'
        f"<title>How far each goal was reached</title>{ticks}{''.join(bars)}</svg>\n"
    )


def page(lines: Sequence[Line]) -> str:
    """The table, with what it was measured on."""
    rows = []
    for line in lines:
        against = f"{figure(line['reference'])} ({line['conditions'].get('reference', 'the goal')})".strip()
        value, ratio, goal = (figure(line[name]) for name in ("value", "ratio", "goal"))
        of = f"{line['date']}, {line['revision']}"
        rows.append(
            row(title(line), value, against, ratio, goal, verdict(line), spread(line), of, told(line["conditions"]))
        )
    return "\n".join(
        [
            "# How fast it is",
            "",
            "Written by `make bench`: each program measures its reference in turn in the same run; values are medians",
            "of so many runs as the row says, ratios medians of the runs' ratios, beside the least and the greatest.",
            "Rates drift: read the ratios. Of times less is better. A goal is met where the row's other bars are, too.",
            "",
            "![How far each goal was reached](performance.svg)",
            "",
            "| what | value | reference | ratio | goal | | runs | date, revision | conditions |",
            "|---|---|---|---|---|---|---|---|---|",
            *rows,
            "",
            "Of sagas: ours call one handler for a whole batch, the others one for each saga. All six steps are of one",
            "queue, so that a batch goes through them in one transaction; by hand, DBOS and Restate commit each step.",
            "Where a row says that there is a commit for each step, ours have one too, shared by a batch.",
            "",
            *machines(lines),
            *growth(lines),
            *hotspots(),
            *console(),
        ]
    )


def row(*cells: object) -> str:
    return f"| {' | '.join(str(cell) for cell in cells)} |"


def spread(line: Line) -> str:
    """How many runs, and their least and greatest ratio where they were kept."""
    ratios = line.get("ratios", [])
    return f"{line['runs']}" if len(ratios) < 2 else f"{line['runs']}: {min(ratios):g} to {max(ratios):g}"


def machines(lines: Sequence[Line]) -> list[str]:
    """What the lines were measured on."""
    loads: dict[str, list[float]] = defaultdict(list)
    revisions: dict[str, set[str]] = defaultdict(set)
    for line in lines:
        if "machine" in line:
            about = dict(line["machine"])
            cpu, load = about.pop("cpu"), about.pop("load")
            what = f"{cpu}, {', '.join(f'{name} {version}' for name, version in about.items())}"
            loads[what].append(load)
            revisions[what].add(line["revision"])
    cores = max(line["conditions"]["cpus"] for line in lines)
    said = [f"On {cores} cores, everything on the same machine."]
    for what, found in loads.items():
        of = ", ".join(sorted(revisions[what]))
        said.append(f"Rows of {of}: {what}; load of the machine before {min(found):g} to {max(found):g}.")
    if not all("machine" in line for line in lines):
        said.append("Rows of other revisions don't say on which." if loads else "The rows don't say on which.")
    return [*said, ""]


def figure(value: float | None) -> str:
    """None: it was not kept."""
    return "" if value is None else f"{value:,g}"


def told(conditions: Mapping[str, Any]) -> str:
    """Conditions in words. Of the checks of a doctor the three slowest; tables and processes have a section."""
    said = []
    for name, value in conditions.items():
        match name, value:
            case "cpus" | "reference" | "unit" | "rows" | "mib", _:
                continue
            case "settings", dict():
                said.append(f"set {' '.join(f'{setting}={given}' for setting, given in value.items())}")
            case "day", {"seconds": seconds}:
                said.append(f"the last day's {value['orders']:,} in {seconds:g} s")
            case "checks", dict():
                slowest = sorted(value.items(), key=lambda check: -check[1])[:3]
                said.append(f"slowest {', '.join(f'{check} {seconds:g} s' for check, seconds in slowest)}")
            case _, float():
                said.append(f"{name.replace('_', ' ')} {round(value, 3):g}")
            case _:
                said.append(f"{name.replace('_', ' ')} {value}")
    return ", ".join(said)


def growth(lines: Sequence[Line]) -> list[str]:
    """What stands behind the lines of `benchmarks/growth.py`: the rows stored, and what each process holds."""
    found = {line["benchmark"]: line for line in lines if line["program"] == "growth"}
    if not found:
        return []
    at, memory = found["growth_accept"]["conditions"], found["growth_memory"]["conditions"]
    accepts, finishes = (found[name]["ratio"] for name in ("growth_accept", "growth_finish"))
    said = [
        "## Growth",
        "",
        f"`make bench-growth`: a shop with {at['orders']:,} orders stored and {at['waiting']:,} processes waiting",
        f"({at['gib']:g} GiB), in turn with one of {at['few']:,}. It accepts {accepts:g} times as fast,",
        f"and finishes {finishes:g} times as fast.",
    ]
    if "rows" in at:
        said += ["", f"Rows: {', '.join(f'{table} {count:,}' for table, count in at['rows'].items())}."]
    if plans := found.get("growth_plans"):
        whole = plans["conditions"]["read_from_end_to_end"]
        said += [
            "",
            f"Of {plans['reference']:g} hot statements those that read a table or an index from end to end: {whole}.",
        ]
    held = ", ".join(f"{process} {mib}" for process, mib in memory["mib"].items())
    return [*said, "", f"After {memory['through']:,} orders through a new shop, MiB of each process: {held}.", ""]


def hotspots() -> list[str]:
    """Where an order's time goes, before and after, as `benchmarks/hotspots.py --out docs/hotspots.json` left it."""
    if not HOTSPOTS.exists():
        return []
    kept: dict[str, Any] = json.loads(HOTSPOTS.read_text())
    labels, last = list(kept), list(kept.values())[-1]
    said = [
        "## Where the time goes",
        "",
        "`benchmarks/hotspots.py`: CPU of one order in each process, in microseconds, while orders come steadily",
        "(what was changed between: [decision 14](decisions/0014-gathering.md)).",
        "",
        row("process", *(f"{label}, {one['rate']}/s" for label, one in kept.items())),
        row("---", *("---" for _ in labels)),
    ]
    for name, used in last["cpu_us"].items():
        if used:
            said.append(row(name, *(one["cpu_us"].get(name, "") for one in kept.values())))
    said += [
        row("**all**", *(sum(one["cpu_us"].values()) for one in kept.values())),
        "",
        "PostgreSQL's dearest statements (pg_stat_statements; microseconds an order, waits for locks included):",
        "",
        row("statement", *labels, "calls an order", "WAL bytes", "buffers"),
        row("---", *("---" for _ in labels), "---", "---", "---"),
    ]
    spent = [{one["statement"]: one["us"] for one in label["statements"]} for label in kept.values()]
    for one in last["statements"][:14]:
        name = one["statement"]
        if ".sql" in name:
            times = (known.get(name, "") for known in spent)
            said.append(row(f"`{name}`", *times, f"{one['calls']:g}", f"{one['wal_bytes']:,}", f"{one['buffers']:g}"))
    said += ["", "The functions that ran, whosever they are, in shares of a process's busy samples (py-spy):", ""]
    for process, found in last["functions"].items():
        ran = ", ".join(f"`{name}` {share:.1%}" for name, share in list(found["own"].items())[:8])
        said.append(f"* **{process}**: {ran}")
    return [*said, ""]


def console() -> list[str]:
    """What `benchmarks/console.py --out docs/console-times.json` left."""
    if not CONSOLE.exists():
        return []
    kept: dict[str, Any] = json.loads(CONSOLE.read_text())
    slowest = sorted(kept["pages"], key=lambda one: -one["p95"])[:12]
    rows = ", ".join(f"{count:,} {name}" for name, count in kept["rows"].items() if name != "gib")
    return [
        "## The console",
        "",
        "`make bench-console`: every page of the [console](console.md) with its filters, one request after the other,",
        f"in a shop with {rows} ({kept['rows']['gib']} GiB; load of the machine {kept['load']}). Milliseconds; of",
        f"{len(kept['pages'])} the slowest:",
        "",
        row("page", "p50", "p95"),
        row("---", "---", "---"),
        *(row(f"`{one['path'].replace('|', '%7C')}`", one["p50"], one["p95"]) for one in slowest),
        "",
        "From a commit until an open overview shows it: "
        + "; ".join(f"{what} p50 {one['p50']}, p95 {one['p95']} ms" for what, one in kept["told"].items())
        + f". With {kept['cost']['consoles']} overviews open an order takes {kept['cost']['ratio']:g} times the CPU.",
        "",
    ]


def made(lines: Sequence[Line]) -> dict[Path, str]:
    """The files that these lines make."""
    return {
        LINES: json.dumps(lines, indent=1) + "\n",
        DOCS / "performance.svg": picture(lines),
        DOCS / "performance.md": page(lines),
    }


def write(lines: Sequence[Line]) -> None:
    for file, text in made(lines).items():
        file.write_text(text)


def main() -> None:
    programs.hear()
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--only", nargs="*", choices=list(PROGRAMS))
    arguments.add_argument("--runs", type=int)
    arguments.add_argument("--check", action="store_true")
    asked = arguments.parse_args()
    known: list[Line] = json.loads(LINES.read_text()) if LINES.exists() else []
    if asked.check:
        if wrong := [file.name for file, text in made(known).items() if file.read_text() != text]:
            sys.exit(f"not what the lines make: {', '.join(wrong)} (benchmarks/page.py --only)")
        return
    # With `-dirty` where something of it was not committed.
    describe = ["git", "describe", "--always", "--dirty", "--abbrev=7", "--exclude=*"]
    revision = subprocess.run(describe, cwd=HERE, capture_output=True, text=True, check=False).stdout.strip()
    stamp = {"date": datetime.now(UTC).date().isoformat(), "revision": revision}
    failed = []
    best = None
    for name in [name for name in PROGRAMS if name not in BY_NAME] if asked.only is None else asked.only:
        lines, has_failed = run(name, asked.runs, best)
        lines = [{**line, **stamp} for line in lines]
        known = replaced(known, name, lines, stamp["date"] if has_failed else "")
        write(known)
        if has_failed:
            failed.append(name)
            continue
        best = next((one["conditions"]["asked_a_second"] for one in lines if name == "end_to_end"), best)
    write(known)
    if failed:
        sys.exit(f"These failed, and their lines say so: {', '.join(failed)}")


if __name__ == "__main__":
    main()
