"""Who gets into the console, and how far: every route for every role; forms, origins, cookies, headers."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import aiohttp
import pytest
from yarl import URL

from api_client import PASSWORD, Client, running_api
from comanda.accounts.accounts import Role
from comanda.console.app import ACTORS, ADMINS, ANYBODY, READERS, ROUTES, Page
from comanda.console.ask import COOKIE, csrf_of

STAFF: tuple[Role, ...] = ("admin", "operator", "viewer")


@dataclass
class Browser:
    """Follows nothing, keeps cookies, sends an origin as browsers do."""

    session: aiohttp.ClientSession
    url: str

    @property
    def token(self) -> str:
        return self.session.cookie_jar.filter_cookies(URL(f"{self.url}/admin"))[COOKIE].value

    async def get(self, path: str, **headers: str) -> "Seen":
        async with self.session.get(self.url + path, allow_redirects=False, headers=headers) as response:
            return Seen(response.status, await response.text(), response.headers)

    async def post(self, path: str, fields: dict[str, str] | None = None, **headers: str) -> "Seen":
        sent = {"csrf": csrf_of(self.token)} if COOKIE in self._cookies() else {}
        return await self.post_raw(path, {**sent, **(fields or {})}, **{"Origin": self.url, **headers})

    async def post_raw(self, path: str, fields: Any, **headers: str) -> "Seen":
        async with self.session.post(self.url + path, data=fields, allow_redirects=False, headers=headers) as response:
            return Seen(response.status, await response.text(), response.headers)

    async def sign_in(self, email: str, password: str = PASSWORD) -> "Seen":
        return await self.post("/admin/login", {"email": email, "password": password})

    def _cookies(self) -> Any:
        return self.session.cookie_jar.filter_cookies(URL(f"{self.url}/admin"))


@dataclass(frozen=True)
class Seen:
    status: int
    text: str
    headers: Any


@asynccontextmanager
async def browser(api: Client, role: Role | None = None) -> AsyncIterator[Browser]:
    """Somebody in front of the console, signed in with a role."""
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
        one = Browser(session, api.url)
        if role is not None:
            answer = await one.sign_in((await api.person(role)).email)
            assert answer.status == 303, answer
        yield one


def _path(page: Page) -> str:
    path = page.path.replace("{language}", "en").replace("{queue}", "order-processing").replace("{switch}", "pause")
    path = (
        path.replace("{move}", "stop")
        .replace("{kind}", "no_such")
        .replace("{verb}", "retry")
        .replace("{name}", "console.css")
        .replace("{key:path}", "no such")
    )
    for name in ("order_id", "saga_id", "webhook_id", "delivery_id", "bulk_id", "letter_id", "product_id"):
        path = path.replace(f"{{{name}}}", str(uuid4()))
    return path.replace("{fingerprint}", "abc")


async def test_every_route_is_closed_to_strangers(api: Client) -> None:
    await api.person("admin")
    async with browser(api) as stranger:
        for page in ROUTES:
            seen = await (stranger.get if page.method == "GET" else stranger.post)(_path(page))
            if page.roles is ANYBODY:
                assert seen.status in {200, 303, 401}, page
            else:
                assert (seen.status, seen.headers["Location"]) == (303, "/admin/login"), page


@pytest.mark.parametrize("role", STAFF)
async def test_each_role_gets_as_far_as_its_route_says(api: Client, role: Role) -> None:
    for page in ROUTES:
        if page.path in {"/admin/live", "/admin/login", "/admin/logout"}:
            continue
        async with browser(api, role) as one:
            seen = await (one.get if page.method == "GET" else one.post)(_path(page))
            if page.roles is ANYBODY or role in page.roles:
                assert seen.status in {200, 303, 404, 422}, (page, seen)
            else:
                assert seen.status == 403, (page, seen)


def test_a_viewer_changes_nothing() -> None:
    changing = [page for page in ROUTES if page.method == "POST" and "log" not in page.path]
    assert changing
    assert all(page.acts and "viewer" not in page.roles for page in changing)
    assert {tuple(page.roles) for page in ROUTES} == {tuple(one) for one in (ANYBODY, READERS, ACTORS, ADMINS)}


async def test_a_customer_and_a_wrong_password_are_told_the_same(api: Client) -> None:
    customer, admin = await api.person("customer"), await api.person("admin")
    async with browser(api) as one:
        as_customer = await one.sign_in(customer.email)
        as_thief = await one.sign_in(admin.email, "a wrong password")
        as_nobody = await one.sign_in("nobody@example.com")
    assert {as_customer.status, as_thief.status, as_nobody.status} == {401}
    assert as_customer.text.replace(customer.email, "") == as_thief.text.replace(admin.email, "")


async def test_guesses_are_slowed_down(database_url: str, redis_url: str) -> None:
    async with running_api(database_url, redis_url) as api, browser(api) as thief:
        admin = await api.person("admin")
        statuses = [(await thief.sign_in(admin.email, f"guess {number}")).status for number in range(12)]
    assert statuses[0] == 401
    assert statuses[-1] == 429


async def test_the_cookie_is_out_of_reach_and_worth_nothing_after_signing_out(api: Client) -> None:
    async with browser(api) as one:
        seen = await one.sign_in((await api.person("viewer")).email)
        cookie = seen.headers["Set-Cookie"]
        assert {"HttpOnly", "SameSite=strict", "Path=/admin"} <= {part.strip() for part in cookie.split(";")}
        token = one.token
        assert (await one.get("/admin")).status == 200
        async with api.database.connection() as tx:
            stored = await tx.fetchval("SELECT encode(token_hash, 'escape') FROM console_sessions")
        assert token not in stored
        await one.post("/admin/logout")
        one.session.cookie_jar.update_cookies({COOKIE: token}, URL(f"{api.url}/admin"))
        assert (await one.get("/admin")).headers["Location"] == "/admin/login"


async def test_who_is_demoted_or_switched_off_is_out_at_once(api: Client) -> None:
    async with browser(api, "operator") as one:
        for change in ("role = 'customer'", "role = 'operator', is_active = false"):
            assert (await one.get("/admin")).status == 200
            async with api.database.transaction() as tx:
                await tx.execute(f"UPDATE accounts SET {change} WHERE role = 'operator'")
            assert (await one.get("/admin")).status in {303, 404}
            async with api.database.transaction() as tx:
                await tx.execute("UPDATE accounts SET role = 'operator', is_active = true")


async def test_a_changed_password_ends_every_session_of_the_console(api: Client) -> None:
    person = await api.person("operator")
    async with browser(api) as one:
        assert (await one.sign_in(person.email)).status == 303
        assert (await one.get("/admin")).status == 200
        change = {"currentPassword": PASSWORD, "newPassword": "quite another horse"}
        assert (await api.post("/api/v1/auth/change-password", change, token=person.token)).status == 200
        assert (await one.get("/admin")).status == 303
        assert (await one.sign_in(person.email)).status == 401
        assert (await one.sign_in(person.email, "quite another horse")).status == 303


async def test_an_expired_session_is_over(api: Client) -> None:
    async with browser(api, "viewer") as one:
        async with api.database.transaction() as tx:
            await tx.execute("UPDATE console_sessions SET expires_at = now()")
        assert (await one.get("/admin")).status == 303


async def test_bytes_that_no_text_has_are_no_fault_of_ours(api: Client) -> None:
    async with browser(api, "admin") as one:
        for page in ROUTES:
            if page.method == "GET" and page.path != "/admin/live":
                path = re.sub(r"\{[^}]*\}", "a%00b", page.path)
                seen = await one.get(f"{path}?q=a%00b&product=%00&error=%00x&sku=%00&subject=%00&state=%00&role=%00")
                assert seen.status < 500, (path, seen.text)
        path, csrf = "/admin/queues/order-processing/pause", csrf_of(one.token)
        long = {"reason": "x" * 501, "csrf": csrf}
        assert (await one.post_raw(path, long, Origin=api.url)).status == 422
        torn = f"reason=%ff&csrf={csrf}".encode()
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        assert (await one.post_raw(path, torn, Origin=api.url, **form)).status == 422
        async with api.database.connection() as tx:
            assert not await tx.fetchval("SELECT bool_or(is_paused) FROM queues")


async def test_a_form_from_elsewhere_or_without_its_token_does_nothing(api: Client) -> None:
    path = "/admin/queues/order-processing/pause"
    async with browser(api, "operator") as one:
        fields = {"reason": "test", "csrf": csrf_of(one.token)}
        assert (await one.post_raw(path, fields, Origin="https://evil.example")).status == 403
        assert (await one.post_raw(path, fields, Origin="null")).status == 403
        assert (await one.post_raw(path, fields)).status == 403
        assert (await one.post_raw(path, {"reason": "test"}, Origin=api.url)).status == 403
        assert (await one.post_raw(path, {**fields, "csrf": csrf_of("x")}, Origin=api.url)).status == 403
        json = await one.post_raw(path, b"{}", Origin=api.url, **{"Content-Type": "application/json"})
        assert json.status == 415
        async with api.database.connection() as tx:
            assert not await tx.fetchval("SELECT bool_or(is_paused) FROM queues")
        assert (await one.post_raw(path, fields, Origin=api.url)).status == 303
        async with api.database.connection() as tx:
            assert await tx.fetchval("SELECT bool_or(is_paused) FROM queues")


async def test_signing_in_from_elsewhere_does_nothing(api: Client) -> None:
    admin = await api.person("admin")
    async with browser(api) as one:
        fields = {"email": admin.email, "password": PASSWORD}
        seen = await one.post_raw("/admin/login", fields, Origin="https://evil.example")
        assert (seen.status, "Set-Cookie" in seen.headers) == (403, False)


async def test_every_page_guards_itself(api: Client) -> None:
    async with browser(api, "admin") as one:
        for page in ROUTES:
            if page.method == "GET" and page.path not in {"/admin/live", "/admin/static/{name}"}:
                seen = await one.get(_path(page))
                policy = seen.headers.getall("Content-Security-Policy")
                assert len(policy) == 1
                assert "default-src 'self'" in policy[0]
                assert "frame-ancestors 'none'" in policy[0]
                assert "unsafe" not in policy[0]
                assert seen.headers.getall("Cache-Control") == ["no-store"]
                assert "<script>" not in seen.text
                assert " style=" not in seen.text
                assert "http://" not in seen.text.replace(api.url, "").replace("http://www.w3.org", "")


async def test_read_only_nobody_acts_and_switched_off_it_is_not_there(database_url: str, redis_url: str) -> None:
    async with running_api(database_url, redis_url, console="read-only") as api, browser(api, "admin") as one:
        for page in ROUTES:
            if page.acts:
                assert (await (one.get if page.method == "GET" else one.post)(_path(page))).status == 403, page
        assert "read-only" in (await one.get("/admin")).text
    async with running_api(database_url, redis_url, console="off") as api:
        assert (await api.get("/admin")).status == 404


async def test_where_nobody_could_sign_in_there_is_no_console(api: Client) -> None:
    await api.person("customer")
    async with browser(api) as one:
        assert (await one.get("/admin/login")).status == 404
        await api.person("viewer")
        assert (await one.get("/admin/login")).status == 200


async def test_no_route_of_the_console_stands_in_the_document(api: Client) -> None:
    paths = (await api.get("/api/openapi.json")).body["paths"]
    assert not [path for path in paths if path.startswith("/admin")]


async def test_it_speaks_what_is_asked_for(api: Client) -> None:
    await api.person("admin")
    async with browser(api) as one:
        spanish = await one.get("/admin/login", **{"Accept-Language": "es-MX,es;q=0.9,en;q=0.5"})
        assert "Contraseña" in spanish.text
        assert spanish.headers["Content-Language"] == "es"
        assert "Password" in (await one.get("/admin/login", **{"Accept-Language": "de"})).text
        moved = await one.get("/admin/language/es?back=/admin/login")
        assert moved.headers["Location"] == "/admin/login"
        assert "Contraseña" in (await one.get("/admin/login")).text
        assert (await one.get("/admin/language/es?back=//evil.example")).headers["Location"] == "/admin"
