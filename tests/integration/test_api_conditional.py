"""What a client has seen: ETags of single things, 304 for what it has, 412 for what somebody else has changed."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest

from api_client import PASSWORD, Client, Person
from shop import until

STALE = '"of-another-day"'


@dataclass(frozen=True)
class Kind:
    """A kind of thing that is read, changed and deleted: where, in which table, and what each change sends."""

    path: str
    table: str
    draft: Callable[[], dict[str, Any]]
    method: str
    change: Callable[[str], dict[str, Any]]
    acts: tuple[str, ...] = ("activate", "deactivate")
    is_public: bool = False

    async def made(self, api: Client, admin: Person) -> str:
        """Where one stands that is new."""
        reply = await api.post(self.path, self.draft(), token=admin.token)
        assert reply.status == 201, reply
        path = f"{self.path}/{reply.body['id']}"
        assert reply.headers["ETag"] == await self.tag(api, admin, path)
        return path

    async def tag(self, api: Client, admin: Person, path: str) -> str:
        tag: str = (await api.get(path, token=admin.token)).headers["ETag"]
        return tag

    async def changed(self, api: Client, admin: Person, path: str, name: str, if_match: str | None) -> tuple[int, Any]:
        headers = {} if if_match is None else {"If-Match": if_match}
        reply = await api.ask(self.method, path, token=admin.token, json=self.change(name), headers=headers)
        return reply.status, reply


def _category(name: str) -> dict[str, Any]:
    return {"name": name, "slug": name.lower()}


KINDS = {
    "products": Kind(
        "/api/v1/products", "products", lambda: {"name": "Coffee", "sku": uuid4().hex, "price": 1250},
        "PATCH", lambda name: {"name": name}, is_public=True,
    ),
    "categories": Kind(
        "/api/v1/categories", "categories", lambda: _category(f"c{uuid4().hex}"), "PUT", _category, is_public=True,
    ),
    "users": Kind(
        "/api/v1/users", "accounts",
        lambda: {"email": f"{uuid4().hex}@example.com", "password": PASSWORD, "firstName": "Ana", "lastName": "Ruiz"},
        "PATCH", lambda name: {"firstName": name},
    ),
    "webhooks": Kind(
        "/api/v1/webhooks", "webhook_endpoints", lambda: {"url": "https://shop.example/hook"},
        "PATCH", lambda name: {"description": name}, acts=(),
    ),
}  # fmt: skip
each_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


@each_kind
async def test_what_a_client_has_is_not_sent_again_until_it_changes(api: Client, kind: Kind) -> None:
    admin = await api.person("admin")
    path = await kind.made(api, admin)
    await _is_told_once(api, await api.person() if kind.is_public else admin, path, is_public=kind.is_public)
    tag = await kind.tag(api, admin, path)
    _, reply = await kind.changed(api, admin, path, "Another", None)
    assert reply.headers["ETag"] == await kind.tag(api, admin, path) != tag
    assert (await api.get(path, token=admin.token, headers={"If-None-Match": tag})).status == 200


async def test_what_an_admin_sees_of_a_product_has_a_tag_of_its_own_and_is_kept_by_nobody(api: Client) -> None:
    admin = await api.person("admin")
    path = await KINDS["products"].made(api, admin)
    everybodys, admins = await api.get(path), await api.get(path, token=admin.token)
    assert "costPrice" in admins.body
    assert "costPrice" not in everybodys.body
    everybodys_tag = everybodys.headers["ETag"]
    assert admins.headers["ETag"] != everybodys_tag, "a strong tag stands for one answer, byte for byte"
    again = await api.get(path, token=admin.token, headers={"If-None-Match": everybodys_tag})
    assert (again.status, again.body) == (200, admins.body), "costPrice isn't what everybody has"
    status, reply = await KINDS["products"].changed(api, admin, path, "Another", everybodys_tag)
    assert (status, reply.body["code"]) == (412, "PRECONDITION_FAILED")
    assert (everybodys.headers["Cache-Control"], admins.headers["Cache-Control"]) == ("no-cache", "no-store")


async def test_orders_and_stock_have_tags_too(api: Client) -> None:
    admin, customer = await api.person("admin"), await api.person()
    product = (await api.product(admin))["id"]
    await api.post("/api/v1/inventory", {"productId": product, "initialStock": 10}, token=admin.token)
    wish = {"items": [{"productId": product, "quantity": 1}]}
    order = (await api.post("/api/v1/orders", wish, token=customer.token)).body["orderId"]
    order_path, stock_path = f"/api/v1/orders/{order}", f"/api/v1/inventory/product/{product}"
    await _is_told_once(api, customer, order_path, is_public=False)
    await _is_told_once(api, customer, stock_path, is_public=True)
    before = {path: (await api.get(path, token=customer.token)).headers["ETag"] for path in (order_path, stock_path)}
    await api.post(f"{order_path}/notes", {"text": "Rings twice", "isPublic": True}, token=admin.token)
    await api.post("/api/v1/inventory/add-stock", {"productId": product, "quantity": 1}, token=admin.token)
    for path, tag in before.items():
        seen = await api.get(path, token=customer.token, headers={"If-None-Match": tag})
        assert (path, seen.status, seen.headers["ETag"] != tag) == (path, 200, True)


async def _is_told_once(api: Client, who: Person, path: str, *, is_public: bool) -> None:
    first = await api.get(path, token=who.token)
    tag = first.headers["ETag"]
    assert tag.startswith('"'), "a strong one"
    assert first.headers["Cache-Control"] == ("no-cache" if is_public else "no-store")
    for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = await api.get(path, token=who.token, headers={"If-None-Match": known})
        assert (again.status, again.body, again.headers["ETag"]) == (304, "", tag)
    two_lines = [("If-None-Match", '"other"'), ("If-None-Match", tag)]
    assert (await _with_lines(api, "GET", path, who, two_lines))[0] == 304
    unlike = await api.get(path, token=who.token, headers={"If-None-Match": STALE})
    assert (unlike.status, unlike.body) == (200, first.body)


async def _with_lines(
    api: Client, method: str, path: str, who: Person, lines: list[tuple[str, str]]
) -> tuple[int, str]:
    headers = [("Authorization", f"Bearer {who.token}"), *lines]
    async with api._session.request(method, api.url + path, headers=headers) as reply:
        return reply.status, await reply.text()


@each_kind
async def test_what_has_changed_since_is_left_alone(api: Client, kind: Kind) -> None:
    admin = await api.person("admin")
    path = await kind.made(api, admin)
    seen = await kind.tag(api, admin, path)
    assert (await kind.changed(api, admin, path, "First", seen))[0] == 200
    status, refused = await kind.changed(api, admin, path, "Second", seen)
    assert (status, refused.body["code"]) == (412, "PRECONDITION_FAILED")
    assert "Read it again" in refused.body["detail"]
    assert "First" in str((await api.get(path, token=admin.token)).body)
    asked = [("DELETE", path), *(("PATCH", f"{path}/{act}") for act in kind.acts)]
    for method, where in asked:
        reply = await api.ask(method, where, token=admin.token, headers={"If-Match": seen})
        assert (where, reply.status) == (where, 412)
    for _, where in asked[1:]:
        tag = await kind.tag(api, admin, path)
        reply = await api.ask("PATCH", where, token=admin.token, headers={"If-Match": f"{STALE}, {tag}"})
        assert (reply.status, reply.headers["ETag"]) == (200, await kind.tag(api, admin, path))
    gone = {"If-Match": await kind.tag(api, admin, path)}
    assert (await api.ask("DELETE", path, token=admin.token, headers=gone)).status == 204


@each_kind
async def test_a_condition_is_read_as_the_standard_has_it(api: Client, kind: Kind) -> None:
    admin = await api.person("admin")
    path = await kind.made(api, admin)
    tag = await kind.tag(api, admin, path)
    for weak in (f"W/{tag}", f"W/{tag}, {STALE}"):
        assert (await kind.changed(api, admin, path, "Weak", weak))[0] == 412
    for broken in ("", tag.strip('"'), f"{tag}, x", f"*, {tag}", f"{tag} {tag}", 'w/"x"', '"'):
        status, reply = await kind.changed(api, admin, path, "Broken", broken)
        assert (broken, status, reply.body["code"]) == (broken, 400, "MALFORMED_REQUEST")
    assert await kind.tag(api, admin, path) == tag
    assert (await kind.changed(api, admin, path, "Listed", f" ,{STALE} ,, {tag},"))[0] == 200
    assert (await kind.changed(api, admin, path, "Anyhow", "*"))[0] == 200
    nothing = f"{kind.path}/{uuid4()}"
    for condition in ("*", STALE):
        status, reply = await kind.changed(api, admin, nothing, "Nothing", condition)
        assert (status, reply.body["code"].endswith("_NOT_FOUND")) == (404, True)


@each_kind
async def test_of_two_writers_who_have_seen_the_same_one_wins(api: Client, kind: Kind) -> None:
    admin = await api.person("admin")
    path = await kind.made(api, admin)
    seen, thing = await kind.tag(api, admin, path), path.rpartition("/")[2]
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"

    async def both_wait() -> bool:
        async with api.database.connection() as tx:
            return bool(await tx.fetchval(waiting) == 2)

    async with api.database.transaction() as tx:
        await tx.execute(f"SELECT 1 FROM {kind.table} WHERE id = '{thing}' FOR UPDATE")
        writers = asyncio.gather(*(kind.changed(api, admin, path, name, seen) for name in ("Ana", "Eva")))
        await until(both_wait)
    answers: list[tuple[int, Any]] = await writers
    assert sorted(status for status, _ in answers) == [200, 412]
    winner = "Ana" if answers[0][0] == 200 else "Eva"
    assert winner in str((await api.get(path, token=admin.token)).body)


@each_kind
async def test_changes_that_begin_in_one_microsecond_do_not_look_alike(api: Client, kind: Kind) -> None:
    admin = await api.person("admin")
    path = await kind.made(api, admin)
    thing = path.rpartition("/")[2]
    # As if all that comes had begun before the last change: no clock tells it from that one.
    async with api.database.transaction() as tx:
        await tx.execute(f"UPDATE {kind.table} SET updated_at = now() + interval '1 hour' WHERE id = '{thing}'")
    seen = [await api.get(path, token=admin.token)]
    seen += [(await kind.changed(api, admin, path, name, None))[1] for name in ("Ana", "Eva", "Ana", "Eva")]
    seen += [await api.ask("PATCH", f"{path}/{act}", token=admin.token) for act in kind.acts * 2]
    times = [reply.body["updatedAt"] for reply in seen]
    assert sorted(set(times)) == times, "each is later than the one before"
    assert len({reply.headers["ETag"] for reply in seen}) == len(seen)


async def test_what_no_reader_is_shown_can_not_be_guessed_from_a_tag_but_is_guarded_by_it(api: Client) -> None:
    admin = await api.person("admin")
    product = await api.product(admin, costPrice=700)
    path = f"/api/v1/products/{product['id']}"
    kind = KINDS["products"]
    seen = await kind.tag(api, admin, path)
    patch: Callable[[int], Awaitable[Any]] = lambda cost: api.ask(  # noqa: E731 - twice the same
        "PATCH", path, token=admin.token, json={"costPrice": cost}, headers={"If-Match": seen}
    )
    assert [(await patch(cost)).status for cost in (800, 900)] == [200, 412]
    tag = (await api.get(path)).headers["ETag"]
    async with api.database.transaction() as tx:
        await tx.execute("UPDATE products SET cost_price = 1")
    assert (await api.get(path)).headers["ETag"] == tag, "made of what everybody is shown"


async def test_the_document_tells_of_conditions(api: Client) -> None:
    paths = (await api.get("/api/openapi.json")).body["paths"]
    conditions = {
        (method.upper(), path): {one["name"] for one in operation.get("parameters", ()) if one["in"] == "header"}
        for path, operations in paths.items()
        for method, operation in operations.items()
    }
    reads = {key for key, names in conditions.items() if "If-None-Match" in names}
    writes = {key for key, names in conditions.items() if "If-Match" in names}
    whole = {"product": "products", "category": "categories", "user": "users", "webhook": "webhooks", "order": "orders"}
    ones = {f"/api/v1/{many}/{{{one}_id}}" for one, many in whole.items()}
    more = {"/api/v1/categories/slug/{slug}", "/api/v1/inventory/product/{product_id}"}
    more |= {"/api/v1/products", "/api/v1/products/search", "/api/v1/orders/{order_id}/status"}
    assert reads == {("GET", path) for path in ones | more}
    changed = {key for key in conditions if key[0] in {"PATCH", "PUT", "DELETE"} and "/orders/" not in key[1]}
    assert writes == {key for key in changed if "/inventory/" not in key[1]}
    for method, path in reads:
        responses = paths[path][method.lower()]["responses"]
        assert "304" in responses
        assert "ETag" in responses["200"]["headers"]
    for method, path in writes:
        assert "PRECONDITION_FAILED" in paths[path][method.lower()]["responses"]["412"]["description"]
