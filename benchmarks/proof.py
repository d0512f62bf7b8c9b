"""The long proof: many seeds in a row, then one long run. Everything that was accepted ends, or this ends with 3.

    python benchmarks/proof.py [--seeds 50] [--first SEED] [--orders 1000] [--faults 20] [--long 10000] …

One line for each run on stderr; at the end one JSON document on stdout. Three quarters of an hour on two cores.
A seed that fails can be repeated: `comanda chaos --seed SEED --orders … --faults …`.
"""

import argparse
import json
import random
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import programs

COMANDA = (sys.executable, "-m", "comanda")
SLOWEST_ALLOWED = 120.0  # seconds that a run of a thousand orders may take


def ran(seed: int, orders: int, faults: int) -> dict[str, Any]:
    """One run: its report, with the exit code and the seconds of the whole command."""
    began = time.monotonic()
    arguments = ["chaos", "--seed", str(seed), "--orders", str(orders), "--faults", str(faults), "--json"]
    done = programs.ran([*COMANDA, *arguments], env=programs.clean())
    try:
        report: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        report = {"accepted": 0, "ended": 0, "faults": [], "broken": -1, "noticed": []}
    report |= {"seed": seed, "exitCode": done.returncode, "wall": round(time.monotonic() - began, 1)}
    if done.returncode:
        sys.stderr.write(done.stderr[-4000:])
        broken = [check for check in report.get("checks", ()) if check["status"] == "failed"]
        sys.stderr.write(json.dumps({"broken": broken, "trivial": report.get("trivial")}, indent=1)[:4000] + "\n")
    return report


def line(report: dict[str, Any]) -> str:
    kinds = {fault["kind"] for fault in report["faults"]}
    verdict = "fine" if not report["exitCode"] else f"FAILED ({report['exitCode']})"
    return (
        f"seed {report['seed']:>7}  {report['accepted']:>6} accepted  {report['ended']:>6} ended "
        f" {len(report['faults']):>3} faults of {len(kinds):>2} kinds  {report['broken']} broken "
        f" {report['wall']:>6.1f} s  {verdict}\n"
    )


def main() -> int:
    asked = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    asked.add_argument("--seeds", type=int, default=50)
    asked.add_argument("--first", type=int, default=random.SystemRandom().randrange(10**6))
    asked.add_argument("--orders", type=int, default=1000)
    asked.add_argument("--faults", type=int, default=20)
    asked.add_argument("--long", type=int, default=10_000)
    asked.add_argument("--long-faults", type=int, default=100)
    asked.add_argument("--out", type=Path, help="The same document into this file.")
    given = asked.parse_args()
    programs.hear()
    plans = [(given.first + number, given.orders, given.faults) for number in range(given.seeds)]
    plans += [(given.first, given.long, given.long_faults)] if given.long else []
    reports = []
    for plan in plans:
        reports.append(ran(*plan))
        sys.stderr.write(line(reports[-1]))
        sys.stderr.flush()
    kinds = Counter(fault["kind"] for report in reports for fault in report["faults"])
    slow = [report["seed"] for report in reports[: given.seeds] if report["wall"] > SLOWEST_ALLOWED]
    failed = [report["seed"] for report in reports if report["exitCode"]]
    document = {
        "isFine": not failed and not slow,
        "runs": len(reports),
        "seeds": [report["seed"] for report in reports],
        "accepted": sum(report["accepted"] for report in reports),
        "ended": sum(report["ended"] for report in reports),
        "faults": sum(kinds.values()),
        "kinds": dict(kinds.most_common()),
        "broken": sum(max(report["broken"], 0) for report in reports),
        "slowestSeconds": max(report["wall"] for report in reports),
        "failed": failed,
        "slow": slow,
        "noticed": dict(Counter(one for report in reports for one in report["noticed"]).most_common(20)),
        "revision": reports[0].get("revision"),
    }
    written = json.dumps(document, indent=1)
    if given.out:
        given.out.write_text(written + "\n", encoding="utf-8")
    sys.stdout.write(written + "\n")
    return 0 if document["isFine"] else 3 if document["broken"] else 1


if __name__ == "__main__":
    sys.exit(main())
