"""Who may what: every operation with every role, and every customer's things with another customer."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import uuid4

from fastapi.routing import APIRoute

from api_client import Client
from comanda.api import app, examples
from comanda.api.security import Route

NOBODY = "01900000-0000-7000-8000-000000000000"

# method, path, who may: `admin`, `staff`, `signed in`; and a status that a good token gets for an empty request.
GUARDED = [
    ("POST", "/api/v1/products", "admin"),
    ("PATCH", f"/api/v1/products/{NOBODY}", "admin"),
    ("DELETE", f"/api/v1/products/{NOBODY}", "admin"),
    ("PATCH", f"/api/v1/products/{NOBODY}/activate", "admin"),
    ("PATCH", f"/api/v1/products/{NOBODY}/deactivate", "admin"),
    ("GET", "/api/v1/products?status=deleted", "admin"),
    ("POST", "/api/v1/categories", "admin"),
    ("PUT", f"/api/v1/categories/{NOBODY}", "admin"),
    ("DELETE", f"/api/v1/categories/{NOBODY}", "admin"),
    ("PATCH", f"/api/v1/categories/{NOBODY}/activate", "admin"),
    ("PATCH", f"/api/v1/categories/{NOBODY}/deactivate", "admin"),
    ("GET", "/api/v1/users", "admin"),
    ("POST", "/api/v1/users", "admin"),
    ("GET", "/api/v1/users/profile", "signed in"),
    ("GET", f"/api/v1/users/{NOBODY}", "admin"),
    ("PATCH", f"/api/v1/users/{NOBODY}", "admin"),
    ("DELETE", f"/api/v1/users/{NOBODY}", "admin"),
    ("PATCH", f"/api/v1/users/{NOBODY}/activate", "admin"),
    ("PATCH", f"/api/v1/users/{NOBODY}/deactivate", "admin"),
    ("POST", "/api/v1/inventory", "admin"),
    ("POST", "/api/v1/inventory/add-stock", "admin"),
    ("POST", "/api/v1/inventory/remove-stock", "admin"),
    ("GET", "/api/v1/inventory/stats", "admin"),
    ("POST", "/api/v1/inventory/reserve", "admin"),
    ("GET", f"/api/v1/inventory/reservations/{NOBODY}", "admin"),
    ("PUT", "/api/v1/inventory/release-reservation", "admin"),
    ("PUT", "/api/v1/inventory/fulfill-reservation", "admin"),
    ("GET", "/api/v1/inventory/movements", "staff"),
    ("POST", "/api/v1/imports", "admin"),
    ("GET", "/api/v1/imports", "admin"),
    ("GET", f"/api/v1/imports/{NOBODY}", "admin"),
    ("GET", f"/api/v1/imports/{NOBODY}/rejections", "admin"),
    ("POST", f"/api/v1/imports/{NOBODY}/cancel", "admin"),
    ("POST", "/api/v1/webhooks", "admin"),
    ("GET", "/api/v1/webhooks", "admin"),
    ("GET", f"/api/v1/webhooks/{NOBODY}", "admin"),
    ("PATCH", f"/api/v1/webhooks/{NOBODY}", "admin"),
    ("DELETE", f"/api/v1/webhooks/{NOBODY}", "admin"),
    ("POST", f"/api/v1/webhooks/{NOBODY}/rotate-secret", "admin"),
    ("POST", f"/api/v1/webhooks/{NOBODY}/test", "admin"),
    ("POST", f"/api/v1/webhooks/{NOBODY}/redeliver", "admin"),
    ("GET", f"/api/v1/webhooks/{NOBODY}/deliveries", "admin"),
    ("GET", f"/api/v1/webhooks/{NOBODY}/deliveries/{NOBODY}", "admin"),
    ("POST", f"/api/v1/webhooks/{NOBODY}/deliveries/{NOBODY}/redeliver", "admin"),
    ("GET", "/api/v1/mailbox", "staff"),
    ("POST", "/api/v1/orders", "signed in"),
    ("GET", "/api/v1/orders", "signed in"),
    ("GET", f"/api/v1/orders/{NOBODY}", "signed in"),
    ("GET", f"/api/v1/orders/{NOBODY}/status", "signed in"),
    ("GET", f"/api/v1/orders/{NOBODY}/events", "signed in"),
    ("POST", f"/api/v1/orders/{NOBODY}/cancel", "signed in"),
    ("POST", f"/api/v1/orders/{NOBODY}/shipments", "operator"),
    ("GET", f"/api/v1/orders/{NOBODY}/shipments", "signed in"),
    ("PATCH", f"/api/v1/orders/{NOBODY}/shipments/{NOBODY}/deliver", "operator"),
    ("POST", f"/api/v1/orders/{NOBODY}/refunds", "operator"),
    ("GET", f"/api/v1/orders/{NOBODY}/refunds", "signed in"),
    ("GET", f"/api/v1/orders/{NOBODY}/refunds/{NOBODY}", "signed in"),
    ("POST", f"/api/v1/orders/{NOBODY}/returns", "operator"),
    ("POST", f"/api/v1/orders/{NOBODY}/notes", "operator"),
    ("GET", "/api/v1/auth/me", "signed in"),
    ("GET", "/api/v1/auth/profile", "signed in"),
    ("POST", "/api/v1/auth/logout", "signed in"),
    ("POST", "/api/v1/auth/change-password", "signed in"),
    ("POST", "/api/v1/auth/verify-email/resend", "signed in"),
    ("POST", "/api/v1/auth/logout-everywhere", "signed in"),
]
# method, path: whoever asks is answered.
PUBLIC = [
    ("POST", "/api/v1/auth/register"),
    ("POST", "/api/v1/auth/login"),
    ("POST", "/api/v1/auth/refresh"),
    ("POST", "/api/v1/auth/verify-email"),
    ("POST", "/api/v1/auth/forgot-password"),
    ("POST", "/api/v1/auth/reset-password"),
    ("GET", "/api/v1/products"),
    ("GET", "/api/v1/products/search?q=x"),
    ("GET", f"/api/v1/products/{NOBODY}"),
    ("GET", "/api/v1/categories"),
    ("GET", "/api/v1/categories/tree"),
    ("GET", "/api/v1/categories/slug/nothing"),
    ("GET", f"/api/v1/categories/{NOBODY}"),
    ("GET", f"/api/v1/categories/{NOBODY}/descendants"),
    ("GET", f"/api/v1/categories/{NOBODY}/path"),
    ("GET", "/api/v1/inventory"),
    ("POST", "/api/v1/inventory/check-availability"),
    ("GET", f"/api/v1/inventory/product/{NOBODY}"),
    ("GET", "/api/v1/inventory/low-stock"),
    ("GET", "/api/v1/inventory/out-of-stock"),
    ("GET", "/api/v1/health"),
    ("GET", "/api/v1/health/live"),
    ("GET", "/api/v1/health/ready"),
    ("GET", "/api/v1/health/detailed"),
    ("GET", "/api/v1/problems/sku-taken"),
    ("GET", "/metrics"),
]
BESIDE_THE_DOCUMENT = ["/api/openapi.json", "/api/docs"]
# What is guarded in one case only: its operation stands among the public ones.
SOMETIMES = "?status=deleted"

Operation = tuple[str, str]


async def test_who_may_what_is_judged_before_anything_else(api: Client) -> None:
    people = {role: await api.person(role) for role in ("customer", "viewer", "operator", "admin")}
    may = {
        "admin": {"admin"},
        "operator": {"admin", "operator"},
        "staff": {"admin", "operator", "viewer"},
        "signed in": set(people),
    }
    # What each is sent is wrong in itself, so that the order of judgement shows.
    wrong: dict[str, Any] = {"data": b"{]", "headers": {"Content-Type": "application/json"}}
    for method, path, who in GUARDED:
        sent = wrong if method != "GET" else {}
        assert (path, (await api.ask(method, path, **sent)).status) == (path, 401)
        for role, person in people.items():
            reply = await api.ask(method, path, token=person.token, **sent)
            if role in may[who]:
                assert reply.status not in {401, 403}, (method, path, role, reply)
            else:
                assert (method, path, role, reply.status) == (method, path, role, 403)
                assert reply.body["code"] == "FORBIDDEN"


async def test_a_wrong_path_id_is_judged_after_the_role(api: Client) -> None:
    customer, admin = await api.person(), await api.person("admin")
    path = "/api/v1/products/no-uuid"
    statuses = [(await api.ask("DELETE", path, token=token)).status for token in (None, customer.token, admin.token)]
    assert statuses == [401, 403, 422]


def misplaced(operations: Iterable[Operation], guarded: Sequence[Operation], public: Sequence[Operation]) -> list[str]:
    """Operations that don't stand in exactly one of the lists, and lines of these that name none, or one twice."""
    known, wrong, named = list(operations), [], [*guarded, *public]
    for method, path in known:
        lines = [line for line in named if line[0] == method and is_of(line[1], path)]
        # `orders/{order_id}` is also the pattern of `orders/x`: a path of its own goes first.
        exact = [line for line in lines if _best(line, known) == (method, path)]
        if len(exact) != 1:
            wrong.append(f"{method} {path} stands in {len(exact)} lines")
    return wrong + [
        f"{method} {path} is no operation" for method, path in named if _best((method, path), known) is None
    ]


def is_of(line: str, template: str) -> bool:
    """Whether that line's path, with anything in the place of ids, is one of the template."""
    parts, wanted = line.partition("?")[0].split("/"), template.split("/")
    return len(parts) == len(wanted) and all(
        one == two or two.startswith("{") for one, two in zip(parts, wanted, strict=True)
    )


def _best(line: Operation, operations: Sequence[Operation]) -> Operation | None:
    fitting = [one for one in operations if one[0] == line[0] and is_of(line[1], one[1])]
    return min(fitting, key=lambda one: one[1].count("{"), default=None)


def _routes() -> list[tuple[Operation, Route | None]]:
    """All that are served, in the document or not."""
    return [
        ((method, route.path), route if isinstance(route, Route) else None)
        for router in app.ROUTERS
        for route in router.routes
        if isinstance(route, APIRoute)
        for method in sorted(route.methods or ())
    ]


async def test_every_operation_is_guarded_or_public_and_is_tried_as_such(api: Client) -> None:
    document = (await api.get("/api/openapi.json")).body
    told = {
        (method.upper(), path): operation
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    }
    guarded = [(method, path) for method, path, _ in GUARDED if not path.endswith(SOMETIMES)]
    assert misplaced(told, guarded, PUBLIC) == []
    assert misplaced({operation for operation, _ in _routes()}, guarded, PUBLIC) == [], "also what is not told of"
    for line in guarded:
        assert "security" in told[_best(line, list(told)) or line], line
    for line in PUBLIC:
        assert "security" not in told[_best(line, list(told)) or line], line


def test_what_stands_in_no_list_or_in_two_is_found() -> None:
    operations = [("GET", "/orders/{order_id}"), ("GET", "/orders/all")]
    assert misplaced(operations, [("GET", "/orders/7")], [("GET", "/orders/all")]) == []
    assert misplaced([*operations, ("POST", "/orders/all")], [("GET", "/orders/7")], [("GET", "/orders/all")]) == [
        "POST /orders/all stands in 0 lines"
    ]
    twice = misplaced(operations, [("GET", "/orders/7"), ("GET", "/orders/all")], [("GET", "/orders/all")])
    assert twice == ["GET /orders/all stands in 2 lines"]
    gone = misplaced(operations[:1], [("GET", "/orders/7")], [("GET", "/returns")])
    assert gone == ["GET /returns is no operation"]


async def test_what_is_public_needs_no_token(api: Client) -> None:
    for method, path in PUBLIC:
        expected = 422 if method == "POST" else 404 if NOBODY in path or path.endswith("nothing") else 200
        assert (method, path, (await api.ask(method, path)).status) == (method, path, expected)
    for path in BESIDE_THE_DOCUMENT:
        assert (await api.get(path)).status == 200


async def test_anothers_thing_is_answered_as_one_that_is_not_there(api: Client) -> None:
    """Every path with an id that a customer may ask: a stranger learns nothing of what there is."""
    admin, owner, stranger = await api.person("admin"), await api.person(), await api.person()
    product = (await api.product(admin))["id"]
    wish = {"items": [{"productId": product, "quantity": 1}]}
    order = (await api.post("/api/v1/orders", wish, token=owner.token)).body["orderId"]
    refund = str(uuid4())
    async with api.database.transaction() as tx:
        await tx.execute(
            "INSERT INTO refunds (id, order_id, kind, amount, currency, is_restocked, reason, actor, correlation_id)"
            f" VALUES ('{refund}', '{order}', 'REFUND', 100, 'USD', false, 'chipped', '{admin.id}', 'test')"
        )
    mine = {"order_id": order, "refund_id": refund}
    theirs = [operation for operation, route in _routes() if "{" in operation[1] and _is_for_customers(route)]
    assert len(theirs) > 6
    # What cancels goes last: the owner shows each time that the thing is there.
    for method, path in sorted(theirs, key=lambda one: one[0] != "GET"):
        sent = {"json": examples.BODIES[method.lower(), path]} if (method.lower(), path) in examples.BODIES else {}
        seen = [await _told(api, stranger.token, method, path, ids, sent) for ids in (mine, _unknown(mine))]
        assert seen[0] == seen[1], (method, path)
        assert seen[0][0] == 404, (method, path)
        half = {**_unknown(mine), "order_id": order}
        assert await _told(api, stranger.token, method, path, half, sent) == seen[0], "nor of a part of it"
        assert await _status(api, owner.token, method, path.format(**mine), sent) not in {401, 403, 404}, path


def _is_for_customers(route: Route | None) -> bool:
    return route is not None and route.guard is not None and not route.guard.roles and route.guard.when is None


def _unknown(ids: Mapping[str, str]) -> dict[str, str]:
    return {name: str(uuid4()) for name in ids}


async def _told(
    api: Client, token: str, method: str, path: str, ids: Mapping[str, str], sent: Mapping[str, Any]
) -> tuple[int, str]:
    """What is refused, but for the ids that were asked with. (What is not may go on for ever.)"""
    headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": uuid4().hex, "If-None-Match": "*"}
    async with api._session.request(method, api.url + path.format(**ids), headers=headers, **sent) as reply:
        if reply.status < 400:
            return reply.status, ""
        shown = json.dumps({**await reply.json(), "correlationId": None}, sort_keys=True)
    for name, one in ids.items():
        shown = shown.replace(one, name)
    return reply.status, shown


async def _status(api: Client, token: str, method: str, path: str, sent: Mapping[str, Any]) -> int:
    """Of an answer that may go on for ever."""
    headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": uuid4().hex}
    async with api._session.request(method, api.url + path, headers=headers, **sent) as reply:
        return reply.status
