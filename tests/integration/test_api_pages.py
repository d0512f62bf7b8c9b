"""Pages of lists: by numbers with a way forth and back, and orders by their time, either end first."""

from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import quote
from uuid import UUID

from api_client import Client, Person
from comanda.orders.reads import OLDEST_OF_ALL, OLDEST_OF_CUSTOMER, PAGE_OF_ALL, PAGE_OF_CUSTOMER

NUMBERED = [
    "products",
    "products?sortBy=price&status=all",
    "products/search?q=coffee",
    "categories",
    "users",
    "inventory",
    "inventory?search=coffee",
    "inventory/low-stock",
    "inventory/out-of-stock",
]


def _links(reply: Any) -> dict[str, str]:
    found = [one.partition(">; rel=") for one in reply.headers.get("Link", "").split(", ") if one]
    return {name.strip('"'): path.removeprefix("<") for path, _, name in found}


async def _filled(api: Client) -> Person:
    admin = await api.person("admin")
    for number in range(3):
        product = (await api.product(admin, name=f"Coffee {number}", price=number))["id"]
        for location, units in (("MAIN", 1), ("SHOP", 0)):
            opening = {"productId": product, "initialStock": units, "minimumStock": 5, "location": location}
            assert (await api.post("/api/v1/inventory", opening, token=admin.token)).status == 201
        category = {"name": f"Category {number}", "slug": f"c-{number}"}
        await api.post("/api/v1/categories", category, token=admin.token)
        await api.person()
    return admin


async def test_links_lead_through_pages_with_numbers_and_back(api: Client) -> None:
    admin = await _filled(api)
    for path in NUMBERED:
        await _walk(api, admin, path)


async def _walk(api: Client, admin: Person, path: str) -> None:
    first = f"/api/v1/{path}{'&' if '?' in path else '?'}limit=2"
    forth: list[Any] = []
    following = first
    while following:
        reply = await api.get(following, token=admin.token)
        assert (path, reply.status, reply.body["page"]) == (path, 200, len(forth) + 1)
        forth.append(reply.body["items"])
        following = _links(reply).get("next", "")
    assert len(forth) == reply.body["totalPages"] > 1, path
    assert sum(map(len, forth)) == reply.body["total"]
    back = [reply.body["items"]]
    while previous := _links(reply).get("prev"):
        reply = await api.get(previous, token=admin.token)
        back.append(reply.body["items"])
    assert back[::-1] == forth, path
    beyond = await api.get(f"{first}&page=99", token=admin.token)
    assert _links(beyond).keys() == {"prev"}
    assert (await api.get(_links(beyond)["prev"], token=admin.token)).body["items"] == forth[-1]


async def test_orders_are_found_by_their_time_from_either_end(api: Client) -> None:
    admin, customer = await api.person("admin"), await api.person()
    product = (await api.product(admin))["id"]
    wish = {"items": [{"productId": product, "quantity": 1}]}
    placed = [(await api.post("/api/v1/orders", wish, token=customer.token)).body for _ in range(5)]
    ids, times = [one["orderId"] for one in placed], [one["createdAt"] for one in placed]

    async def found(query: str, who: Person = customer) -> list[str]:
        """All pages."""
        path, seen = f"/api/v1/orders?limit=2{query}", []
        while path:
            reply = await api.get(path, token=who.token)
            assert reply.status == 200, reply
            seen += [one["orderId"] for one in reply.body["items"]]
            path = _links(reply).get("next", "")
        return seen

    for who in (customer, admin):
        assert await found("", who) == ids[::-1]
        assert await found("&sortOrder=asc", who) == ids
        assert await found(f"&createdAfter={times[1]}", who) == ids[:0:-1], "the first included"
        assert await found(f"&createdBefore={times[3]}&sortOrder=asc", who) == ids[:3], "the second not"
        between = f"&createdAfter={times[1]}&createdBefore={times[4]}&status=PENDING"
        assert await found(f"{between}&sortOrder=asc", who) == ids[1:4]
        assert await found(between, who) == ids[3:0:-1]
    # What no clock says, and a zone that is not ours.
    there = quote(datetime.fromisoformat(times[1]).astimezone(timezone(timedelta(hours=5))).isoformat())
    assert await found(f"&createdAfter={there}") == ids[:0:-1]
    for number in ("20261130", "1796007227", "1796007227000"):
        assert (await api.get(f"/api/v1/orders?createdAfter={number}", token=customer.token)).status == 422
    for long_ago in ("0001-01-01T00:00:00%2B14:00", "1969-12-31T23:59:59Z"):
        assert await found(f"&createdAfter={long_ago}") == ids[::-1]
        assert await found(f"&createdBefore={long_ago}") == []
    for far_off in ("9999-12-31T23:59:59-14:00", "9500-01-01T00:00:00Z"):
        assert await found(f"&createdBefore={far_off}") == ids[::-1]
        assert await found(f"&createdAfter={far_off}") == []


async def test_a_wrong_time_or_order_is_refused(api: Client) -> None:
    customer = await api.person()
    for query in ("createdAfter=2026-01-01T00:00:00", "createdBefore=x", "sortOrder=up"):
        reply = await api.get(f"/api/v1/orders?{query}", token=customer.token)
        assert (reply.status, reply.body["errors"][0]["field"]) == (422, query.partition("=")[0])


async def test_orders_of_a_time_are_read_by_an_index(api: Client) -> None:
    nobody, times = UUID(int=7), "'2026-01-01Z', '2026-01-02Z', 20"
    async with api.database.connection() as tx:
        await tx.execute("SET plan_cache_mode = force_generic_plan")
        # The tables of a test are small: sorting all of it would be cheap.
        await tx.execute("SET enable_seqscan = off")
        await tx.execute("SET enable_sort = off")
        await tx.execute("SET enable_bitmapscan = off")
        for page in (PAGE_OF_ALL, OLDEST_OF_ALL, PAGE_OF_CUSTOMER, OLDEST_OF_CUSTOMER):
            whose = f"'{nobody}', " if page in {PAGE_OF_CUSTOMER, OLDEST_OF_CUSTOMER} else ""
            await tx.execute(f"PREPARE page AS {page.text}")
            asked = f"EXPLAIN EXECUTE page({whose}NULL, '{nobody}', {times})"
            plan = "\n".join(row[0] for row in await tx.fetch(asked))
            await tx.execute("DEALLOCATE page")
            conditions = [line for line in plan.splitlines() if "Index Cond" in line]
            assert any(one.count("uuid_floor") == 2 for one in conditions), plan
            assert "->  Sort" not in plan, plan
