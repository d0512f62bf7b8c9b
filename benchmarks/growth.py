"""A shop with many orders behind it against one with few: rates, plans of the hot statements, memory of each process.

    python benchmarks/growth.py [--orders 10000000] [--few 10000] [--runs 5] [--seconds 12] [--waiting 1000000]
                                [--through 1000000]

Both are filled with the rows of finished orders (benchmarks/doctor.sql), 50,000 a day: orders, lines, moves, sagas,
reservations, movements, payments and messages of all, events, attempts and mails of 28 days, keys of two; half an
hour and sixty gigabytes for ten million. The large one has a million sagas besides that wait for a retry. Then, in
turn on each, every process of the other one stopped meanwhile (its autovacuum would be counted here): orders are
accepted for some seconds while workers and relay are stopped, and then finished as fast as they can be. A table of
ten million is vacuumed seldom and for half a minute, so single runs differ: the median of several counts. At last
`--through` orders go through a new shop, and the memory of each process is read. Prints a JSON line for each of the
two rates, for the hot statements that read no large table from end to end, and for the memory. `make bench-growth`
keeps them for the page.
"""

import argparse
import asyncio
import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import doctor
import psutil
from end_to_end import CONNECTIONS, settle
from harness import Stand, ask, comanda_up, nobody_working, report, say, wrk

from comanda.db import Database
from comanda.db.statements import Twin
from comanda.proof import plans

MEMORY = 200  # MiB, of each process
_sql = Twin(Path(__file__).with_suffix(".sql"))


async def read_whole(url: str) -> Mapping[str, str]:
    """What each hot statement would read from end to end, tables or indexes: nothing, in most cases."""
    database = await Database.open(url, name="plans")
    async with database.connection() as tx:
        read = {name: plans.read_whole(plan) for name, plan in (await plans.of_all(tx)).items()}
    await database.close()
    return {name: ", ".join(whole) for name, whole in read.items()}


def rows(stand: Stand) -> dict[str, int]:
    """How many the largest tables hold, as VACUUM counted them."""
    return {row["name"]: row["rows"] for row in ask(stand, _sql["rows"].text)}


def filled(stand: Stand, orders: int) -> None:
    asyncio.run(doctor.fill(stand.database_url, stand.folder, orders))


def settled(stand: Stand) -> None:
    """What filling has left to do is done: it is no part of what a large shop costs."""
    ask(stand, "CHECKPOINT")
    while ask(stand, _sql["vacuums"].text)[0]["n"]:
        time.sleep(1)


def rates(stand: Stand, seconds: float) -> tuple[float, float]:
    """Accepted a second with nobody working on them, then finished a second."""
    with nobody_working(stand):
        accepted = wrk(stand, connections=64, seconds=seconds)
    began = time.monotonic()
    settle(stand)
    return accepted["rate"], (accepted["requests"] - accepted["non2xx"]) / (time.monotonic() - began)


def memory(stand: Stand) -> dict[str, int]:
    """MiB of each process but PostgreSQL's, what it shares with others left out where the system tells."""
    return {
        name: round(psutil.Process(pid).memory_full_info().uss / 2**20)
        for name, pid in stand.processes.items()
        if name != "postgres"
    }


@contextmanager
def at_rest(stand: Stand) -> Iterator[None]:
    """Every process of that shop is stopped meanwhile, PostgreSQL's with its autovacuum too."""
    heads = [psutil.Process(pid) for pid in stand.processes.values()]
    family = [one for head in heads for one in (head, *head.children(recursive=True))]
    try:
        for one in family:
            with suppress(psutil.NoSuchProcess):
                one.suspend()
        yield
    finally:
        for one in family:
            with suppress(psutil.NoSuchProcess):
                one.resume()


def pushed_through(stand: Stand, orders: int, rate: float) -> int:
    """So many orders accepted and finished, in portions of a minute at a rate that is sustained."""
    began, done = time.monotonic(), 0
    while done < orders:
        load = wrk(stand, connections=CONNECTIONS, seconds=60, pause_ms=max(1, round(1000 * CONNECTIONS / rate)))
        done += int(load["requests"] - load["non2xx"])
        settle(stand)
        say(f"{done:,} orders through", seconds=round(time.monotonic() - began), **memory(stand))
    return done


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--orders", type=int, default=10_000_000)
    arguments.add_argument("--few", type=int, default=10_000)
    arguments.add_argument("--runs", type=int, default=5)
    arguments.add_argument("--seconds", type=float, default=12)
    arguments.add_argument("--waiting", type=int, default=1_000_000)
    arguments.add_argument("--through", type=int, default=1_000_000)
    asked = arguments.parse_args()
    settings = {"GATEWAY": "instant", "MAX_BACKLOG": "500000", "CHECK_SECONDS": "0"}
    found: dict[str, list[tuple[float, float]]] = {"few": [], "many": []}
    with comanda_up("--workers", "1", **settings) as few, comanda_up("--workers", "1", **settings) as many:
        filled(few, asked.few)
        filled(many, asked.orders)
        ask(many, _sql["waiting"].text, asked.waiting)
        ask(many, _sql["vacuum"].text)
        stored = rows(many)
        size = ask(many, "SELECT pg_database_size(current_database()) AS n")[0]["n"]
        stands = {"few": few, "many": many}
        for stand in stands.values():
            settled(stand)
        others = {"few": many, "many": few}
        for name, stand in stands.items():
            with at_rest(others[name]):
                rates(stand, 3)
        for number in range(1, asked.runs + 1):
            for name, stand in stands.items():
                with at_rest(others[name]):
                    found[name].append(rates(stand, asked.seconds))
            say(f"run {number}", **{name: str(runs[-1]) for name, runs in found.items()})
        read = asyncio.run(read_whole(many.database_url))
    scans = {name: whole for name, whole in read.items() if whole}
    conditions = {
        "orders": asked.orders,
        "few": asked.few,
        "waiting": asked.waiting,
        "gib": round(size / 2**30, 1),
    }
    rate = 0.8 * statistics.median(run[1] for run in found["many"])
    for at, name in enumerate(("growth_accept", "growth_finish")):
        values, references = ([run[at] for run in found[which]] for which in ("many", "few"))
        with_few = f"the same with {asked.few:,} orders stored"
        report(name, values, references, 0.9, **conditions, rows=stored, reference=with_few)
    report(
        "growth_plans", [len(read) - len(scans)], [len(read)], 1, **conditions,
        read_from_end_to_end="; ".join(f"{name}: {whole}" for name, whole in scans.items()) or "none",
        reference="all hot statements",
    )  # fmt: skip
    # In a shop of its own: the large one has left no room on the disk.
    with comanda_up("--workers", "1", **settings) as stand:
        through = pushed_through(stand, asked.through, rate)
        used = memory(stand)
    report(
        "growth_memory", [max(used.values())], [MEMORY], 1, unit="MiB", through=through, mib=used,
        reference="what a process may take",
    )  # fmt: skip


if __name__ == "__main__":
    main()
