"""Orders accepted over HTTP, against pgbench with the same rows, and against the same handler without shared commits.

    python benchmarks/accept.py [--runs 3] [--seconds 8]

Prints three JSON lines: `accept` (64 connections of wrk against pgbench's one CTE at 32 clients), `accept_shared`
(against the same handler with a transaction for each request) and `accept_alone` (p50 of one client against that
handler's; here less is better). Workers and relay are stopped meanwhile: this is the way in alone.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from end_to_end import EMPTY
from harness import Stand, ask, comanda_up, nobody_working, pgbench, report, say, wrk


@contextmanager
def unshared_api(stand: Stand) -> Iterator[str]:
    """The same API with a transaction for each request."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    up = json.loads((stand.folder / "up.json").read_text())
    secrets = json.loads((stand.folder / "secrets.json").read_text())
    environment = {
        **os.environ,
        "COMANDA_RATE_LIMITS": "off",
        "COMANDA_LOG_LEVEL": "warning",
        "COMANDA_DATABASE_URL": up["databaseUrl"],
        "COMANDA_REDIS_URL": up["redisUrl"],
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
        process.terminate()
        process.wait(30)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--runs", type=int, default=3)
    arguments.add_argument("--seconds", type=float, default=8)
    asked = arguments.parse_args()
    ours, theirs, unshared, alone, unshared_alone = [], [], [], [], []
    with (
        comanda_up("--workers", "1", GATEWAY="instant", MAX_BACKLOG="500000") as stand,
        unshared_api(stand) as other,
        nobody_working(stand),
    ):
        wrk(stand, connections=64, seconds=3)
        wrk(stand, connections=64, seconds=3, url=other)
        for number in range(1, asked.runs + 1):
            before = stand.cpu()
            run = wrk(stand, connections=64, seconds=asked.seconds)
            spent = {name: round(1e6 * (used - before[name]) / run["requests"]) for name, used in stand.cpu().items()}
            say(f"run {number}: shared", **run)
            say("  CPU µs an order", **{name: used for name, used in spent.items() if used})
            ours.append(run["rate"])
            unshared.append(wrk(stand, connections=64, seconds=asked.seconds, url=other)["rate"])
            for _ in range(3):  # short runs in turn: this ratio is close to 1, and the machine's speed drifts
                alone.append(wrk(stand, connections=1, seconds=2)["p50"])
                unshared_alone.append(wrk(stand, connections=1, seconds=2, url=other)["p50"])
            theirs.append(pgbench(stand, seconds=asked.seconds))
            ask(stand, EMPTY)
            say(
                "  in turn",
                unshared=unshared[-1],
                pgbench=theirs[-1],
                alone=alone[-3:],
                alone_unshared=unshared_alone[-3:],
            )
    conditions = {"connections": 64, "lines": 2, "api processes": 1, "seconds": asked.seconds}
    report("accept", ours, theirs, 1.3, **conditions, reference="pgbench, one CTE, 32 clients")
    report("accept_shared", ours, unshared, 4, **conditions, reference="a transaction for each request")
    report(
        "accept_alone",
        alone,
        unshared_alone,
        1.1,
        connections=1,
        unit="ms, p50",
        reference="a transaction for each request",
    )


if __name__ == "__main__":
    main()
