"""Orders accepted over HTTP, against pgbench with the same rows, and against the same handler without shared commits.

    python benchmarks/accept.py [--runs 3] [--seconds 8]

Prints three JSON lines: `accept` (64 connections of wrk against pgbench's one CTE at 32 clients), `accept_shared`
(against the same handler with a transaction for each request) and `accept_alone` (p50 of one client against that
handler's; here less is better). Workers and relay are stopped meanwhile: this is the way in alone. All are warmed
first, each finds the tables empty, and who is first changes from run to run.
"""

import argparse
import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import programs
from end_to_end import EMPTY
from harness import Stand, ask, comanda_up, nobody_working, pgbench, report, say, wrk


@contextmanager
def unshared_api(stand: Stand) -> Iterator[str]:
    """The same API with a transaction for each request."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    secrets = json.loads((stand.folder / "secrets.json").read_text())
    environment = {
        **programs.clean(),
        "COMANDA_RATE_LIMITS": "off",
        "COMANDA_LOG_LEVEL": "warning",
        "COMANDA_DATABASE_URL": stand.database_url,
        "COMANDA_REDIS_URL": stand.redis_url,
        "COMANDA_GATEWAY": "instant",
        "COMANDA_MAX_BACKLOG": "500000",
        "COMANDA_SECRET_KEY": secrets["secretKey"],
    }
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("unshared_api.py")), str(port)], env=environment
    )
    url = f"http://127.0.0.1:{port}"
    try:
        while True:
            if process.poll() is not None:
                sys.exit("the API without shared commits did not start")
            try:
                urllib.request.urlopen(f"{url}/api/v1/health/ready", timeout=1).read()
                break
            except OSError:
                time.sleep(0.1)
        yield url
    finally:
        programs.end(process)


def in_turn(names: Iterable[str], number: int) -> list[str]:
    """Who is first changes: what a run leaves to the next one, and the drift of the machine, cancel out."""
    return list(names) if number % 2 else list(names)[::-1]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--runs", type=int, default=3)
    arguments.add_argument("--seconds", type=float, default=8)
    asked = arguments.parse_args()
    rates: dict[str, list[float]] = {"shared": [], "unshared": [], "pgbench": []}
    alone: dict[str, list[float]] = {"shared": [], "unshared": []}
    with (
        comanda_up("--workers", "1", GATEWAY="instant", MAX_BACKLOG="500000") as stand,
        unshared_api(stand) as other,
        nobody_working(stand),
    ):
        urls = {"shared": stand.api, "unshared": other}

        def rate(name: str, seconds: float) -> float:
            ask(stand, EMPTY)
            if name == "pgbench":
                return pgbench(stand, seconds=seconds)
            before = stand.cpu()
            run = wrk(stand, connections=64, seconds=seconds, url=urls[name])
            spent = {name: round(1e6 * (used - before[name]) / run["requests"]) for name, used in stand.cpu().items()}
            say(f"  {name}", **run)
            say("  CPU µs an order", **{name: used for name, used in spent.items() if used})
            return run["rate"]

        for name in rates:
            rate(name, 3)
        for number in range(1, asked.runs + 1):
            say(f"run {number}")
            for name in in_turn(rates, number):
                rates[name].append(rate(name, asked.seconds))
            ask(stand, EMPTY)
            for pair in range(3):  # short runs in turn: this ratio is close to 1, and the machine's speed drifts
                for name in in_turn(alone, number + pair):
                    alone[name].append(wrk(stand, connections=1, seconds=2, url=urls[name])["p50"])
            say("  alone, p50 in ms", **{name: p50[-3:] for name, p50 in alone.items()}, pgbench=rates["pgbench"][-1])
        ask(stand, EMPTY)
    conditions = {"connections": 64, "lines": 2, "api processes": 1, "seconds": asked.seconds}
    ours = rates["shared"]
    report("accept", ours, rates["pgbench"], 1.3, **conditions, reference="pgbench, one CTE, 32 clients")
    report("accept_shared", ours, rates["unshared"], 4, **conditions, reference="a transaction for each request")
    report(
        "accept_alone",
        alone["shared"],
        alone["unshared"],
        1.1,
        connections=1,
        unit="ms, p50",
        reference="a transaction for each request",
    )


if __name__ == "__main__":
    main()
