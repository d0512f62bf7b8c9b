"""Durable no-op jobs, one worker process: Comanda's engine against Node's BullMQ and Celery, in turn.

    make peers; python benchmarks/queues.py [--runs 3] [--jobs 20000]

A job is a saga of one step that does nothing: stored in PostgreSQL, hinted at through Valkey, its history kept. All
jobs are queued first; what counts is how many a second one worker process then works off. BullMQ gets the same
Valkey (its append-only file is synced each second, as for ours) and the best of three concurrencies. Prints a JSON line
for each.
"""

import argparse
import sys
from pathlib import Path

from harness import comanda_up, report, say
from rivals import PYTHON, has_npm, has_python, spent, version

ENGINE = str(Path(__file__).with_name("engine_alone.py"))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--runs", type=int, default=3)
    arguments.add_argument("--jobs", type=int, default=20_000)
    asked = arguments.parse_args()
    has_bullmq, has_celery = has_npm("bullmq"), has_python()
    ours: list[float] = []
    bullmq: list[float] = []
    celery: list[float] = []
    with comanda_up("--workers", "1", GATEWAY="instant") as stand:
        command = [sys.executable, ENGINE, stand.database_url, stand.redis_url, str(asked.jobs), "1"]

        def of_bullmq(concurrency: int) -> float:
            took = spent(["node", "bullmq.mjs", stand.redis_url, str(asked.jobs), str(concurrency)])
            rate: float = asked.jobs / took["carry"]
            return rate

        best = 0
        if has_bullmq:
            rates = {concurrency: of_bullmq(concurrency) for concurrency in (50, 200, 500)}
            best = max(rates, key=lambda concurrency: rates[concurrency])
            say("BullMQ by concurrency", **{str(concurrency): round(rate) for concurrency, rate in rates.items()})
        for number in range(1, asked.runs + 1):
            ours.append(asked.jobs / spent(command)["carry"])
            if has_bullmq:
                bullmq.append(of_bullmq(best))
            if has_celery:
                jobs = asked.jobs // 10
                celery.append(jobs / spent([str(PYTHON), "celery_jobs.py", stand.redis_url, str(jobs)])["carry"])
            say(f"run {number}", ours=ours[-1], bullmq=bullmq[-1:], celery=celery[-1:])
    conditions = {"jobs": asked.jobs, "worker processes": 1}
    if bullmq:
        theirs = f"BullMQ {version('bullmq')} on Node {version('node')}, concurrency {best}"
        report("jobs_bullmq", ours, bullmq, 1.0, **conditions, reference=theirs)
    if celery:
        theirs = f"Celery {version('celery')}, prefork of 1, acks late"
        report("jobs_celery", ours, celery, 10, **conditions, reference=theirs)


if __name__ == "__main__":
    main()
