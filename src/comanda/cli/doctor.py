"""`comanda doctor`: every invariant, checked on a live database and on the gateway's ledger.

With `--json` one document on stdout, to which fields may be added:

    {"isHealthy": true, "exitCode": 0, "checkedAt": "…", "since": null, "seconds": 0.8,
     "orders": 1200, "ordersUnderWay": 3,
     "checks": [{"name": "money_is_exact", "invariant": 3, "meaning": "…", "status": "passed|failed|skipped|unknown",
                 "count": 0, "rows": [{"orderId": "…", …}], "advice": "…", "note": null,
                 "seconds": 0.02}, …],
     "proposals": [{"check": "stock_is_its_movements", "kind": "movement", "subject": "product … at MAIN",
                    "amounts": {"onHand": -2, "held": 0}, "command": "psql …", "why": "…"}, …]}

`rows` are the first 20 of `count`; `proposals` are there with `--repair`: what would mend these rows. None is applied.
 Exit codes: 0 nothing is broken, 3 something is, 4 something does not answer.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import typer
from pydantic.alias_generators import to_camel
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from comanda.clock import now, rfc3339
from comanda.db.database import connect, translated
from comanda.errors import ConfigurationFault, DatabaseFault
from comanda.payments.gateway import HttpGateway
from comanda.proof import instance, invariants
from comanda.proof.findings import Finding, broken
from comanda.proof.instance import Instance
from comanda.proof.ledger import Ledger, NoLedger
from comanda.proof.repair import DECIDE, Proposal, proposals
from comanda.settings import Settings

BROKEN = 3
_STYLES = {"passed": "green", "failed": "bold red", "skipped": "yellow", "unknown": "bold yellow"}


@dataclass(frozen=True, slots=True)
class Report:
    """What was found, and what was looked at."""

    findings: Sequence[Finding]
    orders: int
    under_way: int
    checked_at: datetime
    since: datetime | None
    seconds: float

    @property
    def exit_code(self) -> int:
        if broken(self.findings):
            return BROKEN
        unanswered = any(finding.status == "unknown" for finding in self.findings)
        return DatabaseFault.exit_code if unanswered else 0


async def doctor(
    settings: Settings, *, data_dir: Path | None, since_hours: float | None, json: bool, repair: bool = False
) -> int:
    """Look at the instance, say what was found; the exit code.

    Raises:
        ConfigurationFault: nothing says where the instance is, or there is none.
        DatabaseFault: PostgreSQL does not answer.
    """
    where = instance.find(settings, data_dir)
    errors = Console(stderr=True)
    if errors.is_terminal:
        with errors.status("Looks …") as status:
            report = await examine(settings, where, since_hours, lambda name: status.update(f"Looks at {name} …"))
    else:
        report = await examine(settings, where, since_hours)
    proposed = proposals(report.findings) if repair else None
    if json:
        typer.echo(msgspec.json.encode(_document(report, proposed)).decode())
    else:
        console = Console()
        _show(console, report)
        if proposed is not None:
            _show_proposals(console, proposed)
    return report.exit_code


async def examine(
    settings: Settings,
    where: Instance,
    since_hours: float | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> Report:
    """Check everything; `tell` is given the name of each check as it begins."""
    if not where.database_url:
        raise ConfigurationFault("COMANDA_DATABASE_URL is not set; or name the --data-dir of a running `comanda up`")
    began, moment = time.monotonic(), now()
    since = None if since_hours is None else moment - timedelta(hours=since_hours)
    async with AsyncExitStack() as stack:
        tx, beside = [await connect(where.database_url, name="comanda-doctor") for _ in range(2)]
        stack.push_async_callback(tx.close)
        stack.push_async_callback(beside.close)
        gateway: Ledger | NoLedger = NoLedger("no gateway with a ledger (`instant`, or COMANDA_GATEWAY_URL is not set)")
        if where.gateway_url:
            gateway = await stack.enter_async_context(
                HttpGateway(where.gateway_url, timeout=settings.gateway_timeout_seconds)
            )
        if not await invariants.has_schema(tx):
            raise ConfigurationFault("There are no tables of Comanda in that database: run `comanda migrate`")
        with translated():
            async with tx.transaction(isolation="repeatable_read", readonly=True):
                findings = await invariants.check(tx, gateway, since=since, beside=beside, tell=tell)
                orders, under_way = await invariants.counted(tx, since=since)
    return Report(findings, orders, under_way, moment, since, time.monotonic() - began)


def _document(report: Report, proposed: Sequence[Proposal] | None) -> dict[str, Any]:
    document = {
        "isHealthy": report.exit_code == 0,
        "exitCode": report.exit_code,
        "checkedAt": rfc3339(report.checked_at),
        "since": report.since and rfc3339(report.since),
        "seconds": round(report.seconds, 3),
        "orders": report.orders,
        "ordersUnderWay": report.under_way,
        "checks": [
            {
                "name": finding.name,
                "invariant": finding.invariant,
                "meaning": finding.meaning,
                "status": finding.status,
                "count": finding.count,
                "rows": [{to_camel(name): _plain(value) for name, value in row.items()} for row in finding.rows],
                "advice": finding.advice,
                "note": finding.note,
                "seconds": round(finding.seconds, 3),
            }
            for finding in report.findings
        ],
    }
    return document if proposed is None else {**document, "proposals": [asdict(one) for one in proposed]}


def _plain(value: Any) -> Any:
    match value:
        case UUID():
            return str(value)
        case datetime():
            return rfc3339(value)
        case _:
            return value


def _show(console: Console, report: Report) -> None:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("", "Check", "What it means"):
        table.add_column(heading, overflow="fold")
    table.add_column("", justify="right")
    for finding in report.findings:
        style = _STYLES[finding.status]
        told = finding.meaning if finding.note is None else f"{finding.meaning} Not checked: {finding.note}"
        count = str(finding.count) if finding.count else f"[{style}]{finding.status}[/]"
        table.add_row(str(finding.invariant), f"[{style}]{finding.name}[/]", escape(told), count)
    console.print(table)
    for finding in broken(report.findings):
        _show_rows(console, finding)
    failed = len(broken(report.findings))
    verdict = {0: "Nothing is broken", BROKEN: f"{failed} of {len(report.findings)} checks failed"}
    text = verdict.get(report.exit_code, "Something does not answer; what could be checked is fine")
    console.print(
        f"\n{text}: {report.orders:,} orders, {report.under_way:,} of them under way ({report.seconds:.1f} s)",
        style="bold green" if report.exit_code == 0 else "bold red",
        highlight=False,
    )


def _show_rows(console: Console, finding: Finding) -> None:
    console.print(f"\n[bold red]{finding.name}[/]: {escape(finding.meaning)}", highlight=False)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in finding.rows[0]:
        table.add_column(name, overflow="fold")
    for row in finding.rows:
        table.add_row(*(_cell(row, name) for name in finding.rows[0]))
    console.print(table)
    if finding.count > len(finding.rows):
        console.print(f"… and {finding.count - len(finding.rows):,} more", highlight=False)
    console.print(finding.advice, style="yellow", markup=False, highlight=False)


def _cell(row: Mapping[str, Any], name: str) -> str:
    value = _plain(row[name])
    return "-" if value is None else escape(str(value))


def _show_proposals(console: Console, proposed: Sequence[Proposal]) -> None:
    """Commands stand in lines of their own, whole: they are there to be copied."""
    if not proposed:
        console.print("\nNothing to repair")
        return
    console.print(f"\nProposals: {len(proposed)}. Nothing has been applied; after each, look again.", style="bold")
    for one in proposed:
        amounts = "".join(f"  {name} {amount:+,}" for name, amount in one.amounts.items() if amount)
        style = "yellow" if one.kind == DECIDE else "green"
        console.print(
            f"\n[{style}]{one.kind}[/] ({one.check})  {escape(one.subject)}{amounts}", highlight=False, soft_wrap=True
        )
        console.print(f"  {one.command}", markup=False, highlight=False, soft_wrap=True)
        console.print(f"  {one.why}", style="dim", markup=False, highlight=False, soft_wrap=True)
