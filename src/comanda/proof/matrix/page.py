"""The matrix as a page of the documentation. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from comanda.proof.matrix.results import Row
from comanda.proof.matrix.scenario import Verdict

_WORDS: Mapping[Verdict, str] = {"met": "met", "missed": "**missed**", "skipped": "skipped", "later": "comes later"}
_HEAD = """# What fails, and what happens then

Each row was caused on a real instance: processes, PostgreSQL, Valkey and a payment gateway with its own ledger, with a
fault proxy before each of them. Customers repeat an order under its key until it is answered. At the end of each row
all accepted orders have ended, and the customers', the shop's and the gateway's ledgers are compared by every invariant
of `comanda doctor`: **a broken invariant makes the row missed**, whatever was measured.
"""
_RUN = """## How to run it

    make failure-matrix                                            # all of it, about half an hour
    comanda failure-matrix --only redis-flushall --only zombie     # some; the other rows are kept from the last run

It writes this page and, beside it, [failures.json](failures.json), from which the page is made. Exit code 3: an
invariant is broken. `comanda chaos` does many of these failures at once, by a seed.
"""


def rendered(rows: Sequence[Row], proof: Mapping[str, Any] | None = None) -> str:
    """Markdown.

    Args:
        rows: what was caused, one at a time.
        proof: what `make proof` came to, as it writes it.
    """
    parts = [_HEAD, _summary(rows)]
    for group, some in groupby(rows, key=lambda row: row.group):
        lines = [f"## {group}", "", "| failure | how it was caused | what a client saw | target | measured | verdict |"]
        lines.append("|---|---|---|---|---|---|")
        lines += [_line(row) for row in some]
        parts.append("\n".join(lines) + "\n")
    if proof is not None:
        parts.append(_proven(proof))
    if missed := [row for row in rows if row.verdict == "missed"]:
        notes = [f"- **{row.failure}**: {_cell(row.measured)} (target: {_cell(row.target)})" for row in missed]
        parts.append("## Targets that are missed\n\n" + "\n".join(notes) + "\n")
    if later := [row for row in rows if row.verdict == "later"]:
        parts.append(
            "## What is not there yet\n\n" + "\n\n".join(f"**{row.failure}.** {row.measured}" for row in later) + "\n"
        )
    return "\n".join([*parts, _RUN, _when(rows)])


def _summary(rows: Sequence[Row]) -> str:
    counts = Counter(row.verdict for row in rows)
    words = [f"{counts[verdict]} {verdict}" for verdict in _WORDS if counts[verdict]]
    broken = sum(bool(row.broken) for row in rows)
    return f"{', '.join(words)}. Rows with a broken invariant: {broken}.\n"


def _proven(proof: Mapping[str, Any]) -> str:
    kinds = ", ".join(f"{kind} ({count})" for kind, count in proof["kinds"].items())
    verdict = "every run was fine" if proof["isFine"] else f"runs that were not fine, by seed: {proof['failed']}"
    return (
        "## Many at random\n\n"
        f"`make proof` hurt {proof['runs']} instances under load, each from its own seed: {proof['faults']:,} faults,"
        f" {proof['accepted']:,} orders accepted, {proof['ended']:,} ended, {proof['broken']} invariants broken;"
        f" {verdict}; the longest run took {proof['slowestSeconds']:.0f} s. Revision {proof['revision']}.\n\n{kinds}.\n"
    )


def _line(row: Row) -> str:
    measured = row.measured if row.verdict != "later" else "-"
    measured += "".join(f"; broken: {one}" for one in row.broken)
    cells = [row.failure, row.how, row.saw, row.target, measured]
    return f"| {' | '.join(_cell(cell) for cell in cells)} | {_WORDS[row.verdict]} |"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def _when(rows: Sequence[Row]) -> str:
    """When each part of it was run, on what."""
    runs: dict[tuple[str, int, str], list[str]] = {}
    for row in rows:
        if row.verdict in {"met", "missed"}:
            runs.setdefault((row.revision, row.cores, row.at[:10]), []).append(row.name)
    lines = []
    for (revision, cores, day), names in sorted(runs.items(), key=lambda run: -len(run[1])):
        which = f"{len(names)} rows" if len(names) > 3 or len(runs) == 1 else ", ".join(names)
        lines.append(f"- {day}, revision {revision}, a machine with {cores} cores: {which}")
    return (
        "## When\n\n"
        + "\n".join(lines)
        + "\n\nThe figures are of a shared machine: read them as bounds, not as speed.\n"
    )
