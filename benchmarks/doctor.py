"""How long the checker takes on a shop with many finished orders: those of the last day, and all of them.

    python benchmarks/doctor.py [--orders 1000000] [--keep FOLDER]

Fills an embedded PostgreSQL and the mock gateway's ledger with the rows of so many finished orders, 50,000 a day, and
checks them; the ledger is read over HTTP. Prints one JSON line; `value` are the seconds for all of them, `reference`
is what they may take; the checks stand with the slowest first. `--keep`: fill the folder once, check it again later.
"""

import argparse
import asyncio
import resource
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
from harness import made_folder, on_disk, report, say

from comanda import clock
from comanda.cli.doctor import Report, examine
from comanda.db import migrations
from comanda.db.statements import Twin
from comanda.engines import postgres
from comanda.gateway.store import SCHEMA
from comanda.proof.instance import Instance
from comanda.settings import Settings

A_DAY = 50_000
MAY_TAKE = 60.0
# Of a thousand orders: so many are confirmed; up to here declined, up to here out of stock; the others are undone.
FATES = (920, 970, 990)
FIRST = ("ids", "weeks", "products", "customers")
# Two connections at once: the long ones first.
FILLED = (
    "orders", "lines", "events", "mails", "attempts", "sagas", "moves", "messages", "payments", "reservations", "keys",
)  # fmt: skip
AFTER_LINES = ("movements", "reserved_lines", "restocks")
_sql = Twin(Path(__file__).with_suffix(".sql"))


async def fill(url: str, folder: Path, orders: int, fates: Sequence[int] = FATES) -> None:
    """Rows in set-based statements, the gateway's ledger from them."""
    connection = await asyncpg.connect(url)
    for name in FIRST:
        await connection.execute(_sql[name].text)
    plan = _sql["plan"].text
    for number, value in enumerate((orders, A_DAY, *fates), 1):
        plan = plan.replace(f"${number}", str(value))
    await connection.execute(plan)
    await connection.execute("ANALYZE bench")
    await connection.execute(_sql["packed"].text)
    for names in (FILLED, AFTER_LINES):
        waiting = list(names)
        await asyncio.gather(_insert(url, waiting), _insert(url, waiting))
    await connection.execute(_sql["stock"].text)
    await connection.execute(_sql["handed_on"].text)
    await _fill_ledger(connection, folder)
    await connection.execute(_sql["drop_plan"].text)
    await connection.execute(_sql["unpacked"].text)
    began = time.monotonic()
    await connection.execute("VACUUM ANALYZE")
    await connection.execute("CHECKPOINT")
    say("vacuumed", seconds=round(time.monotonic() - began, 1))
    await connection.close()


async def _insert(url: str, waiting: list[str]) -> None:
    # Rows that fit together as they are made, as the doctor sees afterwards: no reference has to be looked up.
    settings = {"synchronous_commit": "off", "work_mem": "256MB", "session_replication_role": "replica"}
    connection = await asyncpg.connect(url, server_settings=settings)
    while waiting:
        name = waiting.pop(0)
        began = time.monotonic()
        tag = await connection.execute(_sql[name].text)
        say(f"filled {name}", rows=tag.rpartition(" ")[2], seconds=round(time.monotonic() - began, 1))
    await connection.close()


async def _fill_ledger(connection: "asyncpg.Connection[asyncpg.Record]", folder: Path) -> None:
    (folder / "gateway").mkdir(parents=True, exist_ok=True)
    with sqlite3.connect(folder / "gateway" / "gateway.sqlite3") as store:
        store.executescript(SCHEMA)
        async with connection.transaction():
            lines = await connection.cursor(_sql["ledger"].text)
            while page := await lines.fetch(50_000):
                store.executemany(
                    "INSERT INTO ledger (type, order_id, amount, currency, key, at) VALUES (?, ?, ?, ?, ?, ?)",
                    [(*tuple(row)[:-1], clock.rfc3339(row["at"])) for row in page],
                )
    store.close()


@asynccontextmanager
async def gateway(folder: Path) -> AsyncIterator[str]:
    """The mock gateway in a process of its own; its URL."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "comanda", "gateway", "--data-dir", str(folder), stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        yield (await process.stdout.readline()).decode().strip()
    finally:
        process.terminate()
        await process.wait()


def said(what: str, found: Report) -> None:
    """A table on stderr, the slowest first."""
    say(f"{what}: {found.orders:,} orders", seconds=round(found.seconds, 1), exit_code=found.exit_code)
    for one in slowest(found):
        say(f"  {one}", seconds=slowest(found)[one])
    for finding in found.findings:
        if finding.status == "failed":
            say(f"  broken: {finding.name}", rows=str(list(finding.rows[:3])))


def slowest(found: Report) -> dict[str, float]:
    took = sorted(found.findings, key=lambda finding: -finding.seconds)
    return {finding.name: round(finding.seconds, 2) for finding in took}


async def measure(orders: int, folder: Path) -> None:
    filled = (folder / "filled").exists()
    running = await postgres.start(folder)
    try:
        if not filled:
            await migrations.apply(running.url)
            await fill(running.url, folder, orders)
            (folder / "filled").touch()
        async with gateway(folder) as url:
            where = Instance(database_url=running.url, gateway_url=url)
            day = await examine(Settings(), where, 24)
            said("the last day", day)
            everything = await examine(Settings(), where)
            said("all", everything)
        if day.exit_code or everything.exit_code:
            sys.exit("the shop that was filled in is broken")
        report(
            "doctor", [everything.seconds], [MAY_TAKE], 1, unit="s", orders=everything.orders,
            day={"orders": day.orders, "seconds": round(day.seconds, 2), "checks": slowest(day)},
            checks=slowest(everything),
            peak_mib=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        )  # fmt: skip
    finally:
        await running.stop()


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--orders", type=int, default=1_000_000)
    arguments.add_argument("--keep", type=Path, default=None)
    asked = arguments.parse_args()
    folder = asked.keep or made_folder()
    folder.mkdir(parents=True, exist_ok=True)
    on_disk(folder)
    try:
        asyncio.run(measure(asked.orders, folder))
    finally:
        if asked.keep is None:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
