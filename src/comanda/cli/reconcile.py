"""`comanda reconcile`: our payments and refunds of a span of time against the gateway's, order by order.

With `--json` one document on stdout, to which fields may be added:

    {"isEven": true, "exitCode": 0, "since": "…", "until": null, "by": "ledger|keys", "isWhole": true, "payments": 1200,
     "underWay": 3, "count": 0,
     "sums": [{"currency": "USD", "ours": {"captured": 120000, "refunded": 1000},
               "theirs": {"captured": 120000, "refunded": 1000}, "underWay": 0, "difference": 0}],
     "differences": [{"orderId": "…", "paymentId": "…", "state": "FAILED", "currency": "USD",
                      "ours": {"captured": 0, "refunded": 0}, "theirs": {"captured": 1000, "refunded": 0},
                      "amount": 1000, "what": "captured", "advice": "…"}]}

`differences` are the first 100 of `count`. Exit codes: 0 both sides agree, 3 they don't, 4 something does not answer.
"""

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import typer
from babel.numbers import format_currency, get_currency_precision
from rich.console import Console
from rich.table import Table

from comanda.clock import now, rfc3339
from comanda.db import Database
from comanda.errors import ConfigurationFault, DependencyFault
from comanda.payments.gateway import HttpGateway
from comanda.proof import instance
from comanda.proof.reconcile import Progress, Reconciliation, Side, Span
from comanda.proof.reconcile import reconcile as compare
from comanda.settings import Settings

UNEVEN = 3


async def reconcile(
    settings: Settings, *, data_dir: Path | None, since_hours: float, until_hours: float, patience: float, json: bool
) -> int:
    """Compare, say what came of it; the exit code.

    Raises:
        ConfigurationFault: nothing says where the instance is, or its gateway keeps no ledger.
        DependencyFault: gateway or PostgreSQL do not answer, or not in time.
    """
    where = instance.find(settings, data_dir)
    if not where.database_url:
        raise ConfigurationFault("COMANDA_DATABASE_URL is not set; or name the --data-dir of a running `comanda up`")
    if not where.gateway_url:
        raise ConfigurationFault(
            "There is no gateway that keeps anything (`instant`, or COMANDA_GATEWAY_URL is not set)"
        )
    if since_hours and until_hours >= since_hours:
        raise ConfigurationFault("--since has to be longer ago than --until: nothing lies between them")
    moment = now()
    until = moment - timedelta(hours=until_hours) if until_hours else None
    span = Span(moment - timedelta(hours=since_hours) if since_hours else None, until)
    database = await Database.open(where.database_url, name="comanda-reconcile", size=2)
    try:
        async with HttpGateway(where.gateway_url, timeout=settings.gateway_timeout_seconds) as gateway:
            made = await _within(patience, database, gateway, span)
    finally:
        await database.close()
    if json:
        typer.echo(msgspec.json.encode(_document(made, span)).decode())
    else:
        _show(Console(), made)
    return 0 if made.is_even else UNEVEN


async def _within(patience: float, database: Database, gateway: HttpGateway, span: Span) -> Reconciliation:
    """With a word about how far it is, on a terminal."""
    errors, last = Console(stderr=True), Progress()
    with errors.status("Reads the ledger …") as status:

        def tell(progress: Progress) -> None:
            last.lines, last.payments = progress.lines, progress.payments
            status.update(f"{progress.lines:,} lines of the ledger, {progress.payments:,} payments …")

        try:
            async with asyncio.timeout(patience):
                made = await compare(database, gateway, span, tell)
        except TimeoutError:
            raise DependencyFault(
                f"Time is up after {patience:g} s, at {last.lines:,} lines of the ledger, {last.payments:,} payments: "
                "choose a shorter span, or a longer --timeout."
            ) from None
    assert made is not None
    return made


def _document(made: Reconciliation, span: Span) -> dict[str, Any]:
    return {
        "isEven": made.is_even,
        "exitCode": 0 if made.is_even else UNEVEN,
        "since": span.since and rfc3339(span.since),
        "until": span.until and rfc3339(span.until),
        "by": made.by,
        "isWhole": made.is_whole,
        "payments": made.payments,
        "underWay": made.under_way,
        "count": made.count,
        "sums": [
            {
                "currency": currency,
                "ours": _side(Side(one.ours_captured, one.ours_refunded)),
                "theirs": _side(Side(one.theirs_captured, one.theirs_refunded)),
                "underWay": one.under_way,
                "difference": one.difference,
            }
            for currency, one in sorted(made.sums.items())
        ],
        "differences": [
            {
                "orderId": one.order_id,
                "paymentId": one.payment_id,
                "state": one.state,
                "currency": one.currency,
                "ours": _side(one.ours),
                "theirs": _side(one.theirs),
                "amount": one.amount,
                "what": one.what,
                "advice": one.advice,
            }
            for one in made.differences
        ],
    }


def _side(one: Side) -> dict[str, int]:
    return {"captured": one.captured, "refunded": one.refunded}


def _show(console: Console, made: Reconciliation) -> None:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("")
    for heading in ("captured here", "given back here", "captured there", "given back there", "difference"):
        table.add_column(heading, justify="right")
    for currency, one in sorted(made.sums.items()):
        amounts = (one.ours_captured, one.ours_refunded, one.theirs_captured, one.theirs_refunded, one.difference)
        table.add_row(currency, *(_money(amount, currency) for amount in amounts))
    console.print(table)
    for difference in made.differences:
        console.print(
            f"\n[bold red]{difference.order_id}[/]  {_money(difference.amount, difference.currency)}", highlight=False
        )
        console.print(difference.advice, style="yellow", markup=False, highlight=False)
    if made.count > len(made.differences):
        console.print(f"… and {made.count - len(made.differences):,} more", highlight=False)
    verdict = "Both sides agree" if made.is_even else f"{made.count:,} orders differ"
    asked = "" if made.is_whole else "; only the newest were asked for"
    console.print(
        f"\n{verdict}: {made.payments:,} payments, {made.under_way:,} of them under way{asked}",
        style="bold green" if made.is_even else "bold red",
        highlight=False,
    )


def _money(minor: int, currency: str) -> str:
    return format_currency(minor / 10 ** get_currency_precision(currency), currency, locale="en")
