"""The catalogue's tree over HTTP."""

import asyncio
from typing import Any
from uuid import uuid4

from api_client import Client, Person, Reply
from comanda.catalog import categories
from comanda.catalog.categories import Category, Draft, Refused
from comanda.db import Database

PATH = "/api/v1/categories"


async def made(api: Client, admin: Person, slug: str, **fields: Any) -> dict[str, Any]:
    reply = await api.post(PATH, {"name": slug.title(), "slug": slug, **fields}, token=admin.token)
    assert reply.status == 201, reply
    found: dict[str, Any] = reply.body
    return found


async def moved(api: Client, admin: Person, one: dict[str, Any], parent: dict[str, Any] | None) -> Reply:
    body = {"name": one["name"], "slug": one["slug"], "parentId": None if parent is None else parent["id"]}
    return await api.ask("PUT", f"{PATH}/{one['id']}", token=admin.token, json=body)


async def test_a_category_comes_back_as_it_was_sent(api: Client) -> None:
    admin = await api.person("admin")
    top = await made(api, admin, "drinks")
    sent = {
        "name": "Café",
        "slug": "cafe",
        "description": "Hot",
        "parentId": top["id"],
        "position": 3,
        "isActive": False,
    }
    reply = await api.post(PATH, sent, token=admin.token)
    assert reply.status == 201
    assert sent.items() <= reply.body.items()
    assert (await api.get(reply.headers["Location"])).body == reply.body
    assert (await api.get(f"{PATH}/slug/cafe")).body == reply.body
    assert (await api.get(f"{PATH}/slug/caf%00e")).status == 404
    assert (await api.get(f"{PATH}/slug/nothing")).body["code"] == "CATEGORY_NOT_FOUND"
    assert (await api.get(f"{PATH}/{uuid4()}")).status == 404


async def test_only_admins_change_it_and_anybody_reads_it(api: Client) -> None:
    admin, customer = await api.person("admin"), await api.person()
    one = await made(api, admin, "drinks")
    body = {"name": "Tea", "slug": "tea"}
    path = f"{PATH}/{one['id']}"
    asked = [("POST", PATH, body), ("PUT", path, body), ("DELETE", path, None)]
    asked += [("PATCH", f"{path}/{act}", None) for act in ("activate", "deactivate")]
    for method, at, sent in asked:
        assert (await api.ask(method, at, json=sent)).status == 401
        assert (await api.ask(method, at, json=sent, token=customer.token)).status == 403
    for at in ("", "/tree", "/slug/drinks", f"/{one['id']}", f"/{one['id']}/descendants", f"/{one['id']}/path"):
        assert (await api.get(PATH + at)).status == 200


async def test_bad_input_is_named(api: Client) -> None:
    admin = await api.person("admin")
    for body in (
        {"name": "x", "slug": "No Slug"},
        {"name": " ", "slug": "x"},
        {"name": "x"},
        {"name": "x", "slug": "x", "z": 1},
    ):
        assert (await api.post(PATH, body, token=admin.token)).status == 422
    reply = await api.post(PATH, {"name": "x", "slug": "x", "parentId": str(uuid4())}, token=admin.token)
    assert (reply.status, reply.body["code"]) == (422, "CATEGORY_UNKNOWN")


async def test_a_slug_is_taken_until_its_category_is_deleted(api: Client) -> None:
    admin = await api.person("admin")
    one, other = await made(api, admin, "tea"), await made(api, admin, "coffee")
    again = await api.post(PATH, {"name": "Tea", "slug": "tea"}, token=admin.token)
    assert (again.status, again.body["code"]) == (409, "SLUG_TAKEN")
    renamed = await api.ask("PUT", f"{PATH}/{other['id']}", token=admin.token, json={"name": "x", "slug": "tea"})
    assert (renamed.status, renamed.body["code"]) == (409, "SLUG_TAKEN")
    assert (await api.ask("DELETE", f"{PATH}/{one['id']}", token=admin.token)).status == 204
    assert (await api.ask("DELETE", f"{PATH}/{one['id']}", token=admin.token)).status == 404
    replies = await asyncio.gather(
        *(api.post(PATH, {"name": "Tea", "slug": "tea"}, token=admin.token) for _ in range(5))
    )
    assert sorted(one.status for one in replies) == [201, 409, 409, 409, 409]


async def test_the_tree_its_paths_and_what_is_hidden(api: Client) -> None:
    admin = await api.person("admin")
    food = await made(api, admin, "food", position=2)
    drinks = await made(api, admin, "drinks", position=1)
    hot = await made(api, admin, "hot", parentId=drinks["id"])
    tea = await made(api, admin, "tea", parentId=hot["id"])
    (first, second) = (await api.get(f"{PATH}/tree")).body
    assert (first["slug"], second["slug"]) == ("drinks", "food")
    assert first["children"][0]["children"][0]["slug"] == "tea"
    assert [one["slug"] for one in (await api.get(f"{PATH}/{tea['id']}/path")).body] == ["drinks", "hot", "tea"]
    assert [one["slug"] for one in (await api.get(f"{PATH}/{drinks['id']}/descendants")).body] == ["hot", "tea"]
    hidden = await api.ask("PATCH", f"{PATH}/{hot['id']}/deactivate", token=admin.token)
    assert (hidden.status, hidden.body["isActive"]) == (200, False)
    tree = (await api.get(f"{PATH}/tree")).body
    assert [(one["slug"], one["children"]) for one in tree] == [("drinks", []), ("food", [])]
    assert [one["slug"] for one in (await api.get(PATH, params={"status": "inactive"})).body["items"]] == ["hot"]
    page = (await api.get(PATH, params={"status": "all", "limit": 2, "page": 2})).body
    assert ([one["slug"] for one in page["items"]], page["total"], page["totalPages"]) == (["drinks", "food"], 4, 2)
    assert [one["slug"] for one in (await api.get(PATH, params={"parentId": hot["id"]})).body["items"]] == ["tea"]
    assert [one["slug"] for one in (await api.get(PATH, params={"search": "OO"})).body["items"]] == ["food"]
    assert (await api.ask("PATCH", f"{PATH}/{hot['id']}/activate", token=admin.token)).body["isActive"] is True
    assert (await moved(api, admin, hot, food)).body["parentId"] == food["id"]
    assert [one["slug"] for one in (await api.get(f"{PATH}/{tea['id']}/path")).body] == ["food", "hot", "tea"]


async def test_nobody_stands_below_itself_whoever_moves_at_once(api: Client) -> None:
    admin = await api.person("admin")
    one, other = await made(api, admin, "one"), await made(api, admin, "other")
    alone = await moved(api, admin, one, one)
    assert (alone.status, alone.body["code"]) == (409, "CATEGORY_RING")
    for _ in range(10):
        replies = await asyncio.gather(moved(api, admin, one, other), moved(api, admin, other, one))
        assert sorted(reply.status for reply in replies) == [200, 409]
        await asyncio.gather(moved(api, admin, one, None), moved(api, admin, other, None))


async def test_what_holds_something_is_not_deleted(api: Client) -> None:
    admin = await api.person("admin")
    top = await made(api, admin, "top")
    below = await made(api, admin, "below", parentId=top["id"])
    product = await api.product(admin, categoryId=below["id"])
    for one, said in ((top, "1 categories, 0 products"), (below, "0 categories, 1 products")):
        reply = await api.ask("DELETE", f"{PATH}/{one['id']}", token=admin.token)
        assert (reply.status, reply.body["code"]) == (409, "CATEGORY_IN_USE")
        assert said in reply.body["detail"]
    assert (await api.ask("DELETE", f"/api/v1/products/{product['id']}", token=admin.token)).status == 204
    for one in (below, top):
        assert (await api.ask("DELETE", f"{PATH}/{one['id']}", token=admin.token)).status == 204
    assert (await api.get(f"{PATH}/tree")).body == []


async def test_they_stand_sixteen_deep_at_the_most(api: Client) -> None:
    admin = await api.person("admin")
    above = None
    for level in range(16):
        above = (await made(api, admin, f"level-{level}", parentId=above))["id"]
    reply = await api.post(PATH, {"name": "x", "slug": "too-deep", "parentId": above}, token=admin.token)
    assert (reply.status, reply.body["code"]) == (422, "CATEGORY_TOO_DEEP")


async def chain(api: Client, admin: Person, name: str, length: int) -> list[dict[str, Any]]:
    one: dict[str, Any] = {"id": None}
    return [one := await made(api, admin, f"{name}-{level}", parentId=one["id"]) for level in range(length)]


async def test_what_is_moved_brings_all_that_stands_below_it(api: Client) -> None:
    admin = await api.person("admin")
    upper, lower = await chain(api, admin, "upper", 9), await chain(api, admin, "lower", 8)
    reply = await moved(api, admin, lower[0], upper[8])
    assert (reply.status, reply.body["code"]) == (422, "CATEGORY_TOO_DEEP")
    assert (await moved(api, admin, lower[0], upper[7])).status == 200
    assert len((await api.get(f"{PATH}/{lower[7]['id']}/path")).body) == 16
    assert (await moved(api, admin, lower[7], lower[6])).status == 200, "it stays where it is"


async def test_of_several_moves_each_is_judged_by_those_before_it(database: Database) -> None:
    async with database.transaction() as tx:
        top: list[Category | Refused] = []
        for level in range(10):
            parent = top[-1] if top else None
            below = parent.id if isinstance(parent, Category) else None
            top += await categories.create(tx, [Draft("x", f"top-{level}", parent_id=below)])
        one, other = [Draft("x", f"loose-{n}") for n in range(2)]
        await categories.create(tx, [one, other])
        ids = [found.id for found in top if isinstance(found, Category)]
        wishes = [
            Draft("x", "top-0", id=ids[0], parent_id=one.id),  # eleven deep now
            Draft("x", "loose-0", id=one.id, parent_id=ids[9]),  # a ring, as the first has moved
            Draft("x", "top-4", id=ids[4], parent_id=ids[9]),  # a ring by itself
            Draft("x", "top-5", id=ids[5], parent_id=other.id),  # five go elsewhere
            Draft("x", "loose-1", id=other.id, parent_id=ids[4]),  # six levels below the sixth: they fit
        ]
        answers = await categories.change(tx, wishes)
    codes = [found.code if isinstance(found, Refused) else None for found in answers]
    assert codes == [None, "CATEGORY_RING", "CATEGORY_RING", None, None]


async def test_the_tree_is_shown_however_deep_it_is_stored(api: Client) -> None:
    ids = [uuid4() for _ in range(300)]
    async with api.database.transaction() as tx:
        await tx.executemany(
            "INSERT INTO categories (id, slug, name, parent_id, position, is_active) VALUES ($1, $2, 'x', $3, 0, true)",
            [(one, f"level-{n}", ids[n - 1] if n else None) for n, one in enumerate(ids)],
        )
    level, depth = (await api.get(f"{PATH}/tree")).body, 0
    while level:
        assert level[0]["id"] == str(ids[depth])
        level, depth = level[0]["children"], depth + 1
    assert depth == 300
