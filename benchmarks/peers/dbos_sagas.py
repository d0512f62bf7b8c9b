"""Workflows of so many steps in DBOS, in one process: python dbos_sagas.py DATABASE_URL WORKFLOWS STEPS.

They go through DBOS' own queue. Prints JSON: seconds to begin and carry them, as one.
"""

import json
import sys
import time

from dbos import DBOS


@DBOS.step()
def step(number: int) -> int:
    return number


@DBOS.workflow()
def workflow(steps: int) -> int:
    return sum(step(number) for number in range(steps))


def main() -> None:
    database_url, workflows, steps = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    DBOS(config={"name": "benchmark", "system_database_url": database_url, "run_admin_server": False,
                 "log_level": "ERROR"})  # fmt: skip
    DBOS.launch()
    queue = DBOS.register_queue("benchmark", polling_interval_sec=0.05)
    began = time.monotonic()
    handles = [queue.enqueue(workflow, steps) for _ in range(workflows)]
    for handle in handles:
        handle.get_result()
    print(json.dumps({"begin": 0.0, "carry": time.monotonic() - began}))
    DBOS.destroy()


if __name__ == "__main__":
    main()
