"""`comanda load`: drives a running instance and says how it did. The report is described in `proof/load/report.py`.

Exit codes: 0 every accepted order has ended and all totals are exact, 1 not so, 2 usage, 4 nobody answers.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from comanda.errors import ConfigurationFault, Fault
from comanda.proof import instance
from comanda.proof.load import baskets
from comanda.proof.load.plan import FRAUD_ABOVE, Plan, made_up, methods_of
from comanda.proof.load.prepare import Person
from comanda.proof.load.run import Drive, drive
from comanda.settings import Settings

DATASETS = ("completejourney",)
_USUAL_ORDERS, _USUAL_CUSTOMERS, _MOST_HOUSEHOLDS = 100, 10, 50


@dataclass(frozen=True, slots=True)
class Options:
    """Of the command; None: not given."""

    orders: int | None
    rate: float
    customers: int | None
    products: int
    stock: int
    connections: int
    patience: float
    methods: str
    seed: int | None
    dataset: str | None
    week: int
    url: str | None
    data_dir: Path | None


async def load(settings: Settings, options: Options, *, json: bool) -> int:
    """Place the orders, follow them, print the report; the exit code.

    Raises:
        ConfigurationFault: an option or the admin's login is wrong.
        DependencyFault: the instance does not answer.
    """
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(10**6)
    plan = _plan(options, seed)
    errors = Console(stderr=True)
    _warn_of_fraud(plan, errors)
    what = Drive(
        url=options.url or instance.written(options.data_dir or instance.DEFAULT_FOLDER).api,
        plan=plan,
        admin=Person(settings.admin_email, instance.admin_password(settings, options.data_dir)),
        rate=options.rate,
        connections=options.connections,
        units=options.stock,
        patience=options.patience,
    )
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=errors, disable=not errors.is_terminal) as progress:
        try:
            report = await drive(what, progress, seed=seed)
        except ExceptionGroup as several:
            raise _fault_of(several) from several
    if json:
        typer.echo(msgspec.json.encode(report).decode())
    else:
        _show(Console(), report)
    return 0 if report["isFine"] else 1


def _fault_of(several: ExceptionGroup[Exception]) -> Exception:
    """The fault that ended tasks which ran at once."""
    faults = several.subgroup(Fault)
    first: Exception = (faults or several).exceptions[0]
    return _fault_of(first) if isinstance(first, ExceptionGroup) else first


def _plan(options: Options, seed: int) -> Plan:
    methods = methods_of(options.methods)
    if options.dataset is None:
        return made_up(
            orders=options.orders or _USUAL_ORDERS,
            customers=options.customers or _USUAL_CUSTOMERS,
            products=options.products,
            seed=seed,
            methods=methods,
        )
    if options.dataset not in DATASETS:
        raise ConfigurationFault(f"--dataset: there is {', '.join(DATASETS)}")
    customers = options.customers or _MOST_HOUSEHOLDS
    return baskets.read(week=options.week, customers=customers, orders=options.orders, seed=seed, methods=methods)


def _warn_of_fraud(plan: Plan, errors: Console) -> None:
    prices = {good.sku: good.price for good in plan.goods}
    above = sum(wanted.total(prices) > FRAUD_ABOVE for wanted in plan.orders)
    if above:
        errors.print(f"{above} orders are above 10,000.00: they will end as suspected of fraud", style="yellow")


def _show(console: Console, report: Mapping[str, Any]) -> None:
    console.print(
        f"{report['accepted']:,} of {report['orders']:,} orders accepted ({report['acceptedPerSecond']:,}/s), "
        f"{report['ended']:,} ended ({report['endedPerSecond']:,}/s) "
        f"in {report['seconds']:.1f} s; seed {report['seed']}\n",
        highlight=False,
    )
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("Milliseconds", "p50", "p95", "p99", "max"):
        table.add_column(heading, justify="left" if heading == "Milliseconds" else "right")
    spreads = {"request to 202": report["acceptMs"]}
    spreads |= {f"accepted to {status}": spread for status, spread in report["endMs"].items()}
    for name, spread in spreads.items():
        table.add_row(name, *(f"{spread[part]:,.1f}" for part in ("p50", "p95", "p99", "max")))
    console.print(table)
    counts = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("\nOutcome", "\nReason"):
        counts.add_column(heading)
    counts.add_column("\nOrders", justify="right")
    for one in report["outcomes"]:
        counts.add_row(one["status"], one["reason"] or "", f"{one['orders']:,}")
    for kind in ("rejected", "retried"):
        for code, count in report[kind].items():
            counts.add_row(kind, code, f"{count:,}")
    console.print(counts)
    if report["isFine"]:
        console.print("\nEvery accepted order has ended, and every total is exact", style="bold green")
        return
    console.print(f"\n{report['wrongCount']:,} things are wrong:", style="bold red", highlight=False)
    for sentence in report["wrong"]:
        console.print(f"  {sentence}", markup=False, highlight=False)
