"""Every route that users of the public system of this design expect, with the rights that its row says (FEATURES 4)."""

import ast
import re
from pathlib import Path

import aiohttp

from api_client import Client

P, U, A = "anybody", "signed in", "admin"
ROUTES = [
    ("POST", "auth/register", P), ("POST", "auth/login", P), ("POST", "auth/refresh", P), ("GET", "auth/profile", U),
    ("GET", "auth/me", U), ("POST", "auth/logout", U), ("POST", "auth/logout-everywhere", U),
    ("POST", "auth/verify-email", P), ("POST", "auth/verify-email/resend", U), ("POST", "auth/forgot-password", P),
    ("POST", "auth/reset-password", P), ("POST", "auth/change-password", U),
    ("POST", "users", A), ("GET", "users", A), ("GET", "users/profile", U), ("GET", "users/{user_id}", A),
    ("PATCH", "users/{user_id}", A), ("DELETE", "users/{user_id}", A), ("PATCH", "users/{user_id}/activate", A),
    ("POST", "products", A), ("GET", "products", P), ("GET", "products/search", P), ("GET", "products/{product_id}", P),
    ("PATCH", "products/{product_id}", A), ("DELETE", "products/{product_id}", A),
    ("PATCH", "products/{product_id}/activate", A), ("PATCH", "products/{product_id}/deactivate", A),
    ("POST", "categories", A), ("GET", "categories", P), ("GET", "categories/tree", P),
    ("GET", "categories/slug/{slug}", P), ("GET", "categories/{category_id}", P),
    ("GET", "categories/{category_id}/descendants", P), ("GET", "categories/{category_id}/path", P),
    ("PUT", "categories/{category_id}", A), ("PATCH", "categories/{category_id}/activate", A),
    ("PATCH", "categories/{category_id}/deactivate", A), ("DELETE", "categories/{category_id}", A),
    ("POST", "inventory", A), ("POST", "inventory/check-availability", P), ("POST", "inventory/reserve", A),
    ("GET", "inventory/reservations/{reservation_id}", A), ("PUT", "inventory/release-reservation", A),
    ("PUT", "inventory/fulfill-reservation", A), ("POST", "inventory/add-stock", A),
    ("POST", "inventory/remove-stock", A), ("GET", "inventory/product/{product_id}", P), ("GET", "inventory", P),
    ("GET", "inventory/low-stock", P), ("GET", "inventory/out-of-stock", P), ("GET", "inventory/stats", A),
    ("POST", "orders", U), ("GET", "orders", U), ("GET", "orders/{order_id}", U),
    ("GET", "orders/{order_id}/status", U),
    ("GET", "health", P), ("GET", "health/live", P), ("GET", "health/ready", P), ("GET", "health/detailed", P),
]  # fmt: skip
QUERIES = {
    "users": {"search", "status", "page", "limit", "sortBy", "sortOrder"},
    "products": {
        "search", "brand", "status", "minPrice", "maxPrice", "onSale", "tags", "page", "limit", "sortBy", "sortOrder",
    },
    "inventory": {"productId", "location", "status", "minStock", "maxStock", "search", "page", "limit"},
}  # fmt: skip
TESTS = Path(__file__).parents[1]
# Each defect of the public system (FEATURES 3), and the test that would find it here.
DEFECTS = {
    "the outbox is bypassed after the commit: orders are lost when Redis is down":
        "test_kill_9_of_each_process_and_flushall_lose_nothing_and_charge_nobody_twice",
    "an idempotency key is checked, then inserted": "test_fifty_orders_under_one_key_at_two_processes_are_one",
    "an open circuit is retried for 90 seconds": "test_while_open_nobody_passes_until_the_probe_is_due",
    "errors of compensations are swallowed": "test_a_compensation_that_fails_is_stuck_said_and_redriven",
    "money in floats, sleeps in tests, a saga of 700 lines": "test_the_rule_holds",
    "stock is never deducted": "test_an_order_of_two_lines_is_paid_and_taken_from_the_stock",
    "reservations never expire": "test_of_expiry_and_the_order_exactly_one_ends_a_reservation",
    "an order with two lines can't be reserved": "test_an_order_of_two_lines_is_confirmed",
    "a failed reserve leaves the others held": "test_out_of_stock_ends_cancelled_and_the_customer_is_told",
    "the refund is unreachable": "test_fifty_refunds_at_once_never_pass_the_capture",
    "a declined payment is tried again": "test_a_decline_is_never_tried_again",
    "no key reaches the gateway: a crash charges twice": "test_a_crash_there_loses_nothing",
    "another customer's key returns that customer's order": "test_a_key_belongs_to_one_body_of_one_customer",
    "the same key with another body returns the old order": "test_a_key_belongs_to_one_body_of_one_customer",
    "two equal orders on one day are swallowed": "test_equal_orders_without_a_key_are_orders_of_their_own",
    "two relays publish twice": "test_two_relays_share_the_work_and_repeat_nothing",
    "only OrderCreated is ever published": "test_an_order_is_watched_from_its_beginning_to_its_end",
    "no business metric is ever incremented": "test_the_business_metrics_count_what_ended",
    "dead letters are a log line": "test_dead_letters_are_gathered_and_sent_round_by_one_by_five_and_all",
    "repeated product lines are refused": "test_a_product_that_is_named_twice_is_ordered_in_one_line",
    "the saga row is written outside the order's transaction": "test_a_crash_there_loses_nothing",
    "payments live in memory":
        "test_kill_9_of_the_supervisor_takes_all_with_it_and_the_next_start_ends_the_orders",
    "a limit of 10 requests/min while clients are told to poll":
        "test_each_account_has_its_own_and_orders_and_polling_are_counted_apart",
    "no domain model": "test_each_contract_is_broken_by_a_violation_of_its_own",
    "no unit of work": "test_the_rule_holds",
    "domain and integration events mixed": "test_an_event_leaves_as_json_in_one_field",
    "correlation ids don't reach jobs": "test_a_correlation_id_goes_with_the_order",
    "any signed-in user may move anybody's stock": "test_who_may_what_is_judged_before_anything_else",
    "logout does nothing": "test_logging_out_ends_the_family",
    "refresh tokens are not rotated": "test_a_refresh_token_is_good_once_and_its_reuse_ends_the_family",
    "a failed job counts as done": "test_a_poisoned_saga_fails_alone_and_is_undone_in_reverse",
    "three of the four queues never get work": "test_all_four_queues_work_and_count",
}  # fmt: skip


async def test_every_route_is_there_with_its_rights(api: Client) -> None:
    paths = (await api.get("/api/openapi.json")).body["paths"]
    for method, path, who in ROUTES:
        operation = paths[f"/api/v1/{path}"][method.lower()]
        assert ("security" in operation) == (who != P), (method, path)
        # Where the setting asks for a verified e-mail, an order is refused to whoever has none. Deleted products are
        # shown to admins alone.
        is_refused = who == A or (method, path) in {("POST", "orders"), ("GET", "products")}
        assert ("403" in operation["responses"]) == is_refused, (method, path)
    assert "202" in paths["/api/v1/orders"]["post"]["responses"]
    for path, names in QUERIES.items():
        assert names <= {one["name"] for one in paths[f"/api/v1/{path}"]["get"]["parameters"]}, path


async def test_metrics_are_for_anybody_and_queues_for_operators(api: Client) -> None:
    await api.person("admin")
    assert "queue_length" in (await api.get("/metrics")).body
    async with aiohttp.ClientSession() as session, session.get(f"{api.url}/admin/queues") as asked:
        assert asked.url.path == "/admin/login", "nobody is signed in"


def test_each_defect_of_the_public_system_has_a_test() -> None:
    known = {
        node.name
        for path in TESTS.rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert {defect: name for defect, name in DEFECTS.items() if name not in known} == {}


async def test_a_method_that_a_path_does_not_have_is_a_405_though_another_path_would_take_it(api: Client) -> None:
    admin = await api.person("admin")
    for method, path in (("PATCH", "products/search"), ("PATCH", "users/profile"), ("PUT", "categories/tree")):
        reply = await api.ask(method, f"/api/v1/{path}", token=admin.token, json={})
        assert (reply.status, reply.headers["Allow"]) == (405, "GET, HEAD"), (method, path)


async def test_links_name_what_is_there(api: Client) -> None:
    """Each leads to an operation, gives it all of its path, and takes that from a field that the answer has."""
    document = (await api.get("/api/openapi.json")).body
    schemas = document["components"]["schemas"]
    operations = {one["operationId"]: one for path in document["paths"].values() for one in path.values()}
    found: set[tuple[str, str]] = set()
    for path, methods in document["paths"].items():
        for operation in methods.values():
            for answer in operation["responses"].values():
                for link in answer.get("links", {}).values():
                    target = operations[link["operationId"]]
                    needed = {one["name"] for one in target.get("parameters", ()) if one["in"] == "path"}
                    assert link.get("parameters", {}).keys() == needed
                    content = answer["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
                    for pointer in re.findall(r"\$response\.body#/(\w+)", str(link)):
                        assert pointer in schemas[content]["required"], (path, link)
                    found.add((path.removeprefix("/api/v1"), target["summary"]))
    way = [("/products", "Create"), ("/inventory", "Place"), ("/orders", "Status"), ("/orders", "Ship"),
           ("/orders", "Refund"), ("/orders/{order_id}/refunds", "One Refund")]  # fmt: skip
    assert set(way) <= found
