"""`comanda chaos`: hurts an instance of its own from a seed, under load, and judges it by ledgers only.

The report is described in `proof/chaos/report.py`. Exit codes: 0 fine, 1 the run proves nothing or orders did not end
in time, 3 an invariant is broken, 4 something did not start. After a failure the data folder is kept.
"""

import math
import random
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from comanda import __version__
from comanda.engines.supervisor import Supervisor
from comanda.errors import ConfigurationFault, Fault
from comanda.proof.chaos import demand, page, schedule
from comanda.proof.chaos.faults import KINDS
from comanda.proof.chaos.report import Wanted, document
from comanda.proof.chaos.run import Told, run
from comanda.proof.chaos.stage import staged

_ORDERS_PER_SECOND = 24
_SECONDS_PER_FAULT = 2.0
_STYLES = {"passed": "green", "failed": "bold red", "skipped": "yellow", "unknown": "bold yellow"}


@dataclass(frozen=True, slots=True)
class Options:
    """Of the command; None: not given."""

    seed: int | None
    orders: int
    duration: float | None
    faults: int | None
    report: Path | None
    data_dir: Path | None


async def chaos(options: Options, *, json: bool) -> int:
    """Do it, print the report; the exit code.

    Raises:
        ConfigurationFault: the data folder is in use.
        DependencyFault: a part does not start or does not answer.
    """
    _check(options)
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(10**6)
    count = options.faults if options.faults is not None else 10 + options.orders // 100
    fitting = max(options.orders / _ORDERS_PER_SECOND, count * _SECONDS_PER_FAULT)
    duration = round(options.duration or fitting, 1)  # as it is printed, so that a repeat has the same schedule
    plan = schedule.draw(KINDS, seed=seed, duration=duration, count=count)
    wanted = Wanted(seed, options.orders, duration, plan, revision())
    errors = Console(stderr=True)
    _announce(errors, wanted)
    folder = _folder(options.data_dir)
    try:
        report = await _run(wanted, folder, errors)
    except BaseException:
        errors.print(f"\nSeed {seed}, revision {wanted.revision}; everything is kept in {folder}", style="bold red")
        raise
    if json:
        typer.echo(msgspec.json.encode(report).decode())
    else:
        _show(Console(), report)
    if options.report is not None:
        options.report.write_text(page.rendered(report), encoding="utf-8")
    if report["isFine"] and options.data_dir is None:
        shutil.rmtree(folder, ignore_errors=True)
    elif not report["isFine"]:
        (folder / "report.json").write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1))
        _show_how_to_repeat(errors, wanted, folder)
    return int(report["exitCode"])


def _check(options: Options) -> None:
    """What can be known to go wrong is said before anything starts."""
    if options.duration is not None and not math.isfinite(options.duration):
        raise ConfigurationFault("--duration is a number of seconds")
    if options.report is not None and not options.report.absolute().parent.is_dir():
        raise ConfigurationFault(f"--report {options.report}: there is no folder {options.report.parent}")


def revision() -> str:
    """The commit that this runs from, or the version of the package."""
    here = Path(__file__).parent
    with suppress(OSError, subprocess.SubprocessError):
        command = ["git", "-C", str(here), "describe", "--always", "--dirty"]  # the revision of the code itself
        told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=5)  # noqa: S603
        return told.stdout.strip()
    return __version__


def _folder(data_dir: Path | None) -> Path:
    if data_dir is None:
        return Path(tempfile.mkdtemp(prefix="comanda-chaos-"))
    if data_dir.exists() and any(data_dir.iterdir()):
        raise ConfigurationFault(f"{data_dir} is not empty: each run starts with nothing; name a new --data-dir")
    return data_dir


async def _run(wanted: Wanted, folder: Path, errors: Console) -> dict[str, Any]:
    """On a stage of its own, which is gone when this returns."""
    began = time.monotonic()
    restarts: list[str] = []
    supervisor = Supervisor(restarts.append)
    found: list[dict[str, Any]] = []
    faults: list[BaseException] = []
    columns = (
        TextColumn("{task.description:<9}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}", style="yellow"),
    )
    with Progress(*columns, console=errors, disable=not errors.is_terminal) as progress:
        accepted = progress.add_task("Accepted", total=wanted.orders, note="")
        ended = progress.add_task("Ended", total=wanted.orders, note="")
        hurts = progress.add_task("Faults", total=len(wanted.schedule), note="")

        def told(state: Told) -> None:
            total = max(wanted.orders, state.accepted)
            progress.update(accepted, completed=state.accepted, total=total, note=state.phase)
            progress.update(ended, completed=state.ended, total=total)
            progress.update(hurts, completed=state.hurts, note=", ".join(state.faults))

        async def everything() -> None:
            try:
                async with staged(folder, supervisor, lambda phase: told(Told(phase))) as stage:
                    goods = demand.made_up(seed=wanted.seed, orders=wanted.orders)
                    result = await run(stage, goods, wanted.schedule, wanted.duration, told)
                    notes = [f"comanda up itself ended: {one}" for one in restarts if one.startswith("up:")]
                    found.append(document(wanted, result, seconds=time.monotonic() - began, notes=notes))
            except Exception as fault:  # noqa: BLE001 - raised again below, when nothing runs any more
                faults.append(fault)
            finally:
                supervisor.request_stop()

        await supervisor.run(everything)
    if faults:
        raise _first(faults[0])
    if not found:
        raise Fault("Interrupted: nothing was judged")
    return found[0]


def _first(fault: BaseException) -> BaseException:
    """What ended tasks that ran at once."""
    return _first(fault.exceptions[0]) if isinstance(fault, BaseExceptionGroup) else fault


def _announce(errors: Console, wanted: Wanted) -> None:
    errors.print(
        f"Seed {wanted.seed}, revision {wanted.revision}: {wanted.orders:,} orders in {wanted.duration:g} s, "
        f"{len(wanted.schedule)} faults",
        style="bold",
        highlight=False,
    )
    for planned in wanted.schedule:
        errors.print(f"  {planned}", markup=False, highlight=False)


def _show_how_to_repeat(errors: Console, wanted: Wanted, folder: Path) -> None:
    errors.print(
        f"\nSeed {wanted.seed}, revision {wanted.revision}. The same schedule again:\n"
        f"  comanda chaos --seed {wanted.seed} --orders {wanted.orders} --duration {wanted.duration:g} "
        f"--faults {len(wanted.schedule)}",
        style="bold red",
        highlight=False,
        soft_wrap=True,
    )
    for planned in wanted.schedule:
        errors.print(f"  {planned}", markup=False, highlight=False)
    errors.print(f"Databases, logs and the gateway's ledger are kept in {folder}", highlight=False, soft_wrap=True)


def _show(console: Console, report: Mapping[str, Any]) -> None:
    console.print(
        f"{report['accepted']:,} orders accepted, {report['ended']:,} ended, {len(report['faults'])} faults of "
        f"{len(report['kinds'])} kinds in {report['seconds']:.1f} s; seed {report['seed']}\n",
        highlight=False,
    )
    console.print(
        _table(
            ("Outcome", "Reason", ">Orders"),
            [(one["status"], one["reason"] or "", f"{one['orders']:,}") for one in report["outcomes"]],
        )
    )
    console.print(
        _table(
            ("\nPart", "\nFault", ">\nTimes", ">\nAccepts again after", ">\nEnds again after"),
            [
                (
                    one["part"],
                    one["kind"],
                    str(one["faults"]),
                    _took(one["slowestAccepted"]),
                    _took(one["slowestEnded"]),
                )
                for one in report["kinds"]
            ],
        )
    )
    checks = [
        (escape(one["name"]), escape(one["meaning"]), f"[{_STYLES[one['status']]}]{one['count'] or one['status']}[/]")
        for one in report["checks"]
    ]
    console.print(_table(("\nCheck", "\nWhat it means", ">\n"), checks))
    for check in report["checks"]:
        if check["status"] == "failed":
            console.print(f"\n{check['name']}: {check['meaning']}", style="bold red", markup=False, highlight=False)
            for row in check["rows"]:
                console.print(f"  {_told(row)}", markup=False, highlight=False, soft_wrap=True)
    for one in report["missed"]:
        console.print(f"  missed: {one['kind']}: {one['why']}", style="yellow", markup=False, highlight=False)
    for sentence in report["noticed"]:
        console.print(f"  noticed: {sentence}", style="yellow", markup=False, highlight=False)
    for sentence in report["trivial"]:
        console.print(f"  {sentence}", style="bold red", markup=False, highlight=False)
    verdict = "Nothing is lost, nothing is charged twice, nothing is oversold" if report["isFine"] else "Not fine"
    console.print(f"\n{verdict}", style="bold green" if report["isFine"] else "bold red")


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Headings that begin with `>` are of columns of numbers."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in headings:
        table.add_column(heading.removeprefix(">"), justify="right" if heading.startswith(">") else "left")
    for row in rows:
        table.add_row(*row)
    return table


def _took(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds:.2f} s"


def _told(row: Mapping[str, Any]) -> str:
    return row["problem"] if list(row) == ["problem"] else ", ".join(f"{name} {value}" for name, value in row.items())
