"""A shop with many orders behind it against one with few: rates, plans of the hot statements, memory of each process.

    python benchmarks/growth.py [--orders 10000000] [--few 10000] [--runs 3] [--seconds 8]

Both are filled with the rows of finished orders (as in benchmarks/doctor.sql: orders, lines, moves, sagas, attempts,
reservations, movements, payments, events, messages, keys), an hour or more for ten million. Then, in turn on each:
orders are accepted for some seconds while workers and relay are stopped, and then finished as fast as they can be.
Prints a JSON line for each of the two rates, and which hot statements would read a large table from end to end.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Mapping

import doctor
import psutil
from end_to_end import ask, settle
from harness import Stand, comanda_up, nobody_working, report, say, wrk

from comanda.db import Database
from comanda.proof import plans


async def scanned(url: str) -> Mapping[str, str]:
    """Hot statements that would read a table or an index from end to end, and which."""
    database = await Database.open(url, name="plans")
    async with database.connection() as tx:
        read = {name: plans.read_whole(plan) for name, plan in (await plans.of_all(tx)).items()}
    await database.close()
    return {name: ", ".join(whole) for name, whole in read.items() if whole}


def filled(stand: Stand, orders: int) -> None:
    asyncio.run(doctor.fill(stand.database_url, stand.folder, orders))


def rates(stand: Stand, seconds: float) -> tuple[float, float]:
    """Accepted a second with nobody working on them, then finished a second."""
    with nobody_working(stand):
        accepted = wrk(stand, connections=64, seconds=seconds)
    began = time.monotonic()
    settle(stand)
    return accepted["rate"], (accepted["requests"] - accepted["non2xx"]) / (time.monotonic() - began)


def memory(stand: Stand) -> dict[str, int]:
    """MiB of each process of ours, what it shares with others left out where the system tells."""
    return {
        name: round(psutil.Process(pid).memory_full_info().uss / 2**20)
        for name, pid in stand.processes.items()
        if name not in {"postgres", "valkey"}
    }


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--orders", type=int, default=10_000_000)
    arguments.add_argument("--few", type=int, default=10_000)
    arguments.add_argument("--runs", type=int, default=3)
    arguments.add_argument("--seconds", type=float, default=8)
    asked = arguments.parse_args()
    settings = {"GATEWAY": "instant", "MAX_BACKLOG": "500000", "CHECK_SECONDS": "0"}
    found: dict[str, list[tuple[float, float]]] = {"few": [], "many": []}
    with comanda_up("--workers", "1", **settings) as few, comanda_up("--workers", "1", **settings) as many:
        filled(few, asked.few)
        filled(many, asked.orders)
        size = ask(many, "SELECT pg_database_size(current_database()) AS n")[0]["n"]
        stands = {"few": few, "many": many}
        for stand in stands.values():
            rates(stand, 3)
        for number in range(1, asked.runs + 1):
            for name, stand in stands.items():
                found[name].append(rates(stand, asked.seconds))
            say(f"run {number}", **{name: str(runs[-1]) for name, runs in found.items()})
        scans = asyncio.run(scanned(many.database_url))
        conditions = {
            "orders": asked.orders,
            "few": asked.few,
            "gib": round(size / 2**30, 1),
            "memory_mib": memory(many),
            "memory_mib_few": memory(few),
            "whole_tables_read_by": dict(scans),
        }
    for at, name in enumerate(("growth_accept", "growth_finish")):
        values, references = ([run[at] for run in found[which]] for which in ("many", "few"))
        report(name, values, references, 0.9, **conditions, reference=f"the same with {asked.few:,} orders stored")
    if scans:
        sys.exit(f"reads a large table from end to end: {scans}")


if __name__ == "__main__":
    main()
