"""How long an order takes while there is little to do, and how long a POST takes while the workers are at half load.

    python benchmarks/latency.py [--orders 200] [--runs 3] [--seconds 20] [--rate N]

Prints three JSON lines: from 202 to CONFIRMED on an idle system with the mock gateway over HTTP and no latency (p50 and
p99, by the machine's clock), and p99 of POST at half of the best sustained rate. The references are the goals
themselves, in ms: less is better.
"""

import argparse
import random
import time

from end_to_end import PARTS, best_rate, offered, reference, settle
from harness import Stand, ask, comanda_up, report, say, wrk

IDLE_GOALS = {"p50": 50, "p99": 200}
POST_GOAL = 100
CHANCE = random.Random(1)


def idle(stand: Stand, orders: int) -> dict[str, float]:
    """One order after the other, with pauses: p50 and p99 in ms."""
    began = ask(stand, "SELECT now() AS at")[0]["at"]
    for _ in range(orders):
        items = [{"productId": CHANCE.choice(stand.products), "quantity": 1}]
        stand.call("POST", "/orders", {"items": items, "paymentMethod": "pm_success"})
        time.sleep(CHANCE.uniform(0.1, 0.3))
    settle(stand)
    (row,) = ask(
        stand,
        "SELECT percentile_cont(ARRAY[0.5, 0.99])"
        " WITHIN GROUP (ORDER BY 1000 * extract(epoch FROM ended_at - created_at)) AS took,"
        " count(*) FILTER (WHERE state <> 'CONFIRMED') AS others FROM orders WHERE created_at > $1",
        began,
    )
    if row["others"]:
        raise SystemExit(f"{row['others']} orders were not confirmed")
    return {"p50": row["took"][0], "p99": row["took"][1]}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--orders", type=int, default=200)
    arguments.add_argument("--runs", type=int, default=3)
    arguments.add_argument("--seconds", type=float, default=20)
    arguments.add_argument("--rate", type=float, help="the best sustained rate, where it is known")
    asked = arguments.parse_args()
    settings = {"GATEWAY_LATENCY_MS": "0", "GATEWAY_OUTCOMES": "100/0/0"}
    taken: dict[str, list[float]] = {"p50": [], "p99": []}
    with comanda_up("--workers", "1", GATEWAY="mock", **settings) as stand:
        wrk(stand, connections=16, seconds=3, pause_ms=50)
        settle(stand)
        for number in range(1, asked.runs + 1):
            found = idle(stand, asked.orders)
            say(f"idle, run {number}", **found)
            for name, values in taken.items():
                values.append(found[name])
    for name, values in taken.items():
        report(
            f"idle_{name}", values, [IDLE_GOALS[name]] * len(values), 1.0,
            unit="ms from 202 to CONFIRMED", orders=asked.orders, gateway="mock, 0 ms", reference="the goal",
        )  # fmt: skip
    with comanda_up("--workers", "1", GATEWAY="instant") as stand:
        wrk(stand, connections=16, seconds=3, pause_ms=50)
        settle(stand)
        best = asked.rate or best_rate(stand, [reference(stand, 5) * part for part in PARTS])
        posts = [offered(stand, best / 2, asked.seconds)["post_p99_ms"] for _ in range(asked.runs)]
    report(
        "post_at_half_load", posts, [POST_GOAL] * len(posts), 1.0,
        unit="ms, p99 of POST", rate=round(best / 2), reference="the goal",
    )  # fmt: skip


if __name__ == "__main__":
    main()
