"""No-op jobs through Celery, one worker process: python celery_jobs.py REDIS_URL JOBS.

Acknowledged late, as work that must not be lost is, through a queue of their own. Prints JSON: seconds to begin,
seconds to carry. The worker ends with it, whatever ends it.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from celery import Celery
from redis import Redis

# The worker is started from here, and told where.
URL = sys.argv[1] if __name__ == "__main__" else os.environ["BENCHMARK_REDIS_URL"]
DONE = "comanda-benchmark-celery-done"
QUEUE = "comanda-benchmark-celery"

app = Celery("celery_jobs", broker=URL)
app.conf.update(task_acks_late=True, task_ignore_result=True, worker_prefetch_multiplier=100, task_default_queue=QUEUE)
_redis = Redis.from_url(URL)


@app.task(name="nothing")
def nothing() -> None:
    _redis.incr(DONE)


def main() -> None:
    jobs = int(sys.argv[2])
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    _redis.delete(DONE, QUEUE)
    began = time.monotonic()
    with app.producer_pool.acquire(block=True) as producer:
        for _ in range(jobs):
            nothing.apply_async(producer=producer)
    begun = time.monotonic()
    command = [sys.executable, "-m", "celery", "-A", "celery_jobs", "worker", "--pool=prefork", "--concurrency=1",
               "--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel=ERROR"]  # fmt: skip
    environment = {**os.environ, "BENCHMARK_REDIS_URL": URL}
    worker = subprocess.Popen(command, env=environment, cwd=Path(__file__).resolve().parent)
    first = 0.0
    try:
        while (done := int(_redis.get(DONE) or 0)) < jobs:
            first = first or (time.monotonic() if done else 0.0)  # its start does not count
            time.sleep(0.01)
        carried = time.monotonic() - (first or begun)
    finally:
        worker.terminate()
        try:
            worker.wait(60)
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()
        _redis.delete(DONE, QUEUE)
    print(json.dumps({"begin": begun - began, "carry": carried}))


if __name__ == "__main__":
    main()
