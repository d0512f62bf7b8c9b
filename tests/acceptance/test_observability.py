"""What operators see: metrics, logs, correlation ids."""

import asyncio
import json
import re
from typing import Any

import redis.asyncio

import promql
from up import Up, Visitor, basket, eventually, lines_of

QUEUES = ("order-processing", "payment-processing", "inventory-management", "notification-sending")


async def events(up: Up) -> list[dict[str, Any]]:
    """What the relay published for other systems."""
    client = redis.asyncio.Redis.from_url(up.facts["redisUrl"])
    try:
        found: Any = await client.xrange("comanda:events")
    finally:
        await client.aclose()
    return [json.loads(fields[b"event"]) for _, fields in found]


async def test_the_business_metrics_count_what_ended(up: Up, admin: Visitor) -> None:
    product = await admin.product()
    methods = ["pm_success"] * 5 + ["pm_decline_CVV_FAILED"] * 2
    await admin.ended(*[await admin.order(product, method=method) for method in methods])
    await admin.all_ended()
    # Confirmed once, whatever became of it since; cancelled, some after that.
    sold = len(await admin.orders("CONFIRMED", "SHIPPED", "DELIVERED", "REFUNDED"))
    gone = len(await admin.orders("CANCELLED"))
    assert sold >= 5
    assert gone >= 2

    async def agrees() -> bool:
        found, told = await up.metrics(), [one["type"] for one in await events(up)]
        confirmed, cancelled = told.count("OrderConfirmed"), told.count("OrderCancelled")
        return (
            confirmed >= sold
            and cancelled == gone
            and found.get('orders_processed_total{status="CONFIRMED"}') == confirmed
            and found.get('orders_processed_total{status="CANCELLED"}') == cancelled
            and found.get("order_processing_duration_seconds_count") == confirmed + cancelled
        )

    await eventually(agrees, 20)


async def test_queues_and_requests_are_measured(up: Up, admin: Visitor) -> None:
    order_id = await admin.order(await admin.product())
    await admin.ended(order_id)

    async def are_there() -> bool:
        found = await up.metrics()
        return all(
            f'queue_length{{queue="{queue}"}}' in found
            and found.get(f'queue_jobs_completed_total{{queue="{queue}"}}', 0)
            for queue in QUEUES
        )

    await eventually(are_there, 20)
    found = await up.metrics()
    for method, endpoint in [
        ("POST", "/api/v1/orders"),
        ("GET", "/api/v1/orders/{order_id}/status"),
        ("POST", "/api/v1/auth/login"),
    ]:
        assert found[f'http_request_duration_seconds_count{{endpoint="{endpoint}",method="{method}"}}'] >= 1
    assert not [name for name in found if order_id in name]


async def test_every_metric_of_rules_and_dashboards_is_there_after_a_load(up: Up, admin: Visitor) -> None:
    order_id = await admin.order(await admin.product())
    await admin.ended(order_id)
    used: set[str] = set(promql.metrics_used())

    async def are_there() -> bool:
        return used <= {name.partition("{")[0] for name in await up.metrics()}

    try:
        await eventually(are_there, 20)
    except TimeoutError:
        missing = used - {name.partition("{")[0] for name in await up.metrics()}
        raise AssertionError(missing) from None
    found = await up.metrics()
    assert found['database_pool_used_ratio{pool="main"}'] <= 1
    assert {name for name in found if re.search(r"[0-9a-f]{8}-[0-9a-f]{4}-", name)} == set(), "no ids in labels"


async def test_the_invariants_are_a_metric(up: Up) -> None:
    async def are_there() -> bool:
        found = await up.metrics()
        checks = [name for name in found if name.startswith("comanda_invariant_violations")]
        return len(checks) >= 20 and all(found[name] == 0 for name in checks)

    await eventually(are_there, 20)


async def test_a_correlation_id_goes_with_the_order(up: Up, admin: Visitor) -> None:
    mine = "ticket-4711"
    reply = await admin.ask("POST", "/orders", basket(await admin.product()), X_Correlation_Id=mine)
    assert reply.headers["X-Correlation-Id"] == mine
    order_id = reply.body["orderId"]
    await admin.ended(order_id)
    assert (await admin.get(f"/orders/{order_id}"))["correlationId"] == mine
    found: list[dict[str, Any]] = []

    async def is_published() -> bool:
        found[:] = [one for one in await events(up) if one["correlationId"] == mine]
        return "OrderConfirmed" in {one["type"] for one in found}

    await eventually(is_published)
    kinds = ["OrderCreated", "InventoryReserved", "PaymentInitiated", "PaymentProcessed", "ReservationConfirmed"]
    assert [one["type"] for one in found] == [*kinds, "OrderConfirmed"]
    (end,) = [line for line in lines_of(up.printed()) if line.get("correlationId") == mine and "orderId" in line]
    assert (end["orderId"], end["userId"], end["status"]) == (order_id, admin.id, "CONFIRMED")
    assert end["process"] == "relay"
    assert {one["data"]["orderId"] for one in found if one["aggregateType"] != "order"} == {order_id}


async def test_each_event_is_a_line_of_json(up: Up, admin: Visitor) -> None:
    await admin.ask("GET", "/orders?cursor=%0Aevil", X_Correlation_Id="on-one-line")

    def is_logged() -> bool:
        return "on-one-line" in up.printed()

    await eventually(is_logged)
    lines = lines_of(up.printed())
    (one,) = [line for line in lines if line.get("correlationId") == "on-one-line"]
    assert (one["context"], one["method"], one["status"]) == ("http", "GET", 422)
    assert one["durationMs"] > 0
    assert {line["process"] for line in lines} >= {"api-1", "gateway"}


async def test_no_secret_is_logged(up: Up) -> None:
    admin = await up.signed_in()
    token = admin.headers["Authorization"].removeprefix("Bearer ")
    secrets = json.loads((up.folder / "secrets.json").read_text())
    printed = up.printed()
    shown = [
        name for name, value in {**secrets, "token": token, "password": "correct horse"}.items() if value in printed
    ]
    assert not shown


async def test_probes_answer(admin: Visitor) -> None:
    live, ready, health, detailed = await asyncio.gather(
        *(admin.get(f"/health{path}") for path in ("/live", "/ready", "", "/detailed"))
    )
    assert {live["status"], ready["status"], health["status"], detailed["status"]} == {"up"}
    assert detailed["pool"]["limit"] >= 10
    assert {one["queue"] for one in detailed["queues"]} == set(QUEUES)
