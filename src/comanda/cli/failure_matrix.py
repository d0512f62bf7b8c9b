"""`comanda failure-matrix`: causes each failure on an instance of its own and writes what came of it.

Exit codes: 0 done, with whatever was met or missed; 2 no such scenario; 3 an invariant is broken.
"""

import os
import time
from collections.abc import Sequence
from json import loads
from pathlib import Path

import typer
from rich.console import Console

from comanda.cli.chaos import revision
from comanda.errors import ConfigurationFault
from comanda.proof.matrix import page, results
from comanda.proof.matrix.perform import perform
from comanda.proof.matrix.results import Row
from comanda.proof.matrix.table import SCENARIOS

PROOF = "proof.json"
"""What `make proof` came to, beside the page."""

_STYLES = {"met": "green", "missed": "bold red", "skipped": "yellow", "later": "dim"}


async def failure_matrix(only: Sequence[str], out: Path, *, json: bool) -> int:
    """Run them one after the other; the page is written after each. The exit code.

    Raises:
        ConfigurationFault: there is no such scenario, or what the last run left can't be read.
    """
    by_name = {scenario.name: scenario for scenario in SCENARIOS}
    if unknown := [name for name in only if name not in by_name]:
        raise ConfigurationFault(f"No such scenario: {', '.join(unknown)}. There are {', '.join(by_name)}.")
    errors, known = Console(stderr=True), _known(out.with_suffix(".json"))
    chosen = [by_name[name] for name in only] if only else SCENARIOS
    run_at, ran = revision(), list[Row]()
    for number, scenario in enumerate(chosen, 1):
        began = time.monotonic()
        errors.print(f"{number:>2}/{len(chosen)}  {scenario.name}: {scenario.how}", markup=False, highlight=False)

        def told(text: str, began: float = began) -> None:
            errors.print(
                f"         {time.monotonic() - began:5.0f} s  {text}", style="dim", markup=False, highlight=False
            )

        row = (await perform(scenario, told)).run_on(run_at, os.cpu_count() or 1)
        ran.append(row)
        errors.print(f"       {row.verdict}: {row.measured}", style=_STYLES[row.verdict], markup=False, highlight=False)
        for sentence in row.broken:
            errors.print(f"       broken: {sentence}", style="bold red", markup=False, highlight=False)
        _write(out, results.merged(known, ran, list(by_name)))
    if json:
        typer.echo(results.stored(ran), nl=False)
    return results.exit_code(ran)


def _known(path: Path) -> list[Row]:
    if not path.exists():
        return []
    try:
        return results.read(path.read_text(encoding="utf-8"))
    except ValueError as broken:
        raise ConfigurationFault(f"{path} can't be read ({broken}): move it away") from None


def _write(out: Path, rows: Sequence[Row]) -> None:
    proof = out.with_name(PROOF)
    known = loads(proof.read_bytes()) if proof.exists() else None
    out.write_text(page.rendered(rows, known), encoding="utf-8")
    out.with_suffix(".json").write_text(results.stored(rows), encoding="utf-8")
