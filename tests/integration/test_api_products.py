"""The catalogue over HTTP."""

import asyncio
from typing import get_args
from urllib.parse import quote
from uuid import UUID, uuid4

from api_client import Client
from comanda.catalog import products
from comanda.catalog.cache import Catalogue
from comanda.catalog.products import PAGE, Draft, SortBy
from comanda.db import Database
from comanda.db.database import LISTS
from shop import until


async def test_a_product_comes_back_as_it_was_sent(api: Client) -> None:
    admin = await api.person("admin")
    category = await api.post("/api/v1/categories", {"name": "Coffee", "slug": "coffee"}, token=admin.token)
    sent = {
        "name": "Café",
        "sku": "CAFE-1",
        "price": 1250,
        "currency": "EUR",
        "description": "Ground",
        "brand": "Finca",
        "tags": ["hot", "drink"],
        "images": ["https://example.com/a.png"],
        "attributes": {"roast": {"level": 3}},
        "categoryId": category.body["id"],
        "weight": 0.25,
        "costPrice": 700,
        "compareAtPrice": 1500,
        "trackInventory": False,
        "minimumStock": 5,
        "isActive": False,
    }
    reply = await api.post("/api/v1/products", sent, token=admin.token)
    assert reply.status == 201
    assert reply.headers["Location"] == f"/api/v1/products/{reply.body['id']}"
    assert sent.items() <= reply.body.items()
    assert reply.body["createdAt"].endswith("Z")
    public = (await api.get(reply.headers["Location"])).body
    assert {**sent, "costPrice": None}.items() <= {**public, "costPrice": None}.items()
    assert "costPrice" not in public


async def test_cost_prices_and_deletions_are_shown_to_admins_and_to_nobody_else(api: Client) -> None:
    admin, customer, viewer = await api.person("admin"), await api.person(), await api.person("viewer")
    product = await api.product(admin, name="Coffee", costPrice=700)
    gone = await api.product(admin, costPrice=9)
    await api.ask("DELETE", f"/api/v1/products/{gone['id']}", token=admin.token)
    lists = ["/api/v1/products", "/api/v1/products/search?q=coffee"]
    # Either may be the first to have its page written out.
    for asking in ([admin, None], [customer, viewer, admin], [None, admin]):
        await api.ask("PATCH", f"/api/v1/products/{product['id']}", token=admin.token, json={"name": "Coffee"})
        for who in asking:
            token = None if who is None else who.token
            replies = [await api.get(path, token=token) for path in lists]
            shown = [one for reply in replies for one in reply.body["items"]]
            shown.append((await api.get(f"/api/v1/products/{product['id']}", token=token)).body)
            assert len(shown) == 3
            seen = [(one.get("costPrice"), "costPrice" in one, "deletedAt" in one) for one in shown]
            assert seen == ([(700, True, True)] if who is admin else [(None, False, False)]) * 3
            tags = {"If-None-Match": replies[0].headers["ETag"]}
            for other, expected in ((admin, 304 if who is admin else 200), (None, 200 if who is admin else 304)):
                again = await api.get(lists[0], token=None if other is None else other.token, headers=tags)
                assert again.status == expected
    (deleted,) = (await api.get("/api/v1/products?status=deleted", token=admin.token)).body["items"]
    assert deleted["deletedAt"].endswith("Z")
    async with api.database.transaction() as tx:
        await tx.execute("UPDATE accounts SET role = 'customer' WHERE id = $1", admin.id)
    assert "costPrice" not in (await api.get(f"/api/v1/products/{product['id']}", token=admin.token)).body


async def test_a_sku_is_taken_until_its_product_is_deleted(api: Client) -> None:
    admin = await api.person("admin")
    product = await api.product(admin, sku="ONE")
    again = {"name": "Tea", "sku": "ONE", "price": 1}
    reply = await api.post("/api/v1/products", again, token=admin.token)
    assert (reply.status, reply.body["code"]) == (409, "SKU_TAKEN")
    path = f"/api/v1/products/{product['id']}"
    assert (await api.ask("DELETE", path, token=admin.token)).status == 204
    assert (await api.ask("DELETE", path, token=admin.token)).status == 404
    assert (await api.get(path)).status == 404
    replies = await asyncio.gather(*(api.post("/api/v1/products", again, token=admin.token) for _ in range(5)))
    assert sorted(one.status for one in replies) == [201, 409, 409, 409, 409]


async def test_a_patch_changes_what_it_names(api: Client) -> None:
    admin = await api.person("admin")
    product = await api.product(admin, brand="Finca", tags=["a"])
    path = f"/api/v1/products/{product['id']}"

    async def patch(**body: object) -> tuple[int, object]:
        reply = await api.ask("PATCH", path, token=admin.token, json=body)
        return reply.status, reply.body

    status, changed = await patch(price=99, brand=None)
    assert (status, changed) == (200, {**product, "price": 99, "brand": None, "updatedAt": changed["updatedAt"]})  # type: ignore[index]
    for wrong in ({}, {"name": None}, {"sku": "NEW"}, {"price": -1}, {"name": "x", "price": "1"}):
        assert (await patch(**wrong))[0] == 422
    missing = await api.ask("PATCH", f"/api/v1/products/{uuid4()}", token=admin.token, json={"price": 1})
    assert (missing.status, missing.body["code"]) == (404, "PRODUCT_NOT_FOUND")


async def test_a_category_that_is_not_there_holds_no_product(api: Client) -> None:
    admin = await api.person("admin")
    made = await api.post("/api/v1/categories", {"name": "Tea", "slug": "tea"}, token=admin.token)
    gone = made.body["id"]
    assert (await api.ask("DELETE", f"/api/v1/categories/{gone}", token=admin.token)).status == 204
    product = await api.product(admin)
    path = f"/api/v1/products/{product['id']}"
    for category_id in (gone, str(uuid4())):
        new = {"name": "Tea", "sku": "TEA", "price": 1, "categoryId": category_id}
        for reply in (
            await api.post("/api/v1/products", new, token=admin.token),
            await api.ask("PATCH", path, token=admin.token, json={"categoryId": category_id, "price": 7}),
        ):
            assert (reply.status, reply.body["code"]) == (422, "CATEGORY_UNKNOWN")
            assert [(one["field"], one["code"]) for one in reply.body["errors"]] == [("categoryId", "UNKNOWN")]
    assert (await api.get(path)).body["price"] == product["price"]


async def test_of_a_product_that_comes_and_its_category_that_goes_one_is_refused(api: Client) -> None:
    admin = await api.person("admin")
    for number in range(10):
        made = await api.post("/api/v1/categories", {"name": "Tea", "slug": f"tea-{number}"}, token=admin.token)
        category_id = made.body["id"]
        new = {"name": "Tea", "sku": f"TEA-{number}", "price": 1, "categoryId": category_id}
        came, went = await asyncio.gather(
            api.post("/api/v1/products", new, token=admin.token),
            api.ask("DELETE", f"/api/v1/categories/{category_id}", token=admin.token),
        )
        assert (came.status, went.status) in {(201, 409), (422, 204)}


async def test_who_deletes_a_category_waits_for_what_is_being_put_there(api: Client) -> None:
    admin = await api.person("admin")
    made = await api.post("/api/v1/categories", {"name": "Tea", "slug": "tea"}, token=admin.token)
    category_id = made.body["id"]
    async with api.database.transaction() as tx:
        await products.create(tx, [Draft("Tea", "TEA", 1, category_id=UUID(category_id))])
        going = asyncio.create_task(api.ask("DELETE", f"/api/v1/categories/{category_id}", token=admin.token))
        await until(lambda: _somebody_waits(api.database))
        assert not going.done()
    assert ((await going).status, going.result().body["code"]) == (409, "CATEGORY_IN_USE")


async def _somebody_waits(database: Database) -> bool:
    async with database.connection() as tx:
        return bool(await tx.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"))


async def test_products_are_put_on_and_off_sale(api: Client) -> None:
    admin = await api.person("admin")
    path = f"/api/v1/products/{(await api.product(admin))['id']}"
    for verb, is_active in (("deactivate", False), ("activate", True)):
        reply = await api.ask("PATCH", f"{path}/{verb}", token=admin.token)
        assert (reply.status, reply.body["isActive"]) == (200, is_active)


async def test_the_list_is_filtered_sorted_and_paged(api: Client) -> None:
    admin = await api.person("admin")
    await api.product(admin, name="Apple", sku="1", price=300, brand="Finca", tags=["fruit", "red"])
    await api.product(admin, name="pear 100%", sku="2", price=200, brand="finca", tags=["fruit"], compareAtPrice=250)
    await api.product(admin, name="Bread_x", sku="3", price=100, tags=["loaf"], description="with APPLE")
    await api.product(admin, name="Old", sku="4", price=50, isActive=False)
    gone = await api.product(admin, name="Gone", sku="5", price=1)
    await api.ask("DELETE", f"/api/v1/products/{gone['id']}", token=admin.token)

    async def skus(query: str, token: str | None = None) -> str:
        reply = await api.get(f"/api/v1/products?{query}", token=token)
        assert reply.status == 200, reply
        assert reply.body["total"] >= len(reply.body["items"])
        return "".join(one["sku"] for one in reply.body["items"])

    assert await skus("") == "321"
    assert await skus("sortBy=price&sortOrder=asc") == "321"
    assert await skus("sortBy=price") == "123"
    assert await skus("sortBy=name&sortOrder=asc") == "132"
    assert await skus("sortBy=sku&sortOrder=desc") == "321"
    assert await skus("sortBy=createdAt&sortOrder=asc") == "123"
    assert await skus("search=apple&sortBy=sku&sortOrder=asc") == "13"
    assert await skus("search=%25") == "2"
    assert await skus("search=_") == "3"
    assert await skus("brand=FINCA&sortBy=sku&sortOrder=asc") == "12"
    assert await skus("minPrice=150&maxPrice=250") == "2"
    assert await skus("onSale=true") == "2"
    assert await skus("onSale=false&sortBy=sku&sortOrder=asc") == "13"
    assert await skus("tags=red,loaf&sortBy=sku&sortOrder=asc") == "13"
    assert await skus("tags=red&tags=loaf&sortBy=sku&sortOrder=asc") == "13"
    assert await skus("status=inactive") == "4"
    assert await skus("status=all&sortBy=sku&sortOrder=asc") == "1234"
    assert await skus("status=deleted", admin.token) == "5"
    assert await skus("limit=2&sortBy=sku&sortOrder=asc") == "12"
    assert await skus("limit=2&page=2&sortBy=sku&sortOrder=asc") == "3"
    body = (await api.get("/api/v1/products?limit=2")).body
    assert (body["total"], body["page"], body["limit"], body["totalPages"]) == (3, 1, 2, 2)
    found = (await api.get("/api/v1/products/search?q=app")).body
    assert [one["sku"] for one in found["items"]] == ["1", "3"]


async def test_products_are_found_by_words_in_two_languages_and_mistyped(api: Client) -> None:
    admin = await api.person("admin")
    await api.product(admin, name="Running shoes", sku="RUN-7", brand="Zapatería Ñandú", description="For long days")
    await api.product(admin, name="Camisetas de algodón", sku="CAM-1", description="Running late? Wear one.")
    await api.product(admin, name="Coffee, ground", sku="COF-2")
    await api.product(admin, name="Coffee, hidden", sku="COF-3", isActive=False)

    async def found(text: str) -> list[str]:
        reply = await api.get(f"/api/v1/products/search?q={quote(text)}")
        assert reply.status == 200, reply
        assert reply.body["total"] == len(reply.body["items"])
        return [one["sku"] for one in reply.body["items"]]

    assert await found("shoe") == ["RUN-7"]
    assert await found("runs") == ["RUN-7", "CAM-1"], "by its stem; called so before said so"
    assert await found("camiseta") == ["CAM-1"]
    assert await found("ALGODONES") == ["CAM-1"]
    assert await found("shoes run") == ["RUN-7"], "in any order"
    assert await found("long shoes") == ["RUN-7"], "one word of the name, one of the description"
    assert await found("run-7") == ["RUN-7"]
    assert await found("ñandú") == ["RUN-7"]
    assert await found("cof") == ["COF-2"], "cut short, and only what is on sale"
    assert await found("cofee") == ["COF-2"], "mistyped"
    assert await found("snoes") == ["RUN-7"]
    assert await found("ground cofee") == ["COF-2"], "one word right, one mistyped"
    assert await found("the shoes of running") == ["RUN-7"], "words that tell nothing are passed over"
    assert await found("camiseta de algodón") == ["CAM-1"]
    assert await found("cof 2") == ["COF-2"], "signs only keep words apart"
    for nothing in ("xyzzy", "%", "'", "& | ! :* <->", "\\"):
        assert await found(nothing) == []
    beyond = (await api.get("/api/v1/products/search?q=shoe&page=9")).body
    assert (beyond["items"], beyond["total"]) == ([], 1)
    (shoes,) = (await api.get("/api/v1/products/search?q=shoe")).body["items"]
    await api.ask("PATCH", f"/api/v1/products/{shoes['id']}", token=admin.token, json={"name": "Trainers"})
    assert await found("trainrs") == ["RUN-7"], "by the words that it is called by now"


async def test_a_page_that_a_client_has_is_not_sent_again_until_a_product_changes(api: Client) -> None:
    admin = await api.person("admin")
    product = await api.product(admin, name="Coffee", price=100)
    for path in ("/api/v1/products?sortBy=price", "/api/v1/products/search?q=coffee"):
        first = await api.get(path)
        tag = first.headers["ETag"]
        assert first.headers["Cache-Control"] == "no-cache"
        for known in (tag, f'"other", {tag}', tag.removeprefix("W/"), "*"):
            again = await api.ask("GET", path, headers={"If-None-Match": known})
            assert (again.status, again.headers["ETag"]) == (304, tag)
        assert (await api.ask("GET", path, headers={"If-None-Match": 'W/"0"'})).body == first.body
        # By whom and where it is changed makes no difference.
        async with api.database.transaction() as tx:
            await tx.execute("UPDATE products SET price = price + 1 WHERE sku = $1", product["sku"])
        changed = await api.ask("GET", path, headers={"If-None-Match": tag})
        assert changed.status == 200
        assert changed.body["items"][0]["price"] == first.body["items"][0]["price"] + 1


async def test_each_order_of_the_list_is_read_by_an_index(database_url: str) -> None:
    lists = await Database.open(database_url, name="lists", session=LISTS)
    async with lists.connection() as tx:
        for by in get_args(SortBy):
            for is_falling in (True, False):
                asked = f"NULL, NULL, 'active', NULL, NULL, NULL, NULL, '{by}', {is_falling}, 20, 0"
                await tx.execute(f"PREPARE page AS {PAGE.text}")
                # The table of a test is small: sorting all of it would be cheap.
                await tx.execute("SET enable_seqscan = off")
                await tx.execute("SET enable_sort = off")
                plan = "\n".join(row[0] for row in await tx.fetch(f"EXPLAIN EXECUTE page({asked})"))
                await tx.execute("DEALLOCATE page")
                assert "Index Scan" in plan, plan
                assert "->  Sort" not in plan, plan
    await lists.close()


async def test_prices_are_read_once_and_forgotten_on_demand(api: Client) -> None:
    admin = await api.person("admin")
    made = [await api.product(admin, price=number) for number in range(3)]
    async with api.database.connection() as tx:
        ids = [row["id"] for row in await tx.fetch("SELECT id FROM products ORDER BY price")]
    catalogue = Catalogue()
    assert catalogue.get(ids[0]) is None
    found = await asyncio.gather(*(catalogue.priced(api.database, [*ids, uuid4()]) for _ in range(20)))
    assert all([one[each].price for each in ids] == [0, 1, 2] and len(one) == 3 for one in found)
    small = Catalogue(limit=2)
    assert len(await small.priced(api.database, ids)) == 3
    assert len(small) == 2
    kept = catalogue.get(ids[2])
    assert kept is not None
    assert (kept.sku, kept.is_active) == (made[2]["sku"], True)
    catalogue.forget(ids)
    assert catalogue.get(ids[2]) is None
    old = Catalogue(lifetime=-1)
    await old.priced(api.database, ids)
    assert old.get(ids[0]) is None
